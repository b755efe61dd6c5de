//! Runs a decoder over sequences and probes it on the way.
//!
//! The schedule is layer-major: a layer's weights are made ready once, every micro-batch passes
//! through it, then the next layer follows. A model is read once however many sequences there
//! are, and may be larger than memory.
#![forbid(unsafe_code)]

mod attention;
mod experts;
mod forward;
mod intervention;
mod layer;
mod memory;
mod mlp;
mod parts;
mod plan;
mod probe;
mod schedule;
mod site;

pub use intervention::{Actions, Branch, BranchOutcome, Interventions, Overwrite};
pub use memory::Footprint;
pub use plan::{Outcome, Plan, Timings};
pub use probe::{Discard, Recorder};
pub use schedule::{run, run_with};
pub use site::Site;
