//! A grid of 3-D plots, one per layer: |value| (up) over tokens (to the right) and dimensions (to the
//! back), as one line a token. The view of figure 1 of arXiv 2402.17762.

use std::collections::BTreeSet;

use super::font::fit;
use super::head::Head;
use super::heatmap::sheet;
use super::palette::{BLUE, INK, MUTED, RED};
use super::scene::{DIMENSIONS, Scene, TOKENS, without_flat};
use super::spread::{Spread, apart};
use super::svg::{Anchor, Svg, Text};
use super::ticks;

const MARGIN: f64 = 20.0;
const PLOT_TITLE_SIZE: f64 = 17.0;
/// Of tokens and dimensions.
const LABEL_SIZE: f64 = 12.0;
/// Longest token label.
const LABEL_WIDTH: f64 = 78.0;
/// Most lines; more tokens than this share lines.
const MAX_LINES: usize = 64;
/// Fewest and most points of a line; more dimensions than points share them.
const POINTS: (usize, usize) = (48, 256);
/// Points of a whole figure, about: keeps the SVG of 80 layers at a few megabytes.
const ALL_POINTS: usize = 160_000;
/// The front left corner of the floor in its panel.
const CORNER: (f64, f64) = (64.0, 236.0);
const PANEL: (f64, f64) = (436.0, 362.0);
/// Token labels lean by this many degrees.
const LEAN: f64 = -45.0;
/// Least distance between dimension labels.
const PITCH: f64 = 13.0;
/// Most dimension labels of a plot.
const MAX_DIMENSIONS: usize = 6;

/// How many lines and points the plots of one grid have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RidgeShape {
    rows: usize,
    columns: usize,
    /// Tokens that share a line.
    row_bin: usize,
    /// Dimensions that share a point.
    column_bin: usize,
}

impl RidgeShape {
    /// For `plots` plots of `[rows, columns]` values.
    pub fn new(plots: usize, rows: usize, columns: usize) -> Self {
        let row_bin = rows.div_ceil(MAX_LINES).max(1);
        let lines = rows.div_ceil(row_bin).max(1);
        let points = (ALL_POINTS / (lines * plots.max(1))).clamp(POINTS.0, POINTS.1);
        Self {
            rows,
            columns,
            row_bin,
            column_bin: columns.div_ceil(points).max(1),
        }
    }

    fn lines(&self) -> usize {
        self.rows.div_ceil(self.row_bin)
    }

    fn points(&self) -> usize {
        self.columns.div_ceil(self.column_bin)
    }
}

/// One plot.
#[derive(Debug, Clone, PartialEq)]
pub struct RidgePlot {
    /// Above the plot.
    title: String,
    /// `[lines, points]`
    heights: Vec<f32>,
    /// Labelled dimensions.
    dimensions: Vec<usize>,
    /// Rows whose label is bold and red.
    emphasised: BTreeSet<usize>,
}

impl RidgePlot {
    /// A plot of |`values`|, `[rows, columns]` of them in the shape's sense. Without `dimensions` to
    /// label the axis has ticks.
    pub fn new(title: String, shape: RidgeShape, values: &[f32]) -> Self {
        let points = shape.points();
        let mut heights = vec![0.0f32; shape.lines() * points];
        for (row, values) in values.chunks(shape.columns.max(1)).enumerate() {
            let line = row / shape.row_bin * points;
            for (column, value) in values.iter().enumerate() {
                // f32::max prefers the number over NaN. A mean would hide single large values.
                if let Some(height) = heights.get_mut(line + column / shape.column_bin) {
                    *height = height.max(value.abs());
                }
            }
        }
        Self {
            title,
            heights,
            dimensions: Vec::new(),
            emphasised: BTreeSet::new(),
        }
    }

    fn highest(&self) -> f32 {
        let finite = self.heights.iter().copied().filter(|v| v.is_finite());
        finite.fold(0.0, f32::max)
    }

