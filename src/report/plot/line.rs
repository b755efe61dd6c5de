//! Line charts over layers.

use super::font::{fit, text_width};
use super::palette::{GRID, HIGHLIGHT, INK, MUTED};
use super::scale::Scale;
use super::svg::{Anchor, Svg, Text};
use super::ticks::{self, Axis};

// The text is 7 points high where the chart is as wide as a column of a paper, 84 mm.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 360.0;
const TITLE_SIZE: f64 = 17.0;
const LABEL_SIZE: f64 = 16.0;
const TICK_SIZE: f64 = 15.0;
const MARGIN: f64 = 12.0;
const LEGEND_SIZE: f64 = 15.0;
const LEGEND_ROW: f64 = 21.0;
/// Rows of a legend that the height of a chart includes.
const USUAL_ROWS: usize = 2;
/// Room for the x axis' labels below the frame.
const X_LABELS: f64 = MARGIN + LABEL_SIZE + TICK_SIZE + 20.0;
/// Distance between labels of the x axis, at least.
const X_PITCH: f64 = 34.0;
/// Room between the frame and the ends of the y axis, so that markers at zero show whole.
const INSET: f64 = 9.0;

/// A marker's shape, so that lines differ in more than colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// A square on its corner.
    Diamond,
    /// A triangle, point up.
    Triangle,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub label: String,
    /// CSS colour, from [`super::palette`].
    pub color: &'static str,
    /// Shape at each point.
    pub marker: Marker,
    /// (x, y); points that are not finite interrupt the line.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// Whether there is nothing to draw.
    fn is_empty(&self) -> bool {
        let mut points = self.points.iter();
        !points.any(|(x, y)| x.is_finite() && y.is_finite())
    }
}

/// Layers that are marked behind the lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Highlight {
    /// Name in the legend.
    pub label: String,
    /// Positions on x; each takes one unit.
    pub xs: Vec<f64>,
}

/// A chart of lines over whole numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// Above the chart.
    pub title: String,
    /// Below the x axis.
    pub x_label: String,
    /// Beside the y axis.
    pub y_label: String,
    /// The lines; later ones lie on top.
    pub series: Vec<Series>,
    /// Scale of y.
    pub y_scale: Scale,
    /// Regions marked behind the lines.
    pub highlight: Option<Highlight>,
}

impl LineChart {
    /// The chart as an SVG document.
    pub fn to_svg(&self) -> String {
        self.draw().finish()
    }

    /// Charts one below the other, under one title.
    pub fn column(title: &str, charts: &[Self]) -> String {
        let parts: Vec<Svg> = charts.iter().map(Self::draw).collect();
        let mut svg = Svg::column(title, MARGIN + TITLE_SIZE, &parts);
        let shown = fit(title, TITLE_SIZE, true, WIDTH - 2.0 * MARGIN);
        svg.text(Text {
            anchor: Anchor::Middle,
            bold: true,
            ..Text::new(&shown, WIDTH / 2.0, MARGIN + TITLE_SIZE, TITLE_SIZE)
        });
        svg.finish()
    }

    fn draw(&self) -> Svg {
        let y_axis = self.y_axis();
        let tick_width = y_axis
            .ticks
            .iter()
            .map(|tick| text_width(&tick.label, TICK_SIZE, false))
            .fold(0.0, f64::max);
        let left = MARGIN + LABEL_SIZE + 12.0 + tick_width + 8.0;
        let title_base = if self.title.is_empty() {
            MARGIN
        } else {
            MARGIN + TITLE_SIZE
        };
        let legend_rows = self.legend_rows(WIDTH - 2.0 * MARGIN);
        let top = title_base + 12.0 + legend_rows.len() as f64 * LEGEND_ROW + 6.0;
        // A long legend takes nothing from the lines.
        let more = legend_rows.len().saturating_sub(USUAL_ROWS);
        let height = HEIGHT + more as f64 * LEGEND_ROW;
        let mut svg = Svg::new(WIDTH, height, &self.title);
        let x_data = self.x_data();
        let x_room = ((x_data.1 - x_data.0) * 0.02).max(0.5);
        let plot = Plot {
            left,
            right: WIDTH - MARGIN,
            top,
            bottom: height - X_LABELS,
            x_data,
            // Markers of the first and last layer stay clear of the frame.
            x: (x_data.0 - x_room, x_data.1 + x_room),
            y: (y_axis.low, y_axis.high),
            scale: self.y_scale,
        };
        if !self.title.is_empty() {
            let title = fit(&self.title, TITLE_SIZE, true, WIDTH - 2.0 * MARGIN);
            svg.text(Text {
                anchor: Anchor::Middle,
                bold: true,
                ..Text::new(&title, WIDTH / 2.0, title_base, TITLE_SIZE)
            });
        }
        self.draw_legend(&mut svg, &legend_rows, title_base + 12.0);
        self.draw_highlight(&mut svg, &plot);
        self.draw_axes(&mut svg, &plot, &y_axis);
        for series in &self.series {
            draw_series(&mut svg, &plot, series);
        }
        svg
    }

