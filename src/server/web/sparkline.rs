//! A small plot of bitrates, as SVG within the page.
//!
//! Owns the geometry. Colours are those of the style sheet, since the policy of the page allows no
//! styles within it.

use crate::stream::bitrate_history::SAMPLES_MAX;
use maud::{Markup, html};
use std::fmt::Write;

/// Width of a sample, and height of the plot.
const STEP: usize = 2;
const HEIGHT: u64 = 48;

/// Plots bitrates (bit/s), the newest at the right edge.
pub(super) fn plot(bitrates: &[u64]) -> Markup {
    let highest = bitrates.iter().copied().max().unwrap_or_default().max(1);
    let left = SAMPLES_MAX.saturating_sub(bitrates.len()) * STEP;
    let mut line = String::new();
    for (index, bitrate) in bitrates.iter().enumerate() {
        // The highest sample leaves room for the width of the line.
        let y = HEIGHT - 1 - bitrate * (HEIGHT - 2) / highest;
        // Writing to a string cannot fail.
        let _ = write!(line, "{},{y} ", left + index * STEP);
    }
    let right = left + bitrates.len().saturating_sub(1) * STEP;
    let area = format!("{left},{HEIGHT} {line}{right},{HEIGHT}");
    let newest = bitrates.last().copied().unwrap_or_default();
    let label = format!(
        "Bitrate of the last five minutes: {} now, {} at most",
        bits_per_second(newest),
        bits_per_second(highest)
    );
    html! {
        figure {
            svg viewBox={ "0 0 " (SAMPLES_MAX * STEP) " " (HEIGHT) } preserveAspectRatio="none"
                role="img" aria-label=(label) {
                polygon points=(area) {}
                polyline points=(line.trim_end()) {}
            }
            figcaption {
                (bits_per_second(newest)) " now, " (bits_per_second(highest))
                " at most in five minutes"
            }
        }
    }
}

/// Returns a bitrate as people read it.
pub(super) fn bits_per_second(bits: u64) -> String {
    match bits {
        0..1_000_000 => format!("{} kbit/s", bits / 1000),
        _ => format!("{:.1} Mbit/s", bits as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_sample_is_at_the_right_edge_and_the_highest_at_the_top() {
        let markup = plot(&[0, 2_500_000, 500_000]).into_string();
        assert!(markup.contains("viewBox=\"0 0 300 48\""), "{markup}");
        assert!(markup.contains("<polyline points=\"294,47 296,1 298,38\">"), "{markup}");
        assert!(markup.contains("500 kbit/s now, 2.5 Mbit/s at most"), "{markup}");
    }

    #[test]
    fn a_stream_that_has_just_begun_has_an_empty_plot() {
        assert!(plot(&[]).into_string().contains("<polyline points=\"\">"));
    }
}
