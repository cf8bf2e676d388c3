//! Formats the numbers of a report for people: digits and unit.
//!
//! Owns the mapping from a name or unit to a format. A time keeps the unit of its name, so the
//! number shown can be used in a threshold. Bytes, bits and shares are scaled for readability.

/// Unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantity {
    unit: Unit,
    is_rate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// No unit; the name says what is counted.
    Count,
    /// Shown with this unit, unscaled.
    Named(&'static str),
    /// Scaled by powers of 1000, with the symbol of the base unit.
    Scaled(&'static str),
    /// A share of one, shown in percent.
    Share,
}

/// Suffixes that come after the unit in a name.
const CHOICES: [&str; 4] = ["max", "min", "mean", "total"];

impl Quantity {
    /// Returns the unit of a figure from its name, such as `resident_bytes_per_session` or
    /// `connect_rate_per_s`. The part after `_per_` matters only if it is seconds.
    pub(super) fn of_figure(name: &str) -> Self {
        let (counted, per) = name.split_once("_per_").unwrap_or((name, ""));
        let mut words = counted.rsplit('_');
        Self::of(words.find(|word| !CHOICES.contains(word)).unwrap_or_default(), per)
    }

    /// Returns the unit of a series: `bytes`, `percent`, `per s`, `bit/s`.
    pub(super) fn of_series(unit: &str) -> Self {
        let (counted, per) = unit
            .split_once('/')
            .or_else(|| unit.split_once(" per "))
            .or_else(|| unit.strip_prefix("per ").map(|per| ("", per)))
            .unwrap_or((unit, ""));
        Self::of(counted, per)
    }

    fn of(unit: &str, per: &str) -> Self {
        let unit = match unit {
            "ns" => Unit::Named("ns"),
            "us" => Unit::Named("us"),
            "ms" => Unit::Named("ms"),
            "s" => Unit::Named("s"),
            "kb" => Unit::Named("kB"),
            "mb" => Unit::Named("MB"),
            "gb" => Unit::Named("GB"),
            "kbit" => Unit::Named("kbit"),
            "mbit" => Unit::Named("Mbit"),
            "percent" => Unit::Named("%"),
            "share" => Unit::Share,
            "byte" | "bytes" => Unit::Scaled("B"),
            "bit" | "bits" => Unit::Scaled("bit"),
            _ => Unit::Count,
        };
        Self { unit, is_rate: per.rsplit('_').next() == Some("s") }
    }

    /// Formats a number with its unit.
    pub(super) fn text(self, value: f64) -> String {
        let (number, unit) = match self.unit {
            Unit::Count => (number(value), String::new()),
            Unit::Named(unit) => (number(value), format!(" {unit}")),
            Unit::Share => (number(value * 100.0), " %".to_owned()),
            Unit::Scaled(one) => {
                let (value, prefix) = scaled(value);
                (number(value), format!(" {prefix}{one}"))
            }
        };
        number + &unit + if self.is_rate { "/s" } else { "" }
    }
}

/// Scales a number by powers of 1000. Returns the result and the prefix.
fn scaled(value: f64) -> (f64, &'static str) {
    let steps = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let step = steps.into_iter().find(|(step, _)| value.abs() >= *step);
    step.map_or((value, ""), |(step, prefix)| (value / step, prefix))
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
    fn the_name_of_a_figure_decides_the_format_of_its_number() {
        for (name, value, expected) in [
            ("sessions_held", 10_000.0, "10,000"),
            ("latency_p99_ms", 0.6789, "0.6789 ms"),
            ("accept_cpu_us", 73.42, "73.42 us"),
            ("cpu_s_per_gb", 0.47, "0.47 s"),
            ("resident_bytes_per_session", 482.3, "482.3 B"),
            ("resident_bytes", 16_616_000.0, "16.62 MB"),
            ("delivered_bytes_per_s", 1.25e9, "1.25 GB/s"),
            ("bitrate_bits_per_s", 4e6, "4 Mbit/s"),
            ("connect_rate_per_s", 1234.56, "1,235/s"),
            ("generator_cpu_share", 0.12345, "12.35 %"),
            ("server_cpu_percent", 0.0, "0 %"),
            ("wakeups_per_s", 0.125, "0.125/s"),
            ("delivered_gb", 1.5, "1.5 GB"),
            ("waiting_bytes_max", 2048.0, "2.048 kB"),
            ("wakeups_per_session_per_s", 0.5, "0.5/s"),
            ("bytes", 999.0, "999 B"),
            ("", 1.0, "1"),
        ] {
            assert_eq!(Quantity::of_figure(name).text(value), expected, "{name}");
        }
    }

    #[test]
    fn the_unit_of_a_series_decides_the_format_of_its_numbers() {
        for (unit, value, expected) in [
            ("bytes", 5.5e6, "5.5 MB"),
            ("percent", 12.0, "12 %"),
            ("per s", 3.5, "3.5/s"),
            ("sessions", 1000.0, "1,000"),
            ("sessions per s", 7.0, "7/s"),
            ("bit/s", 4e6, "4 Mbit/s"),
        ] {
            assert_eq!(Quantity::of_series(unit).text(value), expected, "{unit}");
        }
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