    fn finite(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.series
            .iter()
            .flat_map(|series| &series.points)
            .copied()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
    }

    fn y_axis(&self) -> Axis {
        match self.y_scale {
            Scale::Linear => {
                let low = self.finite().map(|(_, y)| y).fold(0.0, f64::min);
                let high = self.finite().map(|(_, y)| y).fold(0.0, f64::max);
                ticks::linear(low, high, 6)
            }
            Scale::Log => {
                let shown = || self.finite().map(|(_, y)| y).filter(|y| *y > 0.0);
                let low = shown().fold(f64::INFINITY, f64::min);
                let high = shown().fold(0.0, f64::max);
                if high > 0.0 {
                    ticks::log(low, high)
                } else {
                    ticks::log(1.0, 10.0)
                }
            }
        }
    }

    fn x_data(&self) -> (f64, f64) {
        let xs = || self.finite().map(|(x, _)| x);
        let low = xs().fold(f64::INFINITY, f64::min);
        let high = xs().fold(f64::NEG_INFINITY, f64::max);
        if low <= high { (low, high) } else { (0.0, 0.0) }
    }

    /// Legend entries broken into rows: (label shortened to fit, entry number).
    fn legend_rows(&self, width: f64) -> Vec<Vec<(String, usize)>> {
        let mut labels: Vec<&str> = self
            .series
            .iter()
            .map(|series| series.label.as_str())
            .collect();
        if let Some(highlight) = self.highlight.as_ref().filter(|it| !it.xs.is_empty()) {
            labels.push(&highlight.label);
        }
        let mut rows: Vec<Vec<(String, usize)>> = Vec::new();
        let mut left = 0.0;
        for (number, label) in labels.into_iter().enumerate() {
            let label = fit(label, LEGEND_SIZE, false, width - KEY_WIDTH - ENTRY_GAP);
            let needed = entry_width(&label);
            match rows.last_mut() {
                Some(row) if needed <= left => row.push((label, number)),
                _ => {
                    rows.push(vec![(label, number)]);
                    left = width;
                }
            }
            left -= needed;
        }
        rows
    }

    fn draw_legend(&self, svg: &mut Svg, rows: &[Vec<(String, usize)>], top: f64) {
        for (number, row) in rows.iter().enumerate() {
            let total: f64 = row.iter().map(|(label, _)| entry_width(label)).sum();
            let mut x = (WIDTH - total + ENTRY_GAP) / 2.0;
            let middle = top + (number as f64 + 0.5) * LEGEND_ROW;
            for (label, entry) in row {
                match self.series.get(*entry) {
                    Some(series) if series.is_empty() => {
                        svg.text(Text {
                            fill: MUTED,
                            ..Text::new(NO_VALUES, x, middle + 5.0, NO_VALUES_SIZE)
                        });
                    }
                    Some(series) => {
                        svg.polyline(&[(x, middle), (x + KEY, middle)], series.color, 2.0);
                        draw_marker(svg, (x + KEY / 2.0, middle), 4.5, series, false);
                    }
                    None => {
                        svg.rect(x, middle - 7.0, KEY, 14.0, HIGHLIGHT);
                        svg.frame(x, middle - 7.0, KEY, 14.0, "#d8b45f");
                    }
                }
                svg.text(Text::new(label, x + KEY_WIDTH, middle + 5.0, LEGEND_SIZE));
                x += entry_width(label);
            }
        }
    }

    fn draw_highlight(&self, svg: &mut Svg, plot: &Plot) {
        let Some(highlight) = &self.highlight else {
            return;
        };
        let mut xs: Vec<f64> = highlight
            .xs
            .iter()
            .copied()
            .filter(|x| x.is_finite())
            .collect();
        xs.sort_by(f64::total_cmp);
        // Neighbours merge into one rectangle: seams between them would show as lines.
        let mut runs: Vec<(f64, f64)> = Vec::new();
        for x in xs {
            match runs.last_mut() {
                Some((_, end)) if x - 0.5 <= *end + 1e-9 => *end = x + 0.5,
                _ => runs.push((x - 0.5, x + 0.5)),
            }
        }
        for (from, to) in runs {
            let (from, to) = (from.max(plot.x.0), to.min(plot.x.1));
            if to > from {
                let x = plot.x_at(from);
                svg.rect(
                    x,
                    plot.top,
                    plot.x_at(to) - x,
                    plot.bottom - plot.top,
                    HIGHLIGHT,
                );
            }
        }
    }

