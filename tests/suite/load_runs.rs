//! Runs of the load generator and their reports, judged alike wherever one is made.

use std::process::Output;

use tiderace::load::report::LoadReport;

/// However late the generator is on a machine that has much else to do, it does not call its own
/// figures into doubt: what is counted is right all the same.
pub(crate) const NEVER_LATE: [&str; 2] = ["--lateness-max-ms", "600000"];
/// The exit code of a generator that has not kept up.
const LAGGED: i32 = 14;

/// The report of a measurement that took place. A build without optimization may need most of a
/// core; no other reason not to have kept up is let pass.
#[track_caller]
pub(crate) fn report(output: &Output) -> LoadReport {
    let errors = String::from_utf8_lossy(&output.stderr);
    let report = LoadReport::from_json(str::from_utf8(&output.stdout).unwrap());
    let report = report.unwrap_or_else(|error| panic!("{error}: {errors}"));
    let took_a_core = report.lagged.as_deref().is_some_and(|why| why.contains("of a core, more"));
    let expected = if took_a_core { LAGGED } else { 0 };
    assert_eq!(output.status.code(), Some(expected), "{errors}");
    assert_eq!(errors.is_empty(), !took_a_core, "{errors}");
    report
}
