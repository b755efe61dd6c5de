//! Element types of a run.
#![forbid(unsafe_code)]

use std::fmt;

use crate::{
    error::{Error, Result},
    model::dtype::DType,
};

/// The types that a backend computes in. Sums, softmax, norms and statistics are in float32 in any
/// case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision {
    arithmetic: DType,
    residual: DType,
}

impl Precision {
    /// Weights and everything inside a layer's parts in `arithmetic`, the residual stream in
    /// `residual`: the same type, or float32, in which massive activations keep their digits
    /// (bfloat16 rounds 2400 to a multiple of 16) and no sum overflows (float16 ends at 65504).
    pub fn new(arithmetic: DType, residual: DType) -> Result<Self> {
        if residual != arithmetic && residual != DType::Float32 {
            return Err(Error::usage(
                "--residual-dtype",
                format!(
                    "{residual} is narrower than, or other than, the arithmetic's {arithmetic}"
                ),
            )
            .remedy(if arithmetic == DType::Float32 {
                "use float32".to_owned()
            } else {
                format!("use {arithmetic} or float32")
            }));
        }
        Ok(Self {
            arithmetic,
            residual,
        })
    }

    /// The type of weights and of what lies inside a layer's parts.
    pub fn arithmetic(self) -> DType {
        self.arithmetic
    }

    /// The type of the residual stream and of what is added to it.
    pub fn residual(self) -> DType {
        self.residual
    }

    /// The type of a result.
    pub(super) fn of(self, target: Target) -> DType {
        match target {
            Target::Part => self.arithmetic,
            Target::Stream => self.residual,
        }
    }

    /// What to do about values that overflowed.
    pub(crate) fn overflow_remedy(self) -> &'static str {
        match (self.arithmetic, self.residual) {
            (DType::Float16, DType::Float16) => {
                "use --residual-dtype float32, --dtype bfloat16 or --dtype float32"
            }
            (DType::Float16, _) => "use --dtype bfloat16 or --dtype float32",
            // Its range is float32's.
            (DType::BFloat16, _) => {
                "the checkpoint's weights are damaged or overflowed when they were saved, unless \
                 --dtype float32 helps"
            }
            (DType::Float32, _) => {
                "the checkpoint's weights are damaged or overflowed when they were saved; get it \
                 in another dtype or revision"
            }
        }
    }
}

/// Everything in one type.
impl From<DType> for Precision {
    fn from(dtype: DType) -> Self {
        Self {
            arithmetic: dtype,
            residual: dtype,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.arithmetic)?;
        if self.residual != self.arithmetic {
            write!(f, " with a residual stream in {}", self.residual)?;
        }
        Ok(())
    }
}

/// Where the result of an operation goes, which decides its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Into another operation of the same part of a layer.
    Part,
    /// Into the residual stream: it is added to the stream, or becomes it.
    Stream,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_residual_stream_is_never_narrower() {
        use DType::{BFloat16, Float16, Float32};
        for (arithmetic, residual, fits) in [
            (Float32, Float32, true),
            (Float16, Float16, true),
            (Float16, Float32, true),
            (BFloat16, Float32, true),
            (Float32, BFloat16, false),
            (Float16, BFloat16, false),
        ] {
            let precision = Precision::new(arithmetic, residual);
            assert_eq!(precision.is_ok(), fits, "{arithmetic}, {residual}");
        }
    }

    #[test]
    fn names_both_types() {
        let mixed = Precision::new(DType::BFloat16, DType::Float32).expect("fits");
        let text = "bfloat16 with a residual stream in float32";
        assert_eq!(mixed.to_string(), text);
        assert_eq!(Precision::from(DType::Float16).to_string(), "float16");
    }
}
