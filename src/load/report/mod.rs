//! The results of a measurement, and the forms in which they are reported.
//!
//! Every form is made from one [`LoadReport`], so the JSON file, the interval log and the HTML page
//! contain the same figures as the table in the terminal. A [`Comparison`] compares two reports,
//! and a [`Threshold`] judges a report.

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