    fn draw_axes(&self, svg: &mut Svg, plot: &Plot, y_axis: &Axis) {
        for tick in &y_axis.ticks {
            let y = plot.y_at(tick.value);
            svg.line((plot.left, y), (plot.right, y), GRID, 1.0);
            svg.line((plot.left - 5.0, y), (plot.left, y), INK, 1.0);
            svg.text(Text {
                anchor: Anchor::End,
                ..Text::new(
                    &tick.label,
                    plot.left - 8.0,
                    y + TICK_SIZE * 0.36,
                    TICK_SIZE,
                )
            });
        }
        for tick in ticks::integers(plot.x_data.0, plot.x_data.1, plot.most_ticks()) {
            let x = plot.x_at(tick.value);
            svg.line((x, plot.bottom), (x, plot.bottom + 5.0), INK, 1.0);
            svg.text(Text {
                anchor: Anchor::Middle,
                ..Text::new(&tick.label, x, plot.bottom + 8.0 + TICK_SIZE, TICK_SIZE)
            });
        }
        let (width, height) = (plot.right - plot.left, plot.bottom - plot.top);
        svg.frame(plot.left, plot.top, width, height, INK);
        let x_label = fit(&self.x_label, LABEL_SIZE, false, width);
        svg.text(Text {
            anchor: Anchor::Middle,
            ..Text::new(
                &x_label,
                plot.left + width / 2.0,
                plot.bottom + X_LABELS - MARGIN,
                LABEL_SIZE,
            )
        });
        let y_label = fit(&self.y_label, LABEL_SIZE, false, height);
        svg.text(Text {
            anchor: Anchor::Middle,
            upwards: true,
            ..Text::new(
                &y_label,
                MARGIN + LABEL_SIZE,
                plot.top + height / 2.0,
                LABEL_SIZE,
            )
        });
        if self.y_scale == Scale::Log && self.finite().any(|(_, y)| y <= 0.0) {
            svg.text(Text {
                anchor: Anchor::End,
                fill: MUTED,
                ..Text::new(
                    "hollow: 0",
                    plot.right,
                    plot.bottom + X_LABELS - MARGIN,
                    TICK_SIZE,
                )
            });
        }
    }
}

/// Width of the line and marker before a legend's label.
const KEY_WIDTH: f64 = 33.0;
/// The line itself.
const KEY: f64 = 26.0;
const ENTRY_GAP: f64 = 14.0;
/// In the place of a line's key: it has no value in this chart.
const NO_VALUES: &str = "none";
const NO_VALUES_SIZE: f64 = 12.0;

fn entry_width(label: &str) -> f64 {
    KEY_WIDTH + text_width(label, LEGEND_SIZE, false) + ENTRY_GAP
}

/// The rectangle of the lines and what its sides mean.
struct Plot {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// First and last value; the frame leaves room beyond them.
    x_data: (f64, f64),
    x: (f64, f64),
    y: (f64, f64),
    scale: Scale,
}

impl Plot {
    /// As many labels as the x axis has room for.
    fn most_ticks(&self) -> usize {
        ((self.right - self.left) / X_PITCH) as usize
    }

    fn x_at(&self, x: f64) -> f64 {
        self.left + (x - self.x.0) / (self.x.1 - self.x.0) * (self.right - self.left)
    }

    fn y_at(&self, y: f64) -> f64 {
        let fraction = match self.scale {
            Scale::Linear => (y - self.y.0) / (self.y.1 - self.y.0),
            Scale::Log if y <= 0.0 => 0.0,
            Scale::Log => (y / self.y.0).log10() / (self.y.1 / self.y.0).log10(),
        };
        let height = self.bottom - self.top - 2.0 * INSET;
        self.bottom - INSET - fraction.clamp(0.0, 1.0) * height
    }
}

fn draw_series(svg: &mut Svg, plot: &Plot, series: &Series) {
    let finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
    for stretch in series.points.split(|point| !finite(point)) {
        let places: Vec<(f64, f64)> = stretch
            .iter()
            .map(|&(x, y)| (plot.x_at(x), plot.y_at(y)))
            .collect();
        if places.len() > 1 {
            svg.polyline(&places, series.color, 2.0);
        }
    }
    // Markers shrink with their distance, so that 80 layers still show separate ones.
    let spacing = (plot.right - plot.left) / (plot.x.1 - plot.x.0);
    let radius = (spacing * 0.38).clamp(1.8, 4.5);
    for &(x, y) in series.points.iter().filter(|point| finite(point)) {
        let hollow = plot.scale == Scale::Log && y <= 0.0;
        draw_marker(svg, (plot.x_at(x), plot.y_at(y)), radius, series, hollow);
    }
}

fn draw_marker(svg: &mut Svg, (x, y): (f64, f64), radius: f64, series: &Series, hollow: bool) {
    let fill = if hollow { "#ffffff" } else { series.color };
    let corners = |offsets: &[(f64, f64)]| -> Vec<(f64, f64)> {
        offsets
            .iter()
            .map(|(dx, dy)| (x + dx * radius, y + dy * radius))
            .collect()
    };
    let points = match series.marker {
        Marker::Circle => return svg.circle(x, y, radius, fill, series.color),
        Marker::Square => corners(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        Marker::Diamond => corners(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
        Marker::Triangle => corners(&[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)]),
    };
    svg.polygon(&points, fill, series.color);
}
