//! What a run leaves behind: its folder, JSON, the reference's text files, figures and a page.
//!
//! Everything here turns plain data into bytes; only [`folder`], [`whole_folder`], [`atomic`],
//! [`identity`] and the writing of a [`long_table`] touch the disk.

pub mod atomic;
pub mod csv;
pub mod folder;
pub(crate) mod hidden;
pub mod html;
pub mod identity;
pub mod long_table;
pub mod number;
pub mod plot;
pub mod records;
pub mod run;
pub mod table;
pub mod tensors;
pub mod text;
pub mod visible;
pub mod whole_folder;

pub use atomic::{AtomicFile, write_atomic};
pub use folder::RunFolder;
pub use identity::Identity;
pub use long_table::LongTable;
pub use run::RunRecord;
pub use whole_folder::{WholeFile, WholeFolder};