    /// Labels these dimensions, the most important first, and emphasises these rows.
    #[must_use]
    pub fn marked(mut self, dimensions: Vec<usize>, rows: BTreeSet<usize>) -> Self {
        self.dimensions = dimensions;
        self.emphasised = rows;
        self
    }
}

/// Plots of one shape.
#[derive(Debug, Clone, PartialEq)]
pub struct RidgeGrid {
    /// Above the grid.
    pub title: String,
    /// What is shown; one line below the title.
    pub note: String,
    /// Of all plots.
    pub shape: RidgeShape,
    /// The plots in reading order.
    pub plots: Vec<RidgePlot>,
    /// Tokens, front to right.
    pub row_labels: Vec<String>,
    /// Whether all plots have one height for one value.
    pub shared: bool,
}

impl RidgeGrid {
    /// The grid as an SVG document.
    pub fn to_svg(&self) -> String {
        let (columns, rows) = sheet(self.plots.len());
        let note = self.full_note();
        let head = Head::new(&self.title, &note, columns as f64 * PANEL.0, MARGIN);
        let (width, height) = (head.width, head.height + rows as f64 * PANEL.1);
        let mut svg = Svg::new(width + 2.0 * MARGIN, height + MARGIN, &self.title);
        head.draw(&mut svg);
        for (number, plot) in self.plots.iter().enumerate() {
            let left = MARGIN + (number % columns) as f64 * PANEL.0;
            let top = head.height + (number / columns) as f64 * PANEL.1;
            self.draw(&mut svg, plot, left, top);
        }
        svg.finish()
    }

    fn full_note(&self) -> String {
        let mut note = self.note.clone();
        if self.shape.row_bin > 1 {
            note.push_str(&format!(
                "; a line: the largest of {} tokens",
                self.shape.row_bin
            ));
        }
        if self.shape.column_bin > 1 {
            note.push_str(&format!(
                "; a point: the largest of {} dimensions",
                self.shape.column_bin
            ));
        }
        note
    }

    fn draw(&self, svg: &mut Svg, plot: &RidgePlot, left: f64, top: f64) {
        let highest = if self.shared {
            self.plots
                .iter()
                .map(RidgePlot::highest)
                .fold(0.0, f32::max)
        } else {
            plot.highest()
        };
        let axis = ticks::linear(0.0, f64::from(highest), 3);
        let scene = Scene {
            corner: (left + CORNER.0, top + CORNER.1),
            high: axis.high,
        };
        let title = fit(&plot.title, PLOT_TITLE_SIZE, true, PANEL.0 - 20.0);
        svg.text(Text {
            anchor: Anchor::Middle,
            bold: true,
            ..Text::new(
                &title,
                left + CORNER.0 + (TOKENS.0 + DIMENSIONS.0) / 2.0,
                top + PLOT_TITLE_SIZE,
                PLOT_TITLE_SIZE,
            )
        });
        scene.draw_walls(svg, &axis);
        self.draw_lines(svg, &scene, plot);
        self.draw_tokens(svg, &scene, plot);
        self.draw_dimensions(svg, &scene, plot);
    }

    fn draw_lines(&self, svg: &mut Svg, scene: &Scene, plot: &RidgePlot) {
        let (lines, points) = (self.shape.lines(), self.shape.points().max(1));
        // From the back to the front: later lines cover earlier ones.
        for (line, heights) in plot.heights.chunks(points).enumerate() {
            let along = (line as f64 + 0.5) / lines as f64;
            let place = |(point, height): (usize, &f32)| {
                let depth = (point as f64 + 0.5) / points as f64;
                let height = if height.is_finite() { *height } else { 0.0 };
                scene.place(along, depth, f64::from(height))
            };
            let outline: Vec<(f64, f64)> = heights.iter().enumerate().map(place).collect();
            let outline = without_flat(&outline, scene, along);
            let (start, end) = (scene.place(along, 0.0, 0.0), scene.place(along, 1.0, 0.0));
            let ridge: Vec<(f64, f64)> = [&[start], &outline[..], &[end]].concat();
            svg.area(&ridge, "#ffffff", 0.65);
            svg.polyline(&ridge, BLUE, 1.1);
        }
    }

