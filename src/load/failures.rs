//! Judges how much of the load failed.
//!
//! Owns the sentence about failures and the bound on them. Sessions that fail have no times, so
//! percentiles are those of the others. A report that does not say so flatters the server. The
//! scenarios count the failures.

use super::report::LoadReport;

/// Judges that `failed` of `all` connections called `what` have failed. Any failure is a doubt. If
/// the share is above `share_max`, the server failed the load.
pub(super) fn judge(report: &mut LoadReport, what: &str, failed: f64, all: f64, share_max: f64) {
    if failed == 0.0 {
        return;
    }
    let share = failed / all;
    let line = format!("{failed} of {all} {what} failed ({:.1} %)", 100.0 * share);
    report.add_doubt(format!("{line}: times are those of the others"));
    if share > share_max {
        let bound = 100.0 * share_max;
        let line = format!("{line}, more than the {bound} % of --failed-max-share");
        report.failed.get_or_insert(line);
    }
}

/// Judges the sessions of a report by its figures.
pub(super) fn judge_sessions(report: &mut LoadReport, share_max: f64) {
    let figure = |name| report.figure(name).and_then(|figure| figure.value);
    if let (Some(failed), Some(all)) = (figure("sessions_failed"), figure("sessions_opened")) {
        judge(report, "sessions", failed, all, share_max);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::load::manifest::Manifest;

    fn judged(failed: f64) -> LoadReport {
        let mut report = LoadReport::new("churn", Manifest::new("h", BTreeMap::new()));
        judge(&mut report, "sessions", failed, 1000.0, 0.01);
        report
    }

    #[test]
    fn failures_are_a_doubt_and_too_many_fail_the_load() {
        let none = judged(0.0);
        assert_eq!((none.doubts.len(), none.failed), (0, None));
        let few = judged(10.0);
        let doubt = "10 of 1000 sessions failed (1.0 %): times are those of the others";
        assert_eq!((few.doubts, few.failed), (vec![doubt.to_owned()], None));
        let many = judged(11.0);
        let expected =
            "11 of 1000 sessions failed (1.1 %), more than the 1 % of --failed-max-share";
        assert_eq!((many.doubts.len(), many.failed.as_deref()), (1, Some(expected)));
    }
}
