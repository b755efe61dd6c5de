//! The reference program's text files, by name and to the letter, so that scripts made for it keep
//! working. Pure functions from plain data to text; Python's number and string formats included.

mod existence;
mod features;
mod perplexity;
mod python;
mod reset;
mod tensor;
mod tokens;

pub use existence::{EXISTENCE_FILE, TextDtype, existence_text};
pub use features::{FEATURES_FILE, LayerFeatures, features_text};
pub use perplexity::{PERPLEXITY_FILE, PerplexityText, perplexity_text};
pub use python::{python_float, python_str_repr};
pub use reset::{Reset, TokenGroup, reset_file, reset_text};
pub use tensor::torch_row;
pub use tokens::{
    Datum, DatumLayer, DimensionMagnitude, MassiveToken, PositionMagnitudes, TOKENS_FILE,
    TokensSummary, tokens_text,
};

/// Longest separator line the reference draws.
const RULE: usize = 50;
