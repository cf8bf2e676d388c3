//! What a measurement found, and the forms in which it is told.
//!
//! Everything is made from one [`Report`]: a file that reads back and a page for a browser hold the
//! same figures as the table in the terminal.

mod distribution;
mod model;

pub use distribution::{Distribution, Interval};
pub use model::{Better, Combine, Figure, Report, ReportError, Series};
