//! A grid of heat maps, one per layer, with tokens along both sides.

use std::collections::BTreeSet;

use image::ExtendedColorType;

use super::bar::{self, draw_bar};
use super::colour::viridis;
use super::font::{fit, text_width};
use super::head::Head;
use super::palette::{INK, MUTED, RED};
use super::raster::encode_png;
use super::spread::{Place, Spread};
use super::svg::{Anchor, Svg, Text};
use super::ticks;
use crate::error::Result;

const MARGIN: f64 = 20.0;
const MAP_TITLE_SIZE: f64 = 17.0;
const NO_VALUES_SIZE: f64 = 12.0;
/// Most cells along a side; more tokens than this share cells.
const MAX_CELLS: usize = 256;
/// Side of a map with few or many tokens.
const MAP_SIDES: (f64, f64) = (250.0, 440.0);
/// Size of the labels, which is the least distance between their baselines, where tokens are many and
/// where they are few.
const LABEL_SIZES: (f64, f64) = (12.0, 16.0);
/// Longest token label, in its size.
const LABEL_EMS: f64 = 7.0;
const BAR_GAP: f64 = 8.0;
/// A line from a label that was moved to its key.
const LEADER: f64 = 10.0;

/// One map.
#[derive(Debug, Clone, PartialEq)]
pub struct Heatmap {
    /// Above the map: "Layer 1".
    title: String,
    rows: usize,
    columns: usize,
    /// `[rows, columns]` in cells; NaN where a cell stays blank.
    cells: Vec<f32>,
}

impl Heatmap {
    /// A map of `[rows, columns]` `values`: one row per query, one column per key. Entries that are not
    /// finite stay blank. Only what can be shown is kept: large maps share cells.
    pub fn new(title: String, values: &[f32], rows: usize, columns: usize) -> Self {
        let bin = bin(rows, columns);
        let across = columns.div_ceil(bin);
        let mut cells = vec![f32::NAN; rows.div_ceil(bin) * across];
        for (row, values) in values.chunks(columns.max(1)).enumerate() {
            for (column, value) in values.iter().enumerate().filter(|(_, v)| v.is_finite()) {
                // The mean would hide a sink: one bright column among many dark ones.
                if let Some(cell) = cells.get_mut(row / bin * across + column / bin) {
                    // f32::max prefers the number over NaN.
                    *cell = cell.max(*value);
                }
            }
        }
        Self {
            title,
            rows,
            columns,
            cells,
        }
    }

    /// Number of keys.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The map with `factor` cells along a side in one, the largest of them.
    pub fn pooled(&self, factor: usize) -> Pooled {
        let bin = bin(self.rows, self.columns);
        let across = self.columns.div_ceil(bin);
        let rows = self.rows.div_ceil(bin).div_ceil(factor);
        let columns = across.div_ceil(factor);
        let mut values = vec![f32::NAN; rows * columns];
        for (row, cells) in self.cells.chunks(across.max(1)).enumerate() {
            for (column, value) in cells.iter().enumerate() {
                let cell = &mut values[row / factor * columns + column / factor];
                *cell = cell.max(*value);
            }
        }
        Pooled {
            bin: bin * factor,
            rows,
            columns,
            values,
        }
    }
}

/// A map of fewer cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooled {
    /// Values along a side of a cell.
    pub bin: usize,
    /// Cells down.
    pub rows: usize,
    /// Cells across.
    pub columns: usize,
    /// `[rows, columns]`; NaN where a cell stays blank.
    pub values: Vec<f32>,
}

/// Columns and rows of a sheet of so many panels: at most four in a row, and rows of about one length.
pub(super) fn sheet(panels: usize) -> (usize, usize) {
    let rows = panels.div_ceil(4);
    (panels.div_ceil(rows.max(1)).max(1), rows)
}

/// Values along either side that share a cell.
fn bin(rows: usize, columns: usize) -> usize {
    rows.max(columns).div_ceil(MAX_CELLS).max(1)
}

/// Maps of one shape, [`row_labels`](Self::row_labels) x [`column_labels`](Self::column_labels).
#[derive(Debug, Clone, PartialEq)]
pub struct HeatmapGrid {
    /// Above the grid.
    pub title: String,
    /// What the colours mean and other notes; one line below the title.
    pub note: String,
    /// The maps in reading order.
    pub maps: Vec<Heatmap>,
    /// Tokens of the queries, top to bottom.
    pub row_labels: Vec<String>,
    /// Tokens of the keys, left to right.
    pub column_labels: Vec<String>,
    /// Columns whose label is bold and red, and always there.
    pub emphasised: BTreeSet<usize>,
    /// Further columns whose label is bold, and always there.
    pub bright: BTreeSet<usize>,
    /// Beside the colour bars: what the colours mean.
    pub bar_label: String,
    /// Whether all maps have one scale, and one bar.
    pub shared: bool,
}

