//! The load generator: measures any RTMP server and reports the results.
//!
//! Owns the scenarios, the measurements and the reports. The load generator never uses the server
//! of this project: the server under test is always another process.
//!
//! - [`engine`] is the loop of every run, and [`engine::Scenario`] the interface of a scenario.
//! - [`connection`] is one connection, and [`wire`] the protocol it speaks.
//! - [`target`] is the address and stream that the load goes to, and [`http_flv`] that of players
//!   over HTTP.
//! - `chores` is the second thread, for work that must not delay the loop.
//! - [`measured`] watches the generator itself, `run_queue` its waits for a core, and `own_delay`
//!   decides which figures are reliable.
//! - [`idle`], [`churn`] and [`streams`] are the scenarios.
//! - `failures` judges how much of the load failed.
//! - [`subcommand`] lists the commands, and [`options`] the flags they share.
//! - [`measurement`] holds the steps before and after each run.
//! - [`processes`] shares the work between several processes.
//! - [`report`] holds the results and every form in which they are written, and [`statistics`] what
//!   repeated runs tell.

pub mod alarm;
mod assembler;
mod backlog;
mod chores;
pub mod churn;
pub mod compare;
pub mod connection;
mod connection_log;
pub mod encoder;
pub mod engine;
mod failures;
pub mod floor;
pub mod footprint;
pub mod help;
pub mod http_flv;
pub mod idle;
pub mod kernel;
mod load_error;
pub mod machine;
pub mod manifest;
pub mod measured;
pub mod measurement;
mod observer;
pub mod options;
mod own_delay;
pub mod pace;
pub mod play;
mod playback;
pub mod process;
pub mod processes;
pub mod publish;
pub mod report;
mod run_queue;
pub mod scout;
mod server_socket;
pub mod sessions;
mod source;
pub mod statistics;
pub mod streams;
pub mod subcommand;
pub mod target;
mod wake;
pub mod wire;

pub use load_error::LoadError;
