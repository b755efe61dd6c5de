//! What the targets share: a folder of their own, and the bodies of the tests.

#[path = "../../tests/support/foreign.rs"]
mod foreign;

use std::{path::Path, sync::Once};

pub(crate) use foreign::Kind;

/// A small checkpoint that has the files which a target does not make.
const BESIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/checkpoints/planted-llama");

/// Reads the bytes; an error is fine.
pub(crate) fn try_one(kind: Kind, bytes: &[u8]) {
    // A library's panic that is expected, and becomes an error, is no find.
    static HOOK: Once = Once::new();
    HOOK.call_once(massact::panics::install);
    let folder = tempfile::tempdir().expect("a folder");
    let _ = foreign::read(kind, bytes, Path::new(BESIDE), folder.path());
}
