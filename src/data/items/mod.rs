//! Multiple-choice items for downstream accuracy: rows of a set become pairs of a context and a
//! continuation by the conventions of an evaluation harness, and these become tokens.

mod encode;
mod fields;
mod item;
mod load;
mod own;
mod prompts;
mod python;
mod sets;
mod table;

pub use encode::{Request, Task, TaskItem};
pub use item::{Convention, Right};
pub use load::{Reading, TaskSource, load};
pub use sets::names;
