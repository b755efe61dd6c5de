//! Stacked bars over layers with a line through them: what makes a value, and the value. One panel below
//! another.

use super::font::{fit, text_width};
use super::palette::{GRID, INK, MUTED};
use super::svg::{Anchor, Svg, Text};
use super::ticks::{self, Axis};

const WIDTH: f64 = 760.0;
const MARGIN: f64 = 14.0;
const TITLE_SIZE: f64 = 17.0;
const PANEL_TITLE_SIZE: f64 = 14.0;
const LABEL_SIZE: f64 = 14.0;
const TICK_SIZE: f64 = 13.0;
const LEGEND_ROW: f64 = 22.0;
/// Height of a panel's frame.
const FRAME: f64 = 170.0;
/// Of the place of a layer, what the bar takes.
const BAR: f64 = 0.72;
const RADIUS: f64 = 2.6;

/// A part of the stacks: its name and colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackPart {
    /// Name in the legend.
    pub label: String,
    /// CSS colour, from [`super::palette`].
    pub color: &'static str,
}

/// One panel.
#[derive(Debug, Clone, PartialEq)]
pub struct StackPanel {
    /// Above it.
    pub title: String,
    /// By layer, a value a part: positive ones are stacked upwards from zero, negative ones downwards.
    pub stacks: Vec<Vec<f64>>,
    /// The line, a value a layer.
    pub line: Vec<f64>,
    /// Layers with a mark above the frame, and what it says.
    pub marks: Vec<(usize, &'static str)>,
}

/// Panels with the same layers and parts.
#[derive(Debug, Clone, PartialEq)]
pub struct StackChart {
    /// Above all.
    pub title: String,
    /// Name of the line in the legend.
    pub line_label: String,
    /// The parts, in the order of stacking.
    pub parts: Vec<StackPart>,
    /// Top to bottom.
    pub panels: Vec<StackPanel>,
}

/// The rectangle of a panel and what its sides mean.
struct Plot<'a> {
    left: f64,
    right: f64,
    top: f64,
    axis: &'a Axis,
    layers: usize,
}

impl Plot<'_> {
    fn step(&self) -> f64 {
        (self.right - self.left) / self.layers.max(1) as f64
    }

    fn x_at(&self, layer: usize) -> f64 {
        self.left + (layer as f64 + 0.5) * self.step()
    }

    fn y_at(&self, value: f64) -> f64 {
        let share = (value - self.axis.low) / (self.axis.high - self.axis.low);
        self.top + FRAME * (1.0 - share.clamp(0.0, 1.0))
    }
}

impl StackPanel {
    /// From the least to the largest of line and stacks, zero included.
    fn axis(&self) -> Axis {
        let (mut low, mut high) = (0.0f64, 0.0f64);
        let finite = self.line.iter().filter(|value| value.is_finite());
        for value in finite {
            (low, high) = (low.min(*value), high.max(*value));
        }
        for stack in &self.stacks {
            let sum = |wanted: fn(&f64) -> bool| {
                let parts = stack.iter().filter(|part| part.is_finite() && wanted(part));
                parts.sum::<f64>()
            };
            (low, high) = (
                low.min(sum(|part| *part < 0.0)),
                high.max(sum(|part| *part > 0.0)),
            );
        }
        ticks::linear(low, high, 4)
    }

    fn draw(&self, svg: &mut Svg, plot: &Plot<'_>, parts: &[StackPart]) {
        let bottom = plot.top + FRAME;
        for tick in &plot.axis.ticks {
            let y = plot.y_at(tick.value);
            let color = if tick.value == 0.0 { MUTED } else { GRID };
            svg.line((plot.left, y), (plot.right, y), color, 1.0);
            svg.text(Text {
                anchor: Anchor::End,
                ..Text::new(
                    &tick.label,
                    plot.left - 6.0,
                    y + TICK_SIZE * 0.36,
                    TICK_SIZE,
                )
            });
        }
        let width = plot.step() * BAR;
        for (layer, stack) in self.stacks.iter().enumerate() {
            let (mut up, mut down) = (0.0, 0.0);
            for (value, part) in stack.iter().zip(parts) {
                if !value.is_finite() || *value == 0.0 {
                    continue;
                }
                let from = if *value > 0.0 { &mut up } else { &mut down };
                let ends = [plot.y_at(*from), plot.y_at(*from + value)];
                *from += value;
                let (top, height) = (ends[0].min(ends[1]), (ends[0] - ends[1]).abs());
                // What cannot be seen needs no shape.
                if height >= 0.05 {
                    svg.rect(
                        plot.x_at(layer) - width / 2.0,
                        top,
                        width,
                        height,
                        part.color,
                    );
                }
            }
        }
        let points = self.line.iter().enumerate();
        let points = points.filter(|(_, value)| value.is_finite());
        let points: Vec<(f64, f64)> = points
            .map(|(layer, value)| (plot.x_at(layer), plot.y_at(*value)))
            .collect();
        svg.polyline(&points, INK, 1.5);
        for (x, y) in &points {
            svg.circle(*x, *y, RADIUS, INK, "#ffffff");
        }
        for (layer, text) in &self.marks {
            let x = plot.x_at(*layer);
            svg.line((x, plot.top - 4.0), (x, plot.top), INK, 1.2);
            svg.text(Text {
                anchor: Anchor::Middle,
                fill: MUTED,
                ..Text::new(text, x, plot.top - 7.0, TICK_SIZE - 1.0)
            });
        }
        svg.frame(plot.left, plot.top, plot.right - plot.left, FRAME, INK);
        let about = ((plot.right - plot.left) / 34.0) as usize;
        let last = plot.layers.saturating_sub(1) as f64;
        for tick in ticks::integers(0.0, last, about.clamp(1, plot.layers.max(1))) {
            let x = plot.x_at(tick.value as usize);
            svg.line((x, bottom), (x, bottom + 4.0), INK, 1.0);
            svg.text(Text {
                anchor: Anchor::Middle,
                ..Text::new(&tick.label, x, bottom + 6.0 + TICK_SIZE, TICK_SIZE)
            });
        }
    }
}

