//! massact: find, measure and intervene on massive activations in decoder LLMs.

pub mod allocator;
pub mod backend;
pub mod bench;
mod checkpoint;
pub mod cli;
pub mod data;
pub mod engine;
pub mod error;
pub mod experiments;
mod files;
pub mod hub;
pub mod interrupt;
mod lfs;
mod mapped;
pub mod model;
mod nearest;
pub mod panics;
mod present;
pub mod progress;
pub mod report;
pub mod selftest;
pub mod sweep;
pub mod tvr;
mod visible;

pub use error::{Error, Result};
