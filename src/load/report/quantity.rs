//! The units of a report, and numbers as text: digits and unit.
//!
//! Owns how a number is printed, and which units a threshold may be written with. A time keeps the
//! unit of its name, so the number shown can be used in a threshold. Bytes, bits and shares are
//! scaled for readability.

use serde::{Deserialize, Serialize};

/// Unit of a metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum MetricUnit {
    /// No unit; the name says what is counted.
    #[default]
    Count,
    /// Events per second.
    PerS,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Seconds.
    S,
    /// Seconds per 10^9 bytes.
    SPerGb,
    /// Bytes.
    Bytes,
    /// Bits per second.
    BitPerS,
    /// A part of one, shown in percent.
    Share,
    /// Hundredths of one core.
    Percent,
}

/// Names in reports, and symbols behind numbers.
const UNITS: [(MetricUnit, &str, &str); 10] = [
    (MetricUnit::Count, "count", ""),
    (MetricUnit::PerS, "per s", "/s"),
    (MetricUnit::Us, "us", " us"),
    (MetricUnit::Ms, "ms", " ms"),
    (MetricUnit::S, "s", " s"),
    (MetricUnit::SPerGb, "s/GB", " s/GB"),
    (MetricUnit::Bytes, "bytes", "B"),
    (MetricUnit::BitPerS, "bit/s", "bit/s"),
    (MetricUnit::Share, "share", " %"),
    (MetricUnit::Percent, "percent", " %"),
];

/// Prefixes of units that are scaled, the largest first.
const PREFIXES: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];

impl MetricUnit {
    /// Returns the name in reports, such as `bytes` or `per s`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    fn symbol(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> &'static (Self, &'static str, &'static str) {
        UNITS.iter().find(|(unit, _, _)| *unit == self).unwrap_or(&UNITS[0])
    }

    const fn is_scaled(self) -> bool {
        matches!(self, Self::Bytes | Self::BitPerS)
    }

    /// Returns whether each value of a series is the mean since the value before it. The other
    /// units are those of states at one moment.
    pub(super) const fn is_rate(self) -> bool {
        matches!(self, Self::PerS | Self::BitPerS | Self::Percent)
    }

    /// Formats a number with its unit.
    pub(super) fn text(self, value: f64) -> String {
        let symbol = self.symbol();
        if self == Self::Share {
            return number(value * 100.0) + symbol;
        }
        if !self.is_scaled() {
            return number(value) + symbol;
        }
        let prefix = PREFIXES.into_iter().find(|(scale, _)| value.abs() >= *scale);
        let (scale, prefix) = prefix.unwrap_or((1.0, ""));
        format!("{} {prefix}{symbol}", number(value / scale))
    }

    /// Returns the number by which a value with this `suffix` is multiplied, or `None` if the
    /// suffix is of another unit. A value without a suffix is in the unit itself.
    pub(super) fn factor(self, suffix: &str) -> Option<f64> {
        let (suffix, symbol) = (suffix.trim(), self.symbol().trim());
        if suffix.is_empty() || suffix == symbol {
            let is_percent = self == Self::Share && !suffix.is_empty();
            return Some(if is_percent { 0.01 } else { 1.0 });
        }
        let prefix = suffix.strip_suffix(symbol).filter(|_| self.is_scaled())?.trim();
        PREFIXES.into_iter().find(|(_, known)| *known == prefix).map(|(scale, _)| scale)
    }

    /// Describes the numbers of a threshold, such as "a number in ms".
    pub(super) fn expected(self) -> String {
        match self {
            Self::Count => "a number without a unit".to_owned(),
            Self::PerS => "a number per second".to_owned(),
            Self::Share => "a part of one, such as 0.01, or 1%".to_owned(),
            Self::Bytes => "a number of bytes, such as 4096 or 4kB".to_owned(),
            Self::BitPerS => "a number of bits per second, such as 4000000 or 4Mbit/s".to_owned(),
            unit => format!("a number in {}", unit.symbol().trim()),
        }
    }
}

impl From<MetricUnit> for String {
    fn from(unit: MetricUnit) -> Self {
        unit.name().to_owned()
    }
}

impl From<String> for MetricUnit {
    /// A unit that a later version may have is shown as a plain number.
    fn from(name: String) -> Self {
        let known = UNITS.iter().find(|(_, known, _)| *known == name);
        known.map(|(unit, _, _)| *unit).unwrap_or_default()
    }
}

