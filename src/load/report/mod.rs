//! The results of a measurement, and the forms in which they are reported.
//!
//! Every form is made from one [`LoadReport`], so the JSON file, the interval log and the HTML page
//! contain the same figures as the table in the terminal. [`METRICS`] defines each figure: its
//! name, its unit, what is better, and when it is valid. A [`Comparison`] compares reports, and a
//! [`Threshold`] judges one.

mod comparison;
mod comparison_page;
mod comparison_text;
mod distribution;
mod hdr;
mod html;
mod layout;
mod metric;
mod metric_table;
mod model;
mod page_parts;
mod plot;
mod plot_points;
mod quantity;
mod rate_series;
mod step_table;
mod terminal;
mod threshold;

pub use comparison::{ComparedRun, Comparison};
pub use comparison_page::comparison_page;
pub use distribution::{Distribution, Interval};
pub use hdr::interval_log;
pub use html::page;
pub(super) use metric::NOT_CLOSED;
pub use metric::{Better, Combine, Metric, MetricGroup, MetricKind, Need, QUANTILES, Quantile};
pub use metric_table::METRICS;
pub use model::{Figure, LoadReport, ReportError, Series};
pub use quantity::MetricUnit;
pub use rate_series::RateSeries;
pub use step_table::{LoadStep, StepOutcome};
pub use terminal::table;
pub use threshold::{JudgedThreshold, Threshold, ThresholdVerdict};

#[cfg(test)]
mod sample;
