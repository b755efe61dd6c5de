//! A grid of heat maps, one per layer, with tokens along both sides.

use std::collections::BTreeSet;

use image::ExtendedColorType;

use super::colour::viridis;
use super::font::{fit, text_width};
use super::palette::{INK, MUTED, RED};
use super::raster::encode_png;
use super::spread::Spread;
use super::svg::{Anchor, Svg, Text};
use super::ticks;
use crate::error::Result;

const COLUMNS: usize = 4;
const MARGIN: f64 = 20.0;
const TITLE_SIZE: f64 = 22.0;
const NOTE_SIZE: f64 = 14.0;
const MAP_TITLE_SIZE: f64 = 15.0;
const TICK_SIZE: f64 = 10.0;
/// Most cells along a side; more tokens than this share cells.
const MAX_CELLS: usize = 256;
/// Side of a map with few or many tokens.
const MAP_SIDES: (f64, f64) = (260.0, 512.0);
/// Least distance between the baselines of labels.
const LABEL_PITCH: f64 = 9.0;
/// Longest token label.
const LABEL_WIDTH: f64 = 64.0;
const BAR_WIDTH: f64 = 10.0;
const BAR_GAP: f64 = 8.0;
const BAR_TICKS: f64 = 44.0;

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
    /// Columns whose label is bold and red.
    pub emphasised: BTreeSet<usize>,
}

impl HeatmapGrid {
    /// The grid as an SVG document.
    pub fn to_svg(&self) -> Result<String> {
        let layout = Layout::new(self);
        let columns = self.maps.len().clamp(1, COLUMNS);
        let rows = self.maps.len().div_ceil(COLUMNS);
        let note = self.full_note(&layout);
        let grid_width = columns as f64 * layout.panel_width;
        let head_width = text_width(&self.title, TITLE_SIZE, true)
            .max(text_width(&note, NOTE_SIZE, false))
            .min(1200.0);
        let width = 2.0 * MARGIN + grid_width.max(head_width);
        let head = MARGIN + TITLE_SIZE + 10.0 + NOTE_SIZE + 18.0;
        let height = head + rows as f64 * layout.panel_height + MARGIN;
        let mut svg = Svg::new(width, height, &self.title);
        let room = width - 2.0 * MARGIN;
        let title = fit(&self.title, TITLE_SIZE, true, room);
        svg.text(Text {
            bold: true,
            ..Text::new(&title, MARGIN, MARGIN + TITLE_SIZE, TITLE_SIZE)
        });
        let base = MARGIN + TITLE_SIZE + 10.0 + NOTE_SIZE;
        svg.text(Text {
            fill: MUTED,
            ..Text::new(&fit(&note, NOTE_SIZE, false, room), MARGIN, base, NOTE_SIZE)
        });
        for (number, map) in self.maps.iter().enumerate() {
            let left = MARGIN + (number % COLUMNS) as f64 * layout.panel_width;
            let top = head + (number / COLUMNS) as f64 * layout.panel_height;
            self.draw_map(&mut svg, &layout, map, left, top)?;
        }
        Ok(svg.finish())
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
        left: f64,
        top: f64,
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
            let bar = ticks::linear_inside(low, high, 7);
            let bin = bin(map.rows, map.columns);
            let (rows, columns) = (map.rows.div_ceil(bin), map.columns.div_ceil(bin));
            let png = colour_cells(cells, columns, rows, &bar)?;
            svg.pixels(x, y, width, height, &png);
            draw_bar(svg, &bar, x + width + BAR_GAP, y, height)?;
        } else {
            svg.text(Text {
                anchor: Anchor::Middle,
                fill: MUTED,
                ..Text::new("no values", x + width / 2.0, y + height / 2.0, TICK_SIZE)
            });
        }
        svg.frame(x, y, width, height, INK);
        self.draw_labels(svg, layout, x, y);
        Ok(())
    }

    fn draw_labels(&self, svg: &mut Svg, layout: &Layout, x: f64, y: f64) {
        let size = layout.label_size;
        for (row, label) in &layout.row_labels {
            let at = (*row as f64 + 0.5) / self.row_labels.len() as f64 * layout.map_height;
            svg.text(Text {
                anchor: Anchor::End,
                ..Text::new(label, x - 4.0, y + at + size * 0.36, size)
            });
        }
        for (column, label) in &layout.column_labels {
            let at = (*column as f64 + 0.5) / self.column_labels.len() as f64 * layout.map_width;
            let emphasised = self.emphasised.contains(column);
            svg.text(Text {
                anchor: Anchor::End,
                upwards: true,
                bold: emphasised,
                fill: if emphasised { RED } else { INK },
                ..Text::new(
                    label,
                    x + at + size * 0.36,
                    y + layout.map_height + 4.0,
                    size,
                )
            });
        }
    }
}

