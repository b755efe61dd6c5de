//! Statistics of magnitudes.
#![forbid(unsafe_code)]

use serde::Serialize;

use super::{Rows, Tensors};
use crate::error::Result;

/// Which magnitudes to report for a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StatisticsRequest {
    /// Entries of largest magnitude to list.
    pub top_k: usize,
    /// An entry is massive if |x| is above this...
    pub abs_threshold: f32,
    /// ...and above this times the median of |x|.
    pub rel_threshold: f32,
    /// Whether to find mean and standard deviation, too.
    pub moments: bool,
}

/// One value of a tensor and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Entry {
    /// Token position in the sequence.
    pub position: usize,
    /// Index in the row.
    pub dimension: usize,
    /// Signed value.
    pub value: f32,
}

/// Magnitudes of one sequence's rows at one site.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// max |x|
    pub max: f32,
    /// Exact median of |x|: the lower of the two middle values when their count is even.
    pub median: f32,
    /// The `top_k` entries of largest magnitude, descending; ties by position, then dimension.
    pub top: Vec<Entry>,
    /// All massive entries, by position, then dimension.
    pub massive: Vec<Entry>,
    /// Mean of x, signed, and its standard deviation about it, if asked for: of these values, not of what
    /// they might be a sample of, so the squares' sum is divided by their number.
    pub moments: Option<[f64; 2]>,
    /// Values that are infinite or not a number.
    pub non_finite: usize,
}

/// Mean and standard deviation of `count` values with this sum and sum of squares. In float64, with
/// 11 digits to spare beyond float32's, the difference of squares loses nothing that matters unless
/// the mean is ten thousand times the deviation.
pub(super) fn moments(count: usize, [sum, squares]: [f64; 2]) -> [f64; 2] {
    let count = count.max(1) as f64;
    let mean = sum / count;
    [mean, (squares / count - mean * mean).max(0.0).sqrt()]
}

/// Median, largest and massive entries of |x|.
pub trait Magnitudes: Tensors {
    /// Magnitude statistics of each sequence's rows.
    fn statistics(
        &self,
        x: &Self::Tensor,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Self::Pending>;
    /// `x += other`, and the statistics of the sum: [`super::Elementwise::add`] and
    /// [`Magnitudes::statistics`] in one pass, with the same bits. The sequences are all of `x`.
    fn add_statistics(
        &self,
        x: &mut Self::Tensor,
        other: &Self::Tensor,
        sequences: &[Rows],
        request: &StatisticsRequest,
    ) -> Result<Self::Pending>;
    /// Bytes of the device's memory that a list of the massive values of `[rows, columns]` needs before it is known
    /// how many there are.
    fn list_bytes(&self, _rows: usize, _columns: usize, _request: &StatisticsRequest) -> usize {
        0
    }
    /// Brings statistics to the host, one per sequence.
    fn read_statistics(&self, pending: Self::Pending) -> Result<Vec<Statistics>>;
}
