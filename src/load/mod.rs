//! The load generator: measures any RTMP server, and says what it found.
//!
//! Owns what a measurement is made of and how it is told. It never uses the server of this
//! project: what is measured is always another process.
//!
//! [`engine`] is the loop that everything runs in, and [`engine::Scenario`] what is asked of a
//! measurement; [`connection`] is one connection and [`wire`] what is spoken over it; [`target`]
//! says where all that goes; [`measured`] says whether the generator itself kept up.
//!
//! [`idle`], [`churn`] and [`streams`] are the scenarios. [`subcommand`] is what can be asked for,
//! [`options`] what every measurement can be told, and [`measurement`] what each does before and
//! after its run; [`processes`] lets several processes share the work. [`report`] is what was found
//! and how it is told.

pub mod alarm;
pub mod churn;
pub mod compare;
pub mod connection;
pub mod encoder;
pub mod engine;
pub mod floor;
pub mod footprint;
pub mod help;
pub mod idle;
pub mod kernel;
mod load_error;
pub mod manifest;
pub mod measured;
pub mod measurement;
mod observer;
pub mod options;
pub mod play;
pub mod process;
pub mod processes;
pub mod publish;
pub mod report;
pub mod scout;
pub mod sessions;
mod source;
pub mod streams;
pub mod subcommand;
pub mod target;
mod wake;
mod way;
pub mod wire;

pub use load_error::LoadError;
