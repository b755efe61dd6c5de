//! A sweep on a Slurm cluster: the array job that runs it, what was submitted, and what the queue says.
//!
//! Nothing but `sbatch`, `squeue` and `scontrol` is asked: clusters without accounting have no `sacct`.
#![forbid(unsafe_code)]

mod command;
mod elements;
mod queue;
mod quote;
mod script;
mod submission;

pub use command::{max_array_size, sbatch};
pub use elements::{Elements, elements};
pub use queue::{Queue, Queued};
pub use quote::word;
pub use script::{Options, Script};
pub use submission::{Submission, read};