impl HeatmapGrid {
    /// The grid as an SVG document.
    pub fn to_svg(&self) -> Result<String> {
        let layout = Layout::new(self);
        let (columns, rows) = sheet(self.maps.len());
        let note = self.full_note(&layout);
        let shared = self.shared_axis();
        let bar_width = shared.as_ref().map_or(0.0, |_| BAR_GAP + bar::WIDTH);
        let grid_width = columns as f64 * layout.panel_width + bar_width;
        let head = Head::new(&self.title, &note, grid_width, MARGIN);
        let width = 2.0 * MARGIN + head.width;
        let height = head.height + rows as f64 * layout.panel_height + MARGIN;
        let mut svg = Svg::new(width, height, &self.title);
        head.draw(&mut svg);
        for (number, map) in self.maps.iter().enumerate() {
            let left = MARGIN + (number % columns) as f64 * layout.panel_width;
            let top = head.height + (number / columns) as f64 * layout.panel_height;
            self.draw_map(&mut svg, &layout, map, (left, top), shared.as_ref())?;
        }
        if let Some(axis) = &shared {
            let x = MARGIN + columns as f64 * layout.panel_width + BAR_GAP;
            let y = head.height + MAP_TITLE_SIZE + 10.0;
            draw_bar(&mut svg, axis, &self.bar_label, (x, y), layout.map_height)?;
        }
        Ok(svg.finish())
    }

    /// The scale of all maps together, where that is wanted and there is a value.
    fn shared_axis(&self) -> Option<ticks::Axis> {
        if !self.shared {
            return None;
        }
        let ranges = self.maps.iter().map(|map| range(&map.cells));
        let (low, high) = ranges.fold((f64::INFINITY, f64::NEG_INFINITY), |all, one| {
            (all.0.min(one.0), all.1.max(one.1))
        });
        (low <= high).then(|| ticks::linear_inside(low, high, 7))
    }

    fn full_note(&self, layout: &Layout) -> String {
        let mut note = self.note.clone();
        let mut add = |text: &str| {
            if !note.is_empty() {
                note.push_str("; ");
            }
            note.push_str(text);
        };
        if layout.bin > 1 {
            add(&format!(
                "each cell shows the largest of {0} x {0} values",
                layout.bin
            ));
        }
        if layout.row_labels.len() < self.row_labels.len()
            || layout.column_labels.len() < self.column_labels.len()
        {
            add("some token labels are left out");
        }
        note
    }

    fn draw_map(
        &self,
        svg: &mut Svg,
        layout: &Layout,
        map: &Heatmap,
        (left, top): (f64, f64),
        shared: Option<&ticks::Axis>,
    ) -> Result<()> {
        let (x, y) = (left + layout.row_label_width, top + MAP_TITLE_SIZE + 10.0);
        let (width, height) = (layout.map_width, layout.map_height);
        let title = fit(&map.title, MAP_TITLE_SIZE, true, layout.panel_width - 10.0);
        svg.text(Text {
            anchor: Anchor::Middle,
            bold: true,
            ..Text::new(
                &title,
                x + width / 2.0,
                top + MAP_TITLE_SIZE,
                MAP_TITLE_SIZE,
            )
        });
        let cells = &map.cells;
        let (low, high) = range(cells);
        if low <= high {
            // A map of one value is drawn in the middle colour of a scale around it.
            let own = ticks::linear_inside(low, high, 7);
            let axis = shared.unwrap_or(&own);
            let bin = bin(map.rows, map.columns);
            let (rows, columns) = (map.rows.div_ceil(bin), map.columns.div_ceil(bin));
            let png = colour_cells(cells, columns, rows, axis)?;
            svg.pixels(x, y, width, height, &png);
            if shared.is_none() {
                let corner = (x + width + BAR_GAP, y);
                draw_bar(svg, axis, &self.bar_label, corner, height)?;
            }
        } else {
            svg.text(Text {
                anchor: Anchor::Middle,
                fill: MUTED,
                ..Text::new(
                    "no values",
                    x + width / 2.0,
                    y + height / 2.0,
                    NO_VALUES_SIZE,
                )
            });
        }
        svg.frame(x, y, width, height, INK);
        self.draw_labels(svg, layout, x, y);
        Ok(())
    }

    fn draw_labels(&self, svg: &mut Svg, layout: &Layout, x: f64, y: f64) {
        let size = layout.label_size;
        for (place, label) in &layout.row_labels {
            svg.text(Text {
                anchor: Anchor::End,
                ..Text::new(label, x - 4.0, y + place.shown + size * 0.36, size)
            });
        }
        let bottom = y + layout.map_height;
        for (place, label) in &layout.column_labels {
            if place.shown != place.at {
                let (from, to) = (x + place.at, x + place.shown);
                svg.line((from, bottom), (to, bottom + LEADER), MUTED, 0.7);
            }
            let emphasised = self.emphasised.contains(&place.label);
            svg.text(Text {
                anchor: Anchor::End,
                upwards: true,
                bold: emphasised || self.bright.contains(&place.label),
                fill: if emphasised { RED } else { INK },
                ..Text::new(
                    label,
                    x + place.shown + size * 0.36,
                    bottom + layout.label_gap,
                    size,
                )
            });
        }
    }

