//! Queries that grow with their position.
#![forbid(unsafe_code)]

/// The query at `position` is multiplied by `1 + rate * ln(1 + floor((position + offset) / step))`, so that
/// softmax stays sharp among many keys (Llama 4, 2025; after Nakanishi 2025).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryGrowth {
    /// Factor on the logarithm.
    pub rate: f32,
    /// Positions between two steps.
    pub step: f32,
    /// Added to the position.
    pub offset: f32,
}

impl QueryGrowth {
    /// The factor at a position.
    pub fn factor(&self, position: usize) -> f32 {
        let steps = ((position as f32 + self.offset) / self.step).floor();
        1.0 + self.rate * steps.ln_1p()
    }
}
