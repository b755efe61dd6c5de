//! `check_has_massive_activations.txt`.

use std::fmt::Write;

use half::{bf16, f16};

use super::{RULE, python_float};

/// Name of the file.
pub const EXISTENCE_FILE: &str = "check_has_massive_activations.txt";

/// The precision that values are rounded to before they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextDtype {
    /// Rounded to float32.
    Float32,
    /// Rounded to float16.
    Float16,
    /// Rounded to bfloat16, then shown as float16, as the reference does.
    Bfloat16,
}

impl TextDtype {
    /// `value` in this precision, widened again.
    pub fn round(self, value: f64) -> f64 {
        match self {
            Self::Float32 => f64::from(value as f32),
            Self::Float16 => f16::from_f64(value).to_f64(),
            Self::Bfloat16 => f16::from_f64(bf16::from_f64(value).to_f64()).to_f64(),
        }
    }
}

/// One line per massive layer: (layer, mean over sequences of the largest |value|).
pub fn existence_text(model_name: &str, massive: &[(usize, f64)], dtype: TextDtype) -> String {
    let mut text = format!(
        "Model: {model_name}\nLocation & Value of Massive Activations\n{}\n",
        "=".repeat(RULE)
    );
    for &(layer, value) in massive {
        let _ = writeln!(text, "Layer-{layer}: {}", python_float(dtype.round(value)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_reference_writes_it() {
        let expected = "\
Model: Llama-2-7b-hf
Location & Value of Massive Activations
==================================================
Layer-1: 2400.0
Layer-2: 2400.0
";
        let massive = [(1, 2400.0), (2, 2403.0)];
        assert_eq!(
            existence_text("Llama-2-7b-hf", &massive, TextDtype::Bfloat16),
            expected
        );
    }

    #[test]
    fn rounds_to_the_runs_dtype() {
        let value = 1_536.123_413_085_937_5 + 1e-9;
        assert_eq!(
            python_float(TextDtype::Float32.round(value)),
            "1536.1234130859375"
        );
        assert_eq!(python_float(TextDtype::Float16.round(value)), "1536.0");
        assert_eq!(python_float(TextDtype::Bfloat16.round(1543.9)), "1544.0");
        assert_eq!(python_float(TextDtype::Float16.round(1e6)), "inf");
    }
}