/// Sizes shared by all maps of a grid.
struct Layout {
    bin: usize,
    map_width: f64,
    map_height: f64,
    label_size: f64,
    /// (row, shortened label) of the rows that have room for one.
    row_labels: Vec<(usize, String)>,
    column_labels: Vec<(usize, String)>,
    row_label_width: f64,
    panel_width: f64,
    panel_height: f64,
}

impl Layout {
    fn new(grid: &HeatmapGrid) -> Self {
        let (rows, columns) = (grid.row_labels.len(), grid.column_labels.len());
        let most = rows.max(columns).max(1);
        let side = (most as f64 * LABEL_PITCH).clamp(MAP_SIDES.0, MAP_SIDES.1);
        let unit = side / most as f64;
        let label_size = (unit * 0.9).clamp(8.0, 11.0);
        let (map_width, map_height) = ((columns.max(1)) as f64 * unit, (rows.max(1)) as f64 * unit);
        let label = |text: &String, bold: bool| fit(text, label_size, bold, LABEL_WIDTH);
        let spread = |count| Spread {
            count,
            unit,
            pitch: LABEL_PITCH,
        };
        let row_labels: Vec<_> = spread(rows)
            .choose(&BTreeSet::new())
            .into_iter()
            .map(|row| (row, label(&grid.row_labels[row], false)))
            .collect();
        let column_labels: Vec<_> = spread(columns)
            .choose(&grid.emphasised)
            .into_iter()
            .map(|column| {
                let bold = grid.emphasised.contains(&column);
                (column, label(&grid.column_labels[column], bold))
            })
            .collect();
        let widest = |labels: &[(usize, String)]| {
            labels
                .iter()
                .map(|(_, label)| text_width(label, label_size, true))
                .fold(0.0, f64::max)
        };
        let row_label_width = widest(&row_labels) + 8.0;
        Self {
            bin: bin(rows, columns),
            map_width,
            map_height,
            label_size,
            row_label_width,
            panel_width: row_label_width + map_width + BAR_GAP + BAR_WIDTH + BAR_TICKS + 14.0,
            panel_height: MAP_TITLE_SIZE + 10.0 + map_height + widest(&column_labels) + 34.0,
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

pub(super) fn draw_bar(
    svg: &mut Svg,
    bar: &ticks::Axis,
    x: f64,
    y: f64,
    height: f64,
) -> Result<()> {
    const STEPS: usize = 128;
    let pixels: Vec<u8> = (0..STEPS)
        .rev()
        .flat_map(|step| viridis(step as f64 / (STEPS - 1) as f64))
        .collect();
    let png = encode_png(&pixels, 1, STEPS as u32, ExtendedColorType::Rgb8)?;
    svg.pixels(x, y, BAR_WIDTH, height, &png);
    svg.frame(x, y, BAR_WIDTH, height, INK);
    for tick in &bar.ticks {
        let at = y + height * (bar.high - tick.value) / (bar.high - bar.low);
        let right = x + BAR_WIDTH;
        svg.line((right, at), (right + 3.0, at), INK, 1.0);
        let label = fit(&tick.label, TICK_SIZE, false, BAR_TICKS);
        svg.text(Text::new(
            &label,
            right + 5.0,
            at + TICK_SIZE * 0.36,
            TICK_SIZE,
        ));
    }
    Ok(())
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
        };
        let note = grid.full_note(&Layout::new(&grid));
        assert!(note.contains("largest of 3 x 3"), "{note}");
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
