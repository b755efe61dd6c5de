//! Values with their intervals, one below the other, over a logarithmic axis.

use super::font::{fit, text_width};
use super::palette::{GRID, HIGHLIGHT, INK, MUTED};
use super::svg::{Anchor, Svg, Text};
use super::ticks::{self, Axis, Tick};

const WIDTH: f64 = 560.0;
const TITLE_SIZE: f64 = 17.0;
const LABEL_SIZE: f64 = 16.0;
const TICK_SIZE: f64 = 15.0;
const MARGIN: f64 = 12.0;
const ROW_HEIGHT: f64 = 26.0;
/// Between groups.
const GROUP_GAP: f64 = 12.0;
const RADIUS: f64 = 4.5;
/// Most of the width that labels take.
const LABEL_SHARE: f64 = 0.35;
/// Room beside the values, as a share of the range, and at least this factor.
const ROOM: f64 = 0.06;
const LEAST_ROOM: f64 = 1.001;
/// Ranges below this factor get even steps for ticks.
const FEW_DECADES: f64 = 4.0;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// Beside the row.
    pub label: String,
    /// The value; rows whose value is not finite and positive show the note instead.
    pub value: f64,
    /// Why there is no value.
    pub note: &'static str,
    /// Ends of the interval.
    pub ends: Option<(f64, f64)>,
    /// CSS colour, from [`super::palette`].
    pub color: &'static str,
}

/// A group of rows under a heading.
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalGroup {
    /// The heading.
    pub label: String,
    /// Its rows.
    pub rows: Vec<Interval>,
}

/// A range of the axis that is marked behind the values, with a name above it.
#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    /// Its name.
    pub label: String,
    /// Where it begins; none for the axis' own begin.
    pub from: Option<f64>,
    /// Where it ends; none for the axis' own end.
    pub to: Option<f64>,
}

/// A chart of groups of values with their intervals.
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalChart {
    /// Above the chart.
    pub title: String,
    /// Below the axis.
    pub x_label: String,
    /// Top to bottom.
    pub groups: Vec<IntervalGroup>,
    /// A value that is always in view, with a line.
    pub reference: f64,
    /// Left to right; every other one is shaded. What is out of view is left out.
    pub bands: Vec<Band>,
}

/// The rectangle of the rows and what its sides mean.
struct Plot {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    axis: Axis,
}

impl Plot {
    fn x_at(&self, x: f64) -> f64 {
        let fraction = (x / self.axis.low).log10() / (self.axis.high / self.axis.low).log10();
        self.left + fraction.clamp(0.0, 1.0) * (self.right - self.left)
    }
}

impl IntervalChart {
    /// The chart as an SVG document.
    pub fn to_svg(&self) -> String {
        let lines: usize = self.groups.iter().map(|group| group.rows.len() + 1).sum();
        let gaps = self.groups.len().saturating_sub(1) as f64 * GROUP_GAP;
        let top = MARGIN + TITLE_SIZE + 12.0 + TICK_SIZE + 10.0;
        let bottom = top + lines as f64 * ROW_HEIGHT + gaps + 8.0;
        let height = bottom + 8.0 + TICK_SIZE + 10.0 + LABEL_SIZE + MARGIN;
        let labels = self.groups.iter().flat_map(|group| {
            let rows = group.rows.iter();
            let rows = rows.map(|row| 14.0 + text_width(&row.label, TICK_SIZE, false));
            rows.chain([text_width(&group.label, TICK_SIZE, true)])
        });
        let label_width = labels.fold(0.0, f64::max).min(LABEL_SHARE * WIDTH);
        let plot = Plot {
            left: MARGIN + label_width + 12.0,
            // Room for half of the last tick's label.
            right: WIDTH - MARGIN - 14.0,
            top,
            bottom,
            axis: self.axis(),
        };
        let mut svg = Svg::new(WIDTH, height, &self.title);
        let title = fit(&self.title, TITLE_SIZE, true, WIDTH - 2.0 * MARGIN);
        svg.text(Text {
            anchor: Anchor::Middle,
            bold: true,
            ..Text::new(&title, WIDTH / 2.0, MARGIN + TITLE_SIZE, TITLE_SIZE)
        });
        self.draw_bands(&mut svg, &plot);
        self.draw_axis(&mut svg, &plot, height);
        self.draw_rows(&mut svg, &plot, label_width);
        svg.finish()
    }

    /// From the least to the largest value and end, the reference included, with some room.
    fn axis(&self) -> Axis {
        let rows = self.groups.iter().flat_map(|group| &group.rows);
        let ends = rows.flat_map(|row| {
            let (low, high) = row.ends.unwrap_or((row.value, row.value));
            [row.value, low, high]
        });
        let (mut low, mut high) = (self.reference, self.reference);
        for value in ends.filter(|value| value.is_finite() && *value > 0.0) {
            (low, high) = (low.min(value), high.max(value));
        }
        let room = (high / low).powf(ROOM).max(LEAST_ROOM);
        let (low, high) = (low / room, high * room);
        let ticks = if high / low < FEW_DECADES {
            ticks::linear_inside(low, high, 4).ticks
        } else {
            let inside = |tick: &Tick| (low..=high).contains(&tick.value);
            ticks::log(low, high)
                .ticks
                .into_iter()
                .filter(inside)
                .collect()
        };
        Axis { low, high, ticks }
    }

