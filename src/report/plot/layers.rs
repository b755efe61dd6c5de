//! Heat maps with layers across, one below another.

use image::ExtendedColorType;

use super::bar::{self, draw_bar};
use super::colour::viridis;
use super::font::{fit, text_width};
use super::palette::{GRID, INK, MUTED};
use super::raster::encode_png;
use super::scale::Scale;
use super::svg::{Anchor, Svg, Text};
use super::ticks::{self, Axis, Tick};
use crate::error::Result;

const MARGIN: f64 = 20.0;
const TITLE_SIZE: f64 = 19.0;
const MAP_TITLE_SIZE: f64 = 15.0;
const LABEL_SIZE: f64 = 13.0;
const TICK_SIZE: f64 = 12.0;
const ROW_HEIGHT: f64 = 22.0;
/// Longest row label.
const LABEL_WIDTH: f64 = 150.0;
/// Width of the cells of all layers together, and of one at most.
const MAP_WIDTH: f64 = 400.0;
const MOST_CELL: f64 = 48.0;
/// Room for a colour bar's labels.
const BAR_HEIGHT: f64 = 100.0;
const BAR_ROOM: f64 = 14.0 + bar::WIDTH;

/// Maps of the same layers.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerMaps {
    /// Above the maps.
    pub title: String,
    /// Layers across.
    pub layers: usize,
    /// Top to bottom.
    pub maps: Vec<LayerMap>,
}

/// One map.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerMap {
    /// Above the map.
    pub title: String,
    /// Beside the colour bar: what the colours mean.
    pub bar_label: String,
    /// Label and one value a layer; values that are not finite stay blank.
    pub rows: Vec<(String, Vec<f64>)>,
    /// Scale of the colours. Logarithmic needs values above zero; others stay blank.
    pub scale: Scale,
}

/// Where all maps have their columns.
struct Columns {
    left: f64,
    cell: f64,
    layers: usize,
}

impl Columns {
    fn right(&self) -> f64 {
        self.left + self.cell * self.layers as f64
    }
}

impl LayerMaps {
    /// The maps as an SVG document.
    pub fn to_svg(&self) -> Result<String> {
        let labels = self.maps.iter().flat_map(|map| &map.rows);
        let label_width = labels
            .map(|(label, _)| text_width(label, LABEL_SIZE, false).min(LABEL_WIDTH))
            .fold(0.0, f64::max);
        let columns = Columns {
            left: MARGIN + label_width + 10.0,
            cell: (MAP_WIDTH / self.layers.max(1) as f64).min(MOST_CELL),
            layers: self.layers.max(1),
        };
        let titles = self.maps.iter().map(|map| &map.title);
        let widest = titles
            .map(|title| text_width(title, MAP_TITLE_SIZE, true))
            .fold(0.0, f64::max);
        let width = (columns.right() + BAR_ROOM).max(MARGIN + widest) + MARGIN;
        let head = MARGIN + TITLE_SIZE + 14.0;
        let height = head + self.maps.iter().map(LayerMap::height).sum::<f64>();
        let mut svg = Svg::new(width, height, &self.title);
        let title = fit(&self.title, TITLE_SIZE, true, width - 2.0 * MARGIN);
        svg.text(Text {
            bold: true,
            ..Text::new(&title, MARGIN, MARGIN + TITLE_SIZE, TITLE_SIZE)
        });
        let mut top = head;
        for map in &self.maps {
            map.draw(&mut svg, &columns, top)?;
            top += map.height();
        }
        Ok(svg.finish())
    }
}

impl LayerMap {
    fn rows_height(&self) -> f64 {
        self.rows.len().max(1) as f64 * ROW_HEIGHT
    }

    /// With the title above and the layers' numbers below.
    fn height(&self) -> f64 {
        let below = TICK_SIZE + LABEL_SIZE + 22.0;
        MAP_TITLE_SIZE + 12.0 + (self.rows_height() + below).max(BAR_HEIGHT + 10.0) + 18.0
    }

    fn draw(&self, svg: &mut Svg, columns: &Columns, top: f64) -> Result<()> {
        svg.text(Text {
            bold: true,
            ..Text::new(&self.title, MARGIN, top + MAP_TITLE_SIZE, MAP_TITLE_SIZE)
        });
        let y = top + MAP_TITLE_SIZE + 12.0;
        let (x, width, height) = (
            columns.left,
            columns.right() - columns.left,
            self.rows_height(),
        );
        match self.axis() {
            Some(axis) => {
                let png = self.colours(columns.layers, &axis)?;
                svg.pixels(x, y, width, height, &png);
                draw_bar(
                    svg,
                    &axis,
                    &self.bar_label,
                    (columns.right() + 14.0, y),
                    BAR_HEIGHT,
                )?;
            }
            None => svg.text(Text {
                anchor: Anchor::Middle,
                fill: MUTED,
                ..Text::new("none", x + width / 2.0, y + height / 2.0 + 4.0, LABEL_SIZE)
            }),
        }
        for (index, (label, _)) in self.rows.iter().enumerate() {
            let middle = y + (index as f64 + 0.5) * ROW_HEIGHT;
            let label = fit(label, LABEL_SIZE, false, LABEL_WIDTH);
            svg.text(Text {
                anchor: Anchor::End,
                ..Text::new(&label, x - 8.0, middle + LABEL_SIZE * 0.36, LABEL_SIZE)
            });
        }
        for row in 1..self.rows.len() {
            let between = y + row as f64 * ROW_HEIGHT;
            svg.line((x, between), (x + width, between), GRID, 1.0);
        }
        svg.frame(x, y, width, height, INK);
        draw_layers(svg, columns, y + height);
        Ok(())
    }

