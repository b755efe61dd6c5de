//! The text inside the program: what runs without network and without files.

/// Its name as a source.
pub(crate) const NAME: &str = "builtin";

/// The text itself.
pub(super) fn text() -> &'static str {
    include_str!("../../assets/text/technical_english.txt")
}
