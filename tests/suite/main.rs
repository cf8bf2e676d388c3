//! The tests of the whole: one binary, one file for each topic.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;
mod faults;
mod frames;
#[cfg(target_os = "linux")]
mod relay;
mod socket;
#[allow(dead_code, reason = "each test target uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod verdicts;
mod world;

mod accepting;
mod accounting;
mod admission;
mod amf;
mod auth;
mod charges;
mod chunks;
mod cli;
mod commands;
mod conformance;
mod control;
mod costs;
mod data;
mod enhanced;
mod errands;
mod fairness;
mod fuzz;
mod handshake;
mod hls;
mod hour;
mod http_players;
mod latency;
mod legacy;
mod library;
mod limits;
#[cfg(target_os = "linux")]
mod load_capacity;
#[cfg(target_os = "linux")]
mod load_report;
#[cfg(target_os = "linux")]
mod load_runs;
#[cfg(target_os = "linux")]
mod load_sessions;
#[cfg(target_os = "linux")]
mod load_stream;
#[cfg(target_os = "linux")]
mod load_truth;
mod malformed;
mod manual;
mod memory;
mod openapi;
mod peers;
mod pictures;
#[cfg(target_os = "linux")]
mod process;
mod publisher_return;
mod quirks;
mod reconnect;
mod replay;
#[cfg(target_os = "linux")]
mod segments;
mod simulation;
mod slow_player;
mod stream_costs;
mod streams;
mod supply;
mod tidy;
mod timers;
mod timestamps;
mod web;

use support::{random, wire};