    /// A value as the colours take it.
    fn scaled(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.log10(),
        }
    }

    /// The colours' range on their own scale; none without values.
    fn axis(&self) -> Option<Axis> {
        let values = || self.rows.iter().flat_map(|(_, values)| values).copied();
        let finite = || values().filter(|value| self.scaled(*value).is_finite());
        let low = finite().fold(f64::INFINITY, f64::min);
        let high = finite().fold(f64::NEG_INFINITY, f64::max);
        (low <= high).then(|| match self.scale {
            Scale::Linear => ticks::linear(low.min(0.0), high, 4),
            Scale::Log => {
                let axis = ticks::log(low, high);
                let ticks = axis.ticks.into_iter().map(|tick| Tick {
                    value: tick.value.log10(),
                    ..tick
                });
                Axis {
                    low: axis.low.log10(),
                    high: axis.high.log10(),
                    ticks: ticks.collect(),
                }
            }
        })
    }

    /// One RGBA pixel a cell; blank cells are transparent.
    fn colours(&self, layers: usize, axis: &Axis) -> Result<Vec<u8>> {
        let mut pixels = Vec::with_capacity(4 * layers * self.rows.len());
        for (_, values) in &self.rows {
            for layer in 0..layers {
                let value = values
                    .get(layer)
                    .map_or(f64::NAN, |value| self.scaled(*value));
                if value.is_finite() {
                    let [r, g, b] = viridis((value - axis.low) / (axis.high - axis.low));
                    pixels.extend([r, g, b, 255]);
                } else {
                    pixels.extend([0; 4]);
                }
            }
        }
        let rows = self.rows.len() as u32;
        encode_png(&pixels, layers as u32, rows, ExtendedColorType::Rgba8)
    }
}

/// The layers' numbers below a map.
fn draw_layers(svg: &mut Svg, columns: &Columns, bottom: f64) {
    let last = columns.layers - 1;
    // At most one label in 30 units.
    let about = (columns.cell * columns.layers as f64 / 30.0) as usize;
    for tick in ticks::integers(0.0, last as f64, about.clamp(1, columns.layers)) {
        let x = columns.left + (tick.value + 0.5) * columns.cell;
        svg.line((x, bottom), (x, bottom + 4.0), INK, 1.0);
        svg.text(Text {
            anchor: Anchor::Middle,
            ..Text::new(&tick.label, x, bottom + 6.0 + TICK_SIZE, TICK_SIZE)
        });
    }
    svg.text(Text {
        anchor: Anchor::Middle,
        ..Text::new(
            "Layer (first is 0)",
            f64::midpoint(columns.left, columns.right()),
            bottom + 12.0 + TICK_SIZE + LABEL_SIZE,
            LABEL_SIZE,
        )
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(scale: Scale, values: &[f64]) -> LayerMap {
        LayerMap {
            title: "values".into(),
            bar_label: "mean".into(),
            rows: vec![("row".into(), values.to_vec())],
            scale,
        }
    }

    #[test]
    fn the_range_holds_all_values_and_blank_cells_none() {
        let linear = map(Scale::Linear, &[0.25, f64::NAN, 0.75]).axis();
        let axis = linear.expect("a range");
        assert!(axis.low == 0.0 && axis.high >= 0.75, "{axis:?}");
        let log = map(Scale::Log, &[120.0, 0.0, f64::NAN, 2600.0]).axis();
        let axis = log.expect("a range");
        assert!(axis.low <= 120f64.log10() && axis.high >= 2600f64.log10());
        assert!(axis.ticks.iter().any(|tick| tick.value == 3.0), "{axis:?}");
        assert_eq!(map(Scale::Linear, &[f64::NAN]).axis(), None);
        assert_eq!(map(Scale::Log, &[0.0]).axis(), None);
    }

    #[test]
    fn draws_any_number_of_layers_and_rows() {
        for layers in [0, 1, 5, 200] {
            let maps = LayerMaps {
                title: "model".into(),
                layers,
                maps: vec![
                    map(Scale::Log, &vec![500.0; layers]),
                    LayerMap {
                        rows: Vec::new(),
                        ..map(Scale::Linear, &[])
                    },
                ],
            };
            let svg = maps.to_svg().expect("an SVG");
            assert_eq!(svg.matches("Layer (first is 0)").count(), 2);
            assert!(svg.contains(">none<"));
        }
    }
}
