//! Figures: data -> SVG text -> PNG and PDF of the very same SVG, with fonts of our own.
//!
//! The SVG is written here rather than by a plotting crate because only exact text widths (taken
//! from the font that also renders the PNG) let labels be placed so that none overlap.

mod bar;
mod colour;
mod curves;
mod font;
mod head;
mod heatmap;
mod intervals;
mod layers;
mod line;
mod pdf;
mod raster;
mod ridges;
mod scale;
mod scene;
mod spread;
mod stacks;
mod svg;
mod ticks;

pub use curves::{Curve, CurveChart};
pub use heatmap::{Heatmap, HeatmapGrid, Pooled};
pub use intervals::{Band, Interval, IntervalChart, IntervalGroup};
pub use layers::{LayerMap, LayerMaps};
pub use line::{Highlight, LineChart, Marker, Series};
pub use pdf::svg_to_pdf;
pub use raster::{encode_png, figure_png, svg_to_png};
pub use ridges::{RidgeGrid, RidgePlot, RidgeShape};
pub use scale::{Scale, ScaleChoice};
pub use stacks::{StackChart, StackPanel, StackPart};

/// Colours of the Okabe-Ito palette, told apart by readers with any colour vision.
pub mod palette {
    /// Main series.
    pub const BLUE: &str = "#0072b2";
    /// Series for comparison.
    pub const GRAY: &str = "#6e6e6e";
    /// Warnings, second series.
    pub const VERMILION: &str = "#d55e00";
    /// Third series.
    pub const GREEN: &str = "#009e73";
    /// Fourth series.
    pub const PURPLE: &str = "#cc79a7";
    /// Fifth series.
    pub const SKY: &str = "#56b4e9";
    /// Sixth series.
    pub const ORANGE: &str = "#e69f00";
    /// Seventh series; of Paul Tol's muted palette, as the next one.
    pub const WINE: &str = "#882255";
    /// Eighth series.
    pub const OLIVE: &str = "#999933";
    /// Ninth series.
    pub const BLACK: &str = "#1a1a1a";
    /// Of series whose number is not known: the n-th is the n-th's, everywhere.
    pub const SERIES: [&str; 9] = [
        BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE, WINE, OLIVE, BLACK,
    ];
    /// [`BLUE`] in the background: the median beside the maximum.
    pub const BLUE_TINT: &str = "#9cc8e4";
    /// [`VERMILION`] in the background.
    pub const VERMILION_TINT: &str = "#f0bd96";
    /// [`GREEN`] in the background.
    pub const GREEN_TINT: &str = "#9bd6c3";
    /// Highlighted regions, behind the data.
    pub const HIGHLIGHT: &str = "#fdf1d6";
    /// Text and axes.
    pub(super) const INK: &str = "#1a1a1a";
    /// Secondary text.
    pub(super) const MUTED: &str = "#555555";
    /// Grid lines.
    pub(super) const GRID: &str = "#e3e3e3";
    /// Walls of 3-D plots.
    pub(super) const WALL: &str = "#f6f6f6";
    /// Emphasised labels: dark enough to read at small sizes.
    pub(super) const RED: &str = "#c00000";
}
