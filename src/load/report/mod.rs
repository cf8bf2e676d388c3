//! What a measurement found, and the forms in which it is told.
//!
//! Everything is made from one [`LoadReport`]: a file that reads back, a log of histograms and a
//! page for a browser hold the same figures as the table in the terminal. Two of them stand side by
//! side in a [`Comparison`], and a [`Threshold`] says what is not good enough.

mod comparison;
mod distribution;
mod hdr;
mod html;
mod layout;
mod model;
mod plot;
mod plot_points;
mod quantity;
mod terminal;
mod threshold;

pub use comparison::Comparison;
pub use distribution::{Distribution, Interval};
pub use hdr::interval_log;
pub use html::page;
pub use model::{Better, Combine, Figure, LoadReport, ReportError, Series};
pub use terminal::table;
pub use threshold::Threshold;

#[cfg(test)]
mod sample;
