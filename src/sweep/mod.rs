//! A sweep: many tasks, each a run of its own, and what is made of all of them.
//!
//! The tables depend on the runs and on the order of the manifest, never on when, where or in which
//! order the tasks were done.
#![forbid(unsafe_code)]

pub mod merge;
pub mod published;
pub mod runs;
pub mod task;
pub mod trajectory;

pub use runs::MeasuredRun;
pub use task::{Finished, Task};
