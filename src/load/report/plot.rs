//! Line plots as inline SVG: axes that end at round numbers, lines, and tooltips.
//!
//! Owns geometry only. Colours are classes of the page's style sheet, and the page decides what is
//! plotted. All text is escaped.

use std::fmt::Write;

use super::page_parts::Html;
use super::quantity::number;

/// Size of a plot, in units that the browser scales.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlotSize {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A plot as wide as the page.
pub(super) const WIDE: PlotSize = PlotSize { width: 960.0, height: 340.0 };
/// One of two plots in a row.
pub(super) const HALF: PlotSize = PlotSize { width: 470.0, height: 230.0 };

const LEFT: f64 = 72.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;

/// A plot of lines with common axes.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) size: PlotSize,
    /// Description for readers who cannot see the plot.
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    /// Tooltips: start and end on the x axis, and text.
    pub(super) tips: Vec<(f64, f64, String)>,
}

/// A line, with the CSS class that gives its colour.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) class: &'static str,
    /// Connected pieces, with gaps between them.
    pub(super) pieces: Vec<Vec<(f64, f64)>>,
}

impl Line {
    /// Creates a line that is broken where two points are more than `gap` apart.
    pub(super) fn broken(class: &'static str, points: &[(f64, f64)], gap: f64) -> Self {
        let pieces = points.chunk_by(|(before, _), (next, _)| next - before <= gap);
        Self { class, pieces: pieces.map(<[_]>::to_vec).collect() }
    }
}

/// An axis: its range, scale and tick labels.
#[derive(Debug)]
pub(super) struct Axis {
    pub(super) title: String,
    scale: Scale,
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

impl Axis {
    /// Creates an axis from zero to a round number of at least `max`. Its labels have the unit, so
    /// it has no title.
    pub(super) fn from_zero(max: f64, label: impl Fn(f64) -> String) -> Self {
        const TICKS: f64 = 5.0;
        let max = if max > 0.0 { max } else { 1.0 };
        let step = round_up(max / TICKS);
        let count = (max / step - 1e-9).ceil() as u32;
        let ticks: Vec<_> = (0..=count)
            .map(|index| f64::from(index) * step)
            .map(|value| (value, label(value)))
            .collect();
        Self {
            title: String::new(),
            scale: Scale::Linear,
            low: 0.0,
            high: f64::from(count) * step,
            ticks,
        }
    }

    /// Creates a time axis up to the end of the run.
    pub(super) fn time(end_s: f64) -> Self {
        const STEPS_S: [f64; 14] = [
            1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 7200.0, 21_600.0,
            86_400.0,
        ];
        const TICKS_MAX: f64 = 8.0;
        let end_s = end_s.max(1.0);
        let step = STEPS_S.into_iter().find(|step| end_s / step <= TICKS_MAX);
        let step = step.unwrap_or_else(|| round_up(end_s / TICKS_MAX));
        let (unit, unit_s) = match step {
            3600.0.. => ("h", 3600.0),
            60.0.. => ("min", 60.0),
            _ => ("s", 1.0),
        };
        let count = (end_s / step + 1e-9).floor() as u32;
        let at = (0..=count).map(|index| f64::from(index) * step);
        Self {
            title: format!("time since the start ({unit})"),
            scale: Scale::Linear,
            low: 0.0,
            high: end_s,
            ticks: at.map(|at_s| (at_s, number(at_s / unit_s))).collect(),
        }
    }