impl StackChart {
    /// The chart as an SVG document.
    pub fn to_svg(&self) -> String {
        let axes: Vec<Axis> = self.panels.iter().map(StackPanel::axis).collect();
        let labels = axes.iter().flat_map(|axis| &axis.ticks);
        let tick_width = labels
            .map(|tick| text_width(&tick.label, TICK_SIZE, false))
            .fold(0.0, f64::max);
        let left = MARGIN + tick_width + 10.0;
        let right = WIDTH - MARGIN;
        let legend = MARGIN + TITLE_SIZE + 8.0;
        let above = PANEL_TITLE_SIZE + 12.0 + TICK_SIZE + 8.0;
        let below = TICK_SIZE + 14.0;
        let panel = above + FRAME + below;
        let head = legend + LEGEND_ROW;
        let height = head + panel * self.panels.len() as f64 + LABEL_SIZE + MARGIN;
        let mut svg = Svg::new(WIDTH, height, &self.title);
        let title = fit(&self.title, TITLE_SIZE, true, WIDTH - 2.0 * MARGIN);
        svg.text(Text {
            bold: true,
            ..Text::new(&title, MARGIN, MARGIN + TITLE_SIZE, TITLE_SIZE)
        });
        self.draw_legend(&mut svg, legend + LEGEND_ROW * 0.7);
        for (index, (shown, axis)) in self.panels.iter().zip(&axes).enumerate() {
            let top = head + panel * index as f64;
            let text = fit(&shown.title, PANEL_TITLE_SIZE, true, right - MARGIN);
            svg.text(Text {
                bold: true,
                ..Text::new(
                    &text,
                    MARGIN,
                    top + 6.0 + PANEL_TITLE_SIZE,
                    PANEL_TITLE_SIZE,
                )
            });
            let plot = Plot {
                left,
                right,
                top: top + above,
                axis,
                layers: shown.line.len(),
            };
            shown.draw(&mut svg, &plot, &self.parts);
        }
        svg.text(Text {
            anchor: Anchor::Middle,
            ..Text::new(
                "Layer (first is 0)",
                f64::midpoint(left, right),
                height - MARGIN,
                LABEL_SIZE,
            )
        });
        svg.finish()
    }

    fn draw_legend(&self, svg: &mut Svg, y: f64) {
        let mut x = MARGIN;
        svg.line((x, y - 4.0), (x + 18.0, y - 4.0), INK, 1.5);
        svg.circle(x + 9.0, y - 4.0, RADIUS, INK, "#ffffff");
        svg.text(Text::new(&self.line_label, x + 24.0, y, TICK_SIZE));
        x += 24.0 + text_width(&self.line_label, TICK_SIZE, false) + 20.0;
        for part in &self.parts {
            svg.rect(x, y - 10.0, 12.0, 12.0, part.color);
            svg.text(Text::new(&part.label, x + 17.0, y, TICK_SIZE));
            x += 17.0 + text_width(&part.label, TICK_SIZE, false) + 18.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(layers: usize) -> StackPanel {
        StackPanel {
            title: "token ␣a, dimension 7".into(),
            stacks: vec![vec![3.0, -1.0, f64::NAN]; layers],
            line: vec![2.0; layers],
            marks: vec![(0, "rise")],
        }
    }

    #[test]
    fn the_axis_holds_stacks_and_line() {
        let axis = StackPanel {
            stacks: vec![vec![30.0, 20.0, -7.0]],
            line: vec![43.0],
            ..panel(1)
        }
        .axis();
        assert!(axis.low <= -7.0 && axis.high >= 50.0, "{axis:?}");
    }

    #[test]
    fn draws_any_number_of_layers_and_panels() {
        for (layers, panels) in [(0, 0), (1, 1), (5, 3), (130, 2)] {
            let part = |label: &str, color| StackPart {
                label: label.into(),
                color,
            };
            let chart = StackChart {
                title: "model".into(),
                line_label: "value".into(),
                parts: vec![
                    part("attention", "#111111"),
                    part("MLP", "#222222"),
                    part("other", "#333333"),
                ],
                panels: vec![panel(layers); panels],
            };
            let svg = chart.to_svg();
            let bars = |color: &str| svg.matches(&format!("fill=\"{color}\"")).count();
            // One is the legend's.
            assert_eq!(bars("#111111"), 1 + layers * panels, "{layers} {panels}");
            assert_eq!(bars("#222222"), 1 + layers * panels);
            assert_eq!(bars("#333333"), 1);
        }
    }
}
