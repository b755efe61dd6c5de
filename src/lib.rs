//! massact: find, measure and intervene on massive activations in decoder LLMs.

pub mod data;
pub mod error;
pub mod hub;
pub mod interrupt;
pub mod progress;

pub use error::{Error, Result};