    /// Creates a logarithmic axis in milliseconds. It starts at one microsecond or above.
    pub(super) fn milliseconds(low: f64, high: f64) -> Self {
        const LEAST: f64 = 0.001;
        /// Largest number of decades with room for ticks at 1, 2 and 5.
        const FINE_DECADES_MAX: f64 = 2.3;
        let (low, high) = (low.max(LEAST), high.max(LEAST));
        let is_fine = (high / low).log10() <= FINE_DECADES_MAX;
        let factors: &[f64] = if is_fine { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let round: Vec<_> = decades
            .flat_map(|decade| factors.iter().map(move |factor| factor * 10_f64.powi(decade)))
            .collect();
        let below = round.iter().rposition(|value| *value <= low * (1.0 + 1e-9)).unwrap_or(0);
        let above = round.iter().position(|value| *value >= high * (1.0 - 1e-9));
        // A range of a single value is extended to two round numbers.
        let above = above.unwrap_or(round.len() - 1).max(below + 1).min(round.len() - 1);
        let below = below.min(above - 1);
        Self {
            title: "milliseconds, logarithmic".to_owned(),
            scale: Scale::Logarithmic,
            low: round[below],
            high: round[above],
            ticks: round[below..=above].iter().map(|value| (*value, number(*value))).collect(),
        }
    }

    /// Creates a percentile axis up to `decades`. Each unit is another nine.
    pub(super) fn percentiles(decades: f64) -> Self {
        const TICKS: [(f64, &str); 8] = [
            (0.0, "0"),
            (1.0, "90"),
            (2.0, "99"),
            (3.0, "99.9"),
            (4.0, "99.99"),
            (5.0, "99.999"),
            (6.0, "99.9999"),
            (7.0, "99.99999"),
        ];
        let half = (2_f64.log10(), "50");
        let ticks = TICKS.into_iter().chain([half]).filter(|(at, _)| *at <= decades + 1e-9);
        Self {
            title: "percentile (each step is ten times rarer)".to_owned(),
            scale: Scale::Linear,
            low: 0.0,
            high: decades,
            ticks: ticks.map(|(at, label)| (at, label.to_owned())).collect(),
        }
    }

    /// Returns the position of a value on the axis, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.max(self.low).log10(),
        };
        let (low, high) = (place(self.low), place(self.high));
        ((place(value) - low) / (high - low)).clamp(0.0, 1.0)
    }
}

/// Returns the next larger number of the series 1, 2, 5, 10, 20, ...
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= value * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