    fn draw_bands(&self, svg: &mut Svg, plot: &Plot) {
        for (index, band) in self.bands.iter().enumerate() {
            let from = band.from.map_or(plot.left, |value| plot.x_at(value));
            let to = band.to.map_or(plot.right, |value| plot.x_at(value));
            if index % 2 == 1 && from < to {
                svg.rect(from, plot.top, to - from, plot.bottom - plot.top, HIGHLIGHT);
            }
            if text_width(&band.label, TICK_SIZE, false) < to - from {
                svg.text(Text {
                    anchor: Anchor::Middle,
                    fill: MUTED,
                    ..Text::new(&band.label, (from + to) / 2.0, plot.top - 6.0, TICK_SIZE)
                });
            }
        }
    }

    fn draw_axis(&self, svg: &mut Svg, plot: &Plot, height: f64) {
        for tick in &plot.axis.ticks {
            let x = plot.x_at(tick.value);
            svg.line((x, plot.top), (x, plot.bottom), GRID, 1.0);
            svg.text(Text {
                anchor: Anchor::Middle,
                ..Text::new(&tick.label, x, plot.bottom + 8.0 + TICK_SIZE, TICK_SIZE)
            });
        }
        let x = plot.x_at(self.reference);
        svg.line((x, plot.top), (x, plot.bottom), MUTED, 1.0);
        let width = plot.right - plot.left;
        svg.frame(plot.left, plot.top, width, plot.bottom - plot.top, INK);
        let label = fit(&self.x_label, LABEL_SIZE, false, width);
        svg.text(Text {
            anchor: Anchor::Middle,
            ..Text::new(&label, plot.left + width / 2.0, height - MARGIN, LABEL_SIZE)
        });
    }

    fn draw_rows(&self, svg: &mut Svg, plot: &Plot, label_width: f64) {
        let mut y = plot.top + 4.0;
        for (index, group) in self.groups.iter().enumerate() {
            if index > 0 {
                y += GROUP_GAP;
            }
            let label = fit(&group.label, TICK_SIZE, true, label_width);
            svg.text(Text {
                bold: true,
                ..Text::new(&label, MARGIN, y + ROW_HEIGHT * 0.7, TICK_SIZE)
            });
            y += ROW_HEIGHT;
            for row in &group.rows {
                let label = fit(&row.label, TICK_SIZE, false, label_width - 14.0);
                svg.text(Text::new(
                    &label,
                    MARGIN + 14.0,
                    y + ROW_HEIGHT * 0.7,
                    TICK_SIZE,
                ));
                self.draw_value(svg, plot, row, y + ROW_HEIGHT / 2.0);
                y += ROW_HEIGHT;
            }
        }
    }

    fn draw_value(&self, svg: &mut Svg, plot: &Plot, row: &Interval, y: f64) {
        if !(row.value.is_finite() && row.value > 0.0) {
            let x = plot.x_at(self.reference) + 8.0;
            svg.text(Text {
                fill: MUTED,
                ..Text::new(row.note, x, y + TICK_SIZE * 0.36, TICK_SIZE)
            });
            return;
        }
        if let Some((low, high)) = row.ends
            && low > 0.0
            && high.is_finite()
        {
            let (low, high) = (plot.x_at(low), plot.x_at(high));
            svg.line((low, y), (high, y), row.color, 2.0);
            for end in [low, high] {
                svg.line((end, y - RADIUS), (end, y + RADIUS), row.color, 2.0);
            }
        }
        svg.circle(plot.x_at(row.value), y, RADIUS, row.color, row.color);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[(f64, Option<(f64, f64)>)]) -> IntervalChart {
        let rows = values.iter().map(|&(value, ends)| Interval {
            label: "wikitext <2>".into(),
            value,
            note: "no value",
            ends,
            color: super::super::palette::BLUE,
        });
        IntervalChart {
            title: "model".into(),
            x_label: "ratio".into(),
            groups: vec![IntervalGroup {
                label: "set_to_zero".into(),
                rows: rows.collect(),
            }],
            reference: 1.0,
            bands: vec![
                Band {
                    label: "none".into(),
                    from: None,
                    to: Some(1.5),
                },
                Band {
                    label: "medium".into(),
                    from: Some(1.5),
                    to: Some(100.0),
                },
                Band {
                    label: "high".into(),
                    from: Some(100.0),
                    to: None,
                },
            ],
        }
    }

    #[test]
    fn every_value_is_drawn_with_its_interval() {
        let svg = chart(&[(1.02, Some((1.01, 1.03))), (8976.9, None)]).to_svg();
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        // Three strokes of one interval; the grid's are of another colour.
        assert_eq!(
            svg.matches("stroke=\"#0072b2\" stroke-width=\"2\"").count(),
            3,
            "{svg}"
        );
        assert!(svg.contains("wikitext &lt;2&gt;"), "{svg}");
        for band in ["none", "medium", "high"] {
            assert!(svg.contains(band), "{band}");
        }
    }

    #[test]
    fn small_changes_fill_the_axis() {
        let svg = chart(&[(1.01, Some((1.007, 1.013)))]).to_svg();
        assert!(svg.contains(">none<") && !svg.contains("medium"), "{svg}");
        assert!(svg.contains(">1.005<") || svg.contains(">1.01<"), "{svg}");
    }

    #[test]
    fn what_is_not_finite_is_left_out() {
        let svg = chart(&[
            (f64::INFINITY, None),
            (f64::NAN, Some((0.0, f64::INFINITY))),
        ])
        .to_svg();
        assert_eq!(svg.matches("<circle").count(), 0);
        assert_eq!(svg.matches(">no value<").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
