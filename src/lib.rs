//! massact: find, measure and intervene on massive activations in decoder LLMs.

pub mod error;
pub mod interrupt;
pub mod progress;
pub mod report;

pub use error::{Error, Result};