impl Plot {
    /// Returns the plot as an SVG element of a size.
    pub(super) fn svg(&self, size: PlotSize) -> String {
        let PlotSize { width, height } = size;
        let title = Html(&self.title);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width} {height}\" style=\"max-width:{width}px\" role=\"img\" \
             aria-label=\"{title}\">\n"
        );
        self.draw_axes(&mut svg, size);
        for line in &self.lines {
            self.draw_line(&mut svg, size, line);
        }
        for (from, to, tip) in &self.tips {
            let (from, to) = (self.x_of(size, *from), self.x_of(size, *to));
            let _ = writeln!(
                svg,
                "<rect class=\"tip\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" \
                 height=\"{:.1}\"><title>{}</title></rect>",
                (to - from).max(0.5),
                height - TOP - BOTTOM,
                Html(tip)
            );
        }
        svg + "</svg>\n"
    }

    fn x_of(&self, size: PlotSize, value: f64) -> f64 {
        LEFT + self.x.share(value) * (size.width - LEFT - RIGHT)
    }

    fn y_of(&self, size: PlotSize, value: f64) -> f64 {
        TOP + (1.0 - self.y.share(value)) * (size.height - TOP - BOTTOM)
    }

    fn draw_axes(&self, svg: &mut String, size: PlotSize) {
        let PlotSize { width, height } = size;
        let (right, bottom) = (width - RIGHT, height - BOTTOM);
        for (value, label) in &self.y.ticks {
            let (y, label) = (self.y_of(size, *value), Html(label));
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        for (value, label) in &self.x.ticks {
            let (x, label) = (self.x_of(size, *value), Html(label));
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>\
                 <text class=\"x\" x=\"{x:.1}\" y=\"{:.1}\">{label}</text>",
                bottom + 17.0
            );
        }
        let (middle, center) = ((LEFT + right) / 2.0, (TOP + bottom) / 2.0);
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>\
             <text class=\"x name\" x=\"{middle:.1}\" y=\"{:.1}\">{}</text>\
             <text class=\"x name\" transform=\"translate(13 {center:.1}) rotate(-90)\">{}</text>",
            height - 8.0,
            Html(&self.x.title),
            Html(&self.y.title)
        );
    }

    fn draw_line(&self, svg: &mut String, size: PlotSize, line: &Line) {
        let at = |(x, y): &(f64, f64)| (self.x_of(size, *x), self.y_of(size, *y));
        let mut path = String::new();
        for piece in &line.pieces {
            if let [point] = piece.as_slice() {
                let (x, y) = at(point);
                let class = line.class;
                let _ = writeln!(
                    svg,
                    "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"
                );
            } else {
                for (index, point) in piece.iter().enumerate() {
                    let (x, y) = at(point);
                    let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
                }
            }
        }
        if !path.is_empty() {
            let _ = writeln!(svg, "<path class=\"line {}\" d=\"{path}\"/>", line.class);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn axes_end_at_round_numbers_around_their_values() {
        let axis = Axis::from_zero(6.5e6, |value| format!("{}M", value / 1e6));
        assert_eq!(labels(&axis), ["0M", "2M", "4M", "6M", "8M"]);
        let axis = Axis::from_zero(0.0, number);
        assert_eq!(labels(&axis), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        let axis = Axis::from_zero(100.0, number);
        assert_eq!(labels(&axis).last(), Some(&"100"));
    }

    #[test]
    fn milliseconds_have_ticks_at_powers_of_ten_and_finer_ones_if_there_is_room() {
        assert_eq!(labels(&Axis::milliseconds(0.23, 1.3)), ["0.2", "0.5", "1", "2"]);
        assert_eq!(labels(&Axis::milliseconds(0.02, 30.0)), ["0.01", "0.1", "1", "10", "100"]);
        assert_eq!(labels(&Axis::milliseconds(1.0, 1.0)), ["1", "2"]);
        assert_eq!(labels(&Axis::milliseconds(0.0, 0.0)), ["0.001", "0.002"]);
        assert_eq!(labels(&Axis::milliseconds(5.0, 10.0)), ["5", "10"]);
    }

    #[test]
    fn time_has_a_unit_that_fits_its_length() {
        let axis = Axis::time(3.0);
        assert_eq!(
            (axis.title.as_str(), labels(&axis)),
            ("time since the start (s)", vec!["0", "1", "2", "3"])
        );
        let axis = Axis::time(900.0);
        assert_eq!(
            (axis.title.as_str(), labels(&axis)),
            ("time since the start (min)", vec!["0", "2", "4", "6", "8", "10", "12", "14"])
        );
        assert_eq!(labels(&Axis::time(1e7)).len(), 6);
    }

    #[test]
    fn percentiles_end_where_the_values_do() {
        assert_eq!(labels(&Axis::percentiles(2.5)), ["0", "90", "99", "50"]);
    }

    #[test]
    fn positions_are_shares_of_the_axis_and_never_beyond_it() {
        let axis = Axis::milliseconds(0.1, 10.0);
        for (value, share) in [(0.1, 0.0), (1.0, 0.5), (10.0, 1.0), (0.0, 0.0), (99.0, 1.0)] {
            assert!((axis.share(value) - share).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn line_is_broken_at_gaps_and_a_lone_point_is_a_dot() {
        let line = Line::broken("p50", &[(0.0, 1.0), (1.0, 2.0), (5.0, 3.0)], 1.5);
        assert_eq!(line.pieces.len(), 2);
        let plot = Plot {
            size: HALF,
            title: "a < b".to_owned(),
            x: Axis::time(5.0),
            y: Axis { title: "<y>".to_owned(), ..Axis::from_zero(3.0, number) },
            lines: vec![line],
            tips: vec![(0.0, 1.0, "1 & 2".to_owned())],
        };
        let svg = plot.svg(HALF);
        assert!(svg.contains("<path class=\"line p50\" d=\"M72.0 126.7L148.0 "), "{svg}");
        assert!(svg.contains("<circle class=\"dot p50\" cx=\"452.0\" "), "{svg}");
        assert!(svg.contains("<title>1 &amp; 2</title>"), "{svg}");
        assert!(svg.contains("aria-label=\"a &lt; b\"") && svg.contains("&lt;y&gt;"), "{svg}");
    }
}