    fn draw_tokens(&self, svg: &mut Svg, scene: &Scene, plot: &RidgePlot) {
        let count = self.row_labels.len();
        // Leaning labels are as far apart as their lines of text are.
        let (sin, cos) = LEAN.to_radians().sin_cos();
        let unit = (TOKENS.0 * sin - TOKENS.1 * cos).abs() / count.max(1) as f64;
        let spread = Spread {
            count,
            unit,
            pitch: 1.15 * LABEL_SIZE,
        };
        for place in spread.choose(&plot.emphasised) {
            let emphasised = plot.emphasised.contains(&place.label);
            let along = |at: f64| scene.place(at / (unit * count as f64), 0.0, 0.0);
            let (x, y) = along(place.shown);
            if place.shown != place.at {
                svg.line(along(place.at), (x, y + 5.0), MUTED, 0.7);
            }
            let text = &self.row_labels[place.label];
            let label = fit(text, LABEL_SIZE, emphasised, LABEL_WIDTH);
            svg.text(Text {
                anchor: Anchor::End,
                bold: emphasised,
                fill: if emphasised { RED } else { INK },
                angle: LEAN,
                ..Text::new(&label, x + 1.0, y + 9.0, LABEL_SIZE)
            });
        }
    }

    fn draw_dimensions(&self, svg: &mut Svg, scene: &Scene, plot: &RidgePlot) {
        let bold = !plot.dimensions.is_empty();
        let mut dimensions: Vec<usize> = if bold {
            plot.dimensions
                .iter()
                .copied()
                .take(MAX_DIMENSIONS)
                .collect()
        } else {
            let last = self.shape.columns.saturating_sub(1) as f64;
            let ticks = ticks::integers(0.0, last, 4).into_iter();
            ticks.map(|tick| tick.value as usize).collect()
        };
        // From the front to the back, which is upwards.
        dimensions.sort_unstable();
        let depth = |dimension: usize| (dimension as f64 + 0.5) / self.shape.columns.max(1) as f64;
        let places: Vec<(f64, f64)> = dimensions
            .iter()
            .map(|dimension| scene.place(1.0, depth(*dimension), 0.0))
            .collect();
        let wanted: Vec<f64> = places.iter().map(|(_, y)| -y).collect();
        let given = apart(&wanted, PITCH);
        for ((dimension, (x, y)), given) in dimensions.iter().zip(&places).zip(given) {
            let at = -given;
            // Labels keep to the right of the slanting edge wherever they end up.
            let right = x.max(scene.edge_at(at)) + 12.0;
            svg.line((*x, *y), (right - 2.0, at), MUTED, 0.7);
            svg.text(Text {
                bold,
                ..Text::new(
                    &dimension.to_string(),
                    right,
                    at + LABEL_SIZE * 0.36,
                    LABEL_SIZE,
                )
            });
        }
        let more = plot.dimensions.len().saturating_sub(MAX_DIMENSIONS);
        if more > 0 {
            let (x, y) = scene.place(1.0, 0.0, 0.0);
            let label = format!("and {more} more");
            svg.text(Text {
                fill: MUTED,
                ..Text::new(&label, x + 12.0, y + 2.0 * PITCH, LABEL_SIZE)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tokens_and_dimensions_share_lines_and_points() {
        let shape = RidgeShape::new(32, 200, 4096);
        assert_eq!((shape.row_bin, shape.lines()), (4, 50));
        assert_eq!((shape.column_bin, shape.points()), (41, 100));
        let mut values = vec![0.5; 200 * 4096];
        values[9 * 4096 + 4095] = -7.0;
        values[4096] = f32::NAN;
        let plot = RidgePlot::new(String::new(), shape, &values);
        assert_eq!(plot.heights.len(), 50 * 100);
        assert_eq!(plot.heights[2 * 100 + 99], 7.0);
        assert_eq!(plot.heights[0], 0.5);
        let small = RidgeShape::new(6, 9, 96);
        assert_eq!((small.row_bin, small.column_bin), (1, 1));
    }
}
