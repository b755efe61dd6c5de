//! Runs a decoder over sequences and probes it on the way.
//!
//! The schedule is layer-major: a layer's weights are made ready once, every micro-batch passes
//! through it, then the next layer follows. A model is read once however many sequences there
//! are, and may be larger than memory.
#![forbid(unsafe_code)]

mod absent;
mod altup;
mod attention;
mod batch;
mod branch;
mod cards;
mod changed_visits;
mod compressed;
mod connections;
mod device;
mod edit;
mod editing;
mod experts;
mod following;
mod forward;
mod gated;
mod head_outputs;
mod heads;
mod indexer;
mod input;
mod laurel;
mod layer;
mod ledger;
mod likelihood;
mod memory;
mod mixer;
mod mlp;
mod observer;
mod parts;
mod pass;
mod per_layer;
mod plan;
mod probe;
mod profiles;
mod read;
mod schedule;
mod session;
mod side_block;
mod side_by_side;
mod site;
mod stream;
mod trace;
mod visiting;
mod visits;
mod waiting;

pub use absent::{check_attention, without_attention};
pub use device::{Device, Place, Types};
pub use edit::{Edit, Rule};
pub use head_outputs::{HeadOutputs, HeadParts};
pub use memory::{Footprint, Wants, available, budget, human, token_width};
pub use observer::{Actions, AttentionParts, Branch, BranchOutcome, Discard, Observer, Overwrite};
pub use plan::{Outcome, Plan, Reading, Scored, Spilled, Timings};
pub use schedule::run;
pub use session::Session;
pub use site::Site;
pub use trace::{Source, Step};
