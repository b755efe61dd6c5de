//! Many runs from one plan: what the tasks are, who has taken which, and what became of them.
//!
//! A sweep is a folder. `manifest.jsonl` has a line a task, `tasks/<id>/` the attempts at it,
//! `results/` the folders of the runs, `merged/` the tables made of them, and `slurm/` what was submitted to a
//! cluster. Any number of processes may work on one folder, also from several machines on a shared file
//! system.
#![forbid(unsafe_code)]

mod attempt;
mod downloads;
mod folder;
mod indices;
mod manifest;
pub mod merge;
mod paths;
mod plan;
mod process;
pub mod published;
pub mod runs;
mod shown;
pub mod slurm;
mod state;
mod task;
pub mod trajectory;

pub use attempt::{Claim, Claimed};
pub use downloads::{Downloads, HubModel};
pub use folder::Folder;
pub use indices::Indices;
pub use manifest::Manifest;
pub use plan::{Flag, Flags, Kind, NOT_SETTINGS, Plan};
pub use runs::MeasuredRun;
pub use state::{Failure, State};
pub use task::{Finished, Task};