    /// Columns whose labels are never left out.
    fn always(&self) -> BTreeSet<usize> {
        self.emphasised.union(&self.bright).copied().collect()
    }
}

/// Sizes shared by all maps of a grid.
struct Layout {
    bin: usize,
    map_width: f64,
    map_height: f64,
    label_size: f64,
    /// The rows that have room for a label, and the shortened labels.
    row_labels: Vec<(Place, String)>,
    column_labels: Vec<(Place, String)>,
    row_label_width: f64,
    /// Between a map and the labels below it.
    label_gap: f64,
    panel_width: f64,
    panel_height: f64,
}

impl Layout {
    fn new(grid: &HeatmapGrid) -> Self {
        let (rows, columns) = (grid.row_labels.len(), grid.column_labels.len());
        let most = rows.max(columns).max(1);
        let side = (most as f64 * LABEL_SIZES.0).clamp(MAP_SIDES.0, MAP_SIDES.1);
        let unit = side / most as f64;
        let label_size = (unit * 0.7).clamp(LABEL_SIZES.0, LABEL_SIZES.1);
        let (map_width, map_height) = ((columns.max(1)) as f64 * unit, (rows.max(1)) as f64 * unit);
        let choose = |labels: &[String], always: &BTreeSet<usize>| -> Vec<(Place, String)> {
            let spread = Spread {
                count: labels.len(),
                unit,
                pitch: label_size,
            };
            let places = spread.choose(always).into_iter();
            places
                .map(|place| {
                    let bold = always.contains(&place.label);
                    let text = &labels[place.label];
                    (place, fit(text, label_size, bold, LABEL_EMS * label_size))
                })
                .collect()
        };
        let row_labels = choose(&grid.row_labels, &BTreeSet::new());
        let column_labels = choose(&grid.column_labels, &grid.always());
        let widest = |labels: &[(Place, String)]| {
            labels
                .iter()
                .map(|(_, label)| text_width(label, label_size, true))
                .fold(0.0, f64::max)
        };
        let row_label_width = widest(&row_labels) + 8.0;
        let moved = column_labels
            .iter()
            .any(|(place, _)| place.shown != place.at);
        let label_gap = if moved { LEADER + 3.0 } else { 4.0 };
        let bar_width = if grid.shared { 0.0 } else { bar::WIDTH };
        Self {
            bin: bin(rows, columns),
            map_width,
            map_height,
            label_size,
            row_label_width,
            label_gap,
            panel_width: row_label_width + map_width + BAR_GAP + bar_width + 14.0,
            panel_height: MAP_TITLE_SIZE
                + 10.0
                + map_height
                + label_gap
                + widest(&column_labels)
                + 30.0,
            row_labels,
            column_labels,
        }
    }
}

/// Least and largest finite value; (inf, -inf) if there is none.
fn range(values: &[f32]) -> (f64, f64) {
    let finite = || {
        values
            .iter()
            .filter(|value| value.is_finite())
            .map(|value| f64::from(*value))
    };
    (
        finite().fold(f64::INFINITY, f64::min),
        finite().fold(f64::NEG_INFINITY, f64::max),
    )
}

/// One RGBA pixel per cell; blank cells are transparent.
fn colour_cells(cells: &[f32], columns: usize, rows: usize, bar: &ticks::Axis) -> Result<Vec<u8>> {
    let pixels: Vec<u8> = cells
        .iter()
        .flat_map(|&value| {
            if !value.is_finite() {
                return [0; 4];
            }
            let [r, g, b] = viridis((f64::from(value) - bar.low) / (bar.high - bar.low));
            [r, g, b, 255]
        })
        .collect();
    encode_png(
        &pixels,
        columns as u32,
        rows as u32,
        ExtendedColorType::Rgba8,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_take_the_largest_value() {
        let mut values = vec![f32::NAN; 600 * 600];
        values[600 * 4 + 2] = -1.0;
        values[600 * 3] = -5.0;
        let map = Heatmap::new(String::new(), &values, 600, 600);
        assert_eq!(map.cells.len(), 200 * 200);
        assert_eq!(map.cells[200], -1.0);
        assert!(map.cells[0].is_nan());
        let grid = HeatmapGrid {
            title: String::new(),
            note: String::new(),
            maps: vec![map],
            row_labels: vec!["t".into(); 600],
            column_labels: vec!["t".into(); 600],
            emphasised: BTreeSet::new(),
            bright: BTreeSet::new(),
            bar_label: "logit".into(),
            shared: false,
        };
        let note = grid.full_note(&Layout::new(&grid));
        assert!(note.contains("largest of 3 x 3"), "{note}");
    }

    #[test]
    fn sheets_have_even_rows() {
        for (panels, expected) in [
            (0, (1, 0)),
            (1, (1, 1)),
            (4, (4, 1)),
            (5, (3, 2)),
            (30, (4, 8)),
        ] {
            assert_eq!(sheet(panels), expected, "{panels}");
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(
            range(&[1.0, f32::NAN, -2.0, f32::NEG_INFINITY]),
            (-2.0, 1.0)
        );
        let (low, high) = range(&[f32::NAN]);
        assert!(low > high);
    }
}