/// Formats a number with four digits, or a whole number in groups of three digits.
pub(super) fn number(value: f64) -> String {
    const DIGITS: i32 = 4;
    const DECIMALS_MAX: i32 = 9;
    const GROUPED_MAX: f64 = 1e15;
    if value.abs() >= GROUPED_MAX {
        return format!("{value:.3e}");
    }
    if value == value.round() {
        return grouped(&format!("{value:.0}"));
    }
    let magnitude = value.abs().log10().floor() as i32;
    let decimals = (DIGITS - 1 - magnitude).clamp(0, DECIMALS_MAX) as usize;
    let text = format!("{value:.decimals$}");
    match text.split_once('.') {
        Some((whole, decimals)) => {
            let decimals = decimals.trim_end_matches('0');
            let point = if decimals.is_empty() { "" } else { "." };
            format!("{}{point}{decimals}", grouped(whole))
        }
        None => grouped(&text),
    }
}

/// Inserts commas between groups of three digits.
fn grouped(whole: &str) -> String {
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_with_their_unit() {
        for (unit, value, expected) in [
            (MetricUnit::Count, 10_000.0, "10,000"),
            (MetricUnit::Ms, 0.6789, "0.6789 ms"),
            (MetricUnit::Us, 73.42, "73.42 us"),
            (MetricUnit::S, 1.5, "1.5 s"),
            (MetricUnit::SPerGb, 0.47, "0.47 s/GB"),
            (MetricUnit::Bytes, 482.3, "482.3 B"),
            (MetricUnit::Bytes, 16_616_000.0, "16.62 MB"),
            (MetricUnit::BitPerS, 1.25e9, "1.25 Gbit/s"),
            (MetricUnit::PerS, 1234.56, "1,235/s"),
            (MetricUnit::Share, 0.12345, "12.35 %"),
            (MetricUnit::Percent, 0.0, "0 %"),
        ] {
            assert_eq!(unit.text(value), expected, "{unit:?}");
        }
    }

    #[test]
    fn a_threshold_may_have_the_unit_of_its_metric_and_no_other() {
        for (unit, suffix, factor) in [
            (MetricUnit::Ms, "", Some(1.0)),
            (MetricUnit::Ms, "ms", Some(1.0)),
            (MetricUnit::Ms, " ms", Some(1.0)),
            (MetricUnit::Ms, "s", None),
            (MetricUnit::S, "ms", None),
            (MetricUnit::Count, "", Some(1.0)),
            (MetricUnit::Count, "%", None),
            (MetricUnit::Share, "", Some(1.0)),
            (MetricUnit::Share, "%", Some(0.01)),
            (MetricUnit::Percent, "%", Some(1.0)),
            (MetricUnit::Bytes, "kB", Some(1e3)),
            (MetricUnit::Bytes, "B", Some(1.0)),
            (MetricUnit::Bytes, "M", None),
            (MetricUnit::BitPerS, "Mbit/s", Some(1e6)),
            (MetricUnit::BitPerS, "MB", None),
            (MetricUnit::PerS, "/s", Some(1.0)),
            (MetricUnit::SPerGb, "s/GB", Some(1.0)),
        ] {
            assert_eq!(unit.factor(suffix), factor, "{unit:?} {suffix:?}");
        }
    }

    #[test]
    fn a_unit_of_a_later_version_is_read_as_a_plain_number() {
        for (unit, name, _) in UNITS {
            let text = serde_json::to_string(&unit).unwrap();
            assert_eq!(text, format!("{name:?}"));
            assert_eq!(serde_json::from_str::<MetricUnit>(&text).unwrap(), unit);
        }
        assert_eq!(serde_json::from_str::<MetricUnit>("\"furlongs\"").unwrap(), MetricUnit::Count);
    }

    #[test]
    fn numbers_have_four_digits_or_are_whole() {
        for (value, expected) in [
            (0.0, "0"),
            (-1234567.0, "-1,234,567"),
            (123456.7, "123,457"),
            (999.96, "1,000"),
            (0.000123456, "0.0001235"),
            (-0.5, "-0.5"),
            (1e-12, "0"),
            (2.5e15, "2.500e15"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}
