//! The page of a sweep: a row a run, its layers laid over those of others, values over training steps,
//! and tables. [`Overview`] is plain data; [`page`] makes the page of it.

mod render;
mod spark;

pub use render::page;

use serde::Serialize;

/// Everything the page shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overview {
    /// The sweep's name.
    pub title: String,
    /// The answer in a sentence: `12 of 18 checkpoints have massive activations`.
    pub verdict: String,
    /// Whether the verdict deserves attention; sets its colour.
    pub highlight: bool,
    /// Name and value pairs: plan, date, device, tasks done and failed.
    pub facts: Vec<(String, String)>,
    /// How to run it again; may be empty.
    pub command_line: String,
    /// In the order of the plan.
    pub rows: Vec<OverviewRow>,
    /// Models with revisions.
    pub trajectories: Vec<Trajectory>,
    /// What else belongs beside each other, such as measured and published numbers.
    pub tables: Vec<OverviewTable>,
}

/// One model with one revision and one choice of settings. What was not measured is left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OverviewRow {
    /// Unique on the page: legends and the table show it.
    pub label: String,
    /// Id or path, if it says more than the label.
    pub model: String,
    /// Branch, tag or commit.
    pub revision: Option<String>,
    /// The settings in which the rows differ: `add_bos_token` and `false`. Every name is a column.
    pub settings: Vec<(String, String)>,
    /// How far it came.
    pub state: State,
    /// Whether any layer is massive.
    pub massive: Option<bool>,
    /// The first massive layer.
    pub first_layer: Option<usize>,
    /// The massive dimensions.
    pub dimensions: Vec<usize>,
    /// The largest `top1 / median` of any layer.
    pub ratio: Option<f64>,
    /// Mean top-1 by layer, first to last.
    pub top1: Vec<f64>,
    /// Mean median by layer; as long as `top1`.
    pub median: Vec<f64>,
    /// Where each layer's largest value is, as the page says it: `<s> at 0, dimension 447`. As long as
    /// `top1`, or empty.
    pub places: Vec<String>,
    /// Perplexity with nothing overwritten.
    pub original: Option<f64>,
    /// Perplexity with massive activations set to zero.
    pub zeroed: Option<Changed>,
    /// Perplexity with massive activations set to their mean.
    pub mean: Option<Changed>,
    /// Pages and files of the runs.
    pub links: Vec<Link>,
}

/// How far a run came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// Not begun.
    #[default]
    Waiting,
    /// Under way.
    Running,
    /// All of it is there.
    Done,
    /// It did not finish, and why.
    Failed(String),
}

/// Perplexity under an intervention.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Changed {
    /// The perplexity; none beyond the range of double precision.
    pub perplexity: Option<f64>,
    /// Over the original's; none beyond the range of double precision.
    pub ratio: Option<f64>,
    /// Ends of the ratio's 95 % interval.
    pub interval: Option<(f64, f64)>,
}

/// A file of the sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// What is shown: `existence`.
    pub text: String,
    /// Path relative to the page, with `/`, not encoded.
    pub path: String,
}

/// One model over its revisions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Trajectory {
    /// The model.
    pub label: String,
    /// Training steps, ascending.
    pub steps: Vec<f64>,
    /// Values of each layer at each step.
    pub layers: Vec<TrajectoryLayer>,
}

/// One layer over the steps; each list is as long as the steps, NaN where a revision was not measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TrajectoryLayer {
    /// 0-based index.
    pub layer: usize,
    /// Mean top-1.
    pub max: Vec<f64>,
    /// Mean median.
    pub median: Vec<f64>,
    /// `max / median`.
    pub ratio: Vec<f64>,
    /// Curves through these values.
    pub fits: Fits,
}

/// The curves of a layer's values, where they were fitted.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Fits {
    /// Through `max`.
    pub max: Option<Fit>,
    /// Through `median`.
    pub median: Option<Fit>,
    /// Through `ratio`.
    pub ratio: Option<Fit>,
}

/// A fitted curve.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Fit {
    /// The formula with its parameters, as the page says it.
    pub says: String,
    /// The share of the values' variance that it explains.
    pub r2: f64,
    /// (step, value), close enough for a line.
    pub curve: Vec<(f64, f64)>,
}

/// A table under a heading.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OverviewTable {
    /// The heading.
    pub heading: String,
    /// What a reader should know of it; may be empty.
    pub note: String,
    /// Column titles.
    pub header: Vec<String>,
    /// Cells by row; a column of numbers is aligned right.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell, and whether it agrees with what stands beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// What is shown.
    pub text: String,
    /// Sets the colour.
    pub flag: Flag,
}

/// What a cell's colour says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flag {
    /// Nothing.
    #[default]
    Plain,
    /// Measured and published agree.
    Agrees,
    /// They do not.
    Differs,
    /// They do not, and it is known why.
    Known,
}

impl Cell {
    /// A cell that says nothing but its text.
    pub fn plain(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            flag: Flag::Plain,
        }
    }
}
