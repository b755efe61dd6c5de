//! Normalisations as data.
#![forbid(unsafe_code)]

/// A normalisation of `width` neighbouring values: a row, or a head of it.
#[derive(Debug, Clone)]
pub struct Norm {
    /// Which one.
    pub kind: NormKind,
    /// Modules that hold its tensors: one, or one per head.
    pub modules: Vec<String>,
    /// Values that are normalised together.
    pub width: usize,
    /// Learned factor; none is 1.
    pub weight: Option<Learned>,
    /// Added to the learned factor: 1 where the checkpoint stores its distance from 1.
    pub weight_offset: f32,
    /// Learned offset.
    pub bias: Option<Learned>,
    /// One-element tensors with the factor inside [`NormKind::Tanh`], one a module; else empty.
    pub alpha: Vec<String>,
    /// Added to the variance.
    pub epsilon: f32,
}

impl Norm {
    /// The tensor `part` of each module.
    pub fn tensors_named(&self, part: &str) -> Vec<String> {
        let modules = self.modules.iter();
        modules.map(|module| format!("{module}.{part}")).collect()
    }

    /// The tensors it reads.
    pub fn tensors(&self) -> impl Iterator<Item = &str> {
        let parts = self.weight.iter().chain(&self.bias);
        let vectors = parts.flat_map(|learned| &learned.tensors);
        vectors.chain(&self.alpha).map(String::as_str)
    }
}

/// A learned vector: one tensor, or several end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// Names.
    pub tensors: Vec<String>,
    /// Shape of each.
    pub shape: Vec<usize>,
}

impl Learned {
    /// One tensor `[width]`.
    pub fn vector(tensor: String, width: usize) -> Self {
        Self {
            tensors: vec![tensor],
            shape: vec![width],
        }
    }
}

/// Kind of normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps) * w` (Zhang & Sennrich 2019).
    Rms,
    /// `(x - mean) / sqrt(var + eps) * w + b` (Ba et al. 2016), biased variance.
    Layer,
    /// `w * tanh(alpha x) + b` (DyT, Zhu et al. 2025), which has no statistics.
    Tanh,
}
