//! Texts for the experiments: named datasets from the hub, local files and the built-in text, each
//! joined to one string, and the sequences of tokens cut from it.

pub(crate) mod builtin;
pub mod datasets;
pub mod items;
mod jsonl;
mod limits;
pub(crate) mod mt19937;
mod parquet;
mod patient;
mod row_set;
mod rows;
pub mod sequences;
mod source;
mod text;
mod watched;
mod windows;

pub use sequences::{Sequences, TextSource, TextSpec};
pub use source::{OpenHub, Wanted, load};
pub use text::read_text_file;
pub use windows::{Tail, WindowRule, windows};

/// What a text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Existence, tokens and calibration: [`datasets::CORPUS_DOCUMENTS`] random documents joined by
    /// an empty line, whatever the dataset. A `.txt` is used whole.
    Corpus,
    /// Perplexity: the dataset's own choice and joiner; of a file all documents in order.
    Evaluation,
    /// As the corpus, but the documents that evaluation takes, in order.
    Whole,
}

/// A text that is already joined.
#[derive(Debug, Clone)]
pub struct JoinedText {
    /// The text.
    pub text: String,
    /// Where it comes from.
    pub source: Provenance,
}

/// Where a text comes from, for the record of a run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Provenance {
    /// The source as the user named it.
    pub name: String,
    /// The files that were read, in order.
    pub files: Vec<SourceFile>,
    /// How many documents were joined.
    pub documents: usize,
    /// What was put between them.
    pub joiner: &'static str,
    /// What else a reader should know: revision, sampling, empty documents.
    pub note: Option<String>,
}

/// The name, the files if they have others, and the note.
impl std::fmt::Display for Provenance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        match self.files.as_slice() {
            [file] if file.path != self.name => write!(f, ", {}", file.path)?,
            [first, _, ..] => write!(f, ", {} files from {} on", self.files.len(), first.path)?,
            _ => {}
        }
        match &self.note {
            Some(note) => write!(f, " ({note})"),
            None => Ok(()),
        }
    }
}

/// A file and its checksum.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SourceFile {
    /// Its path: local, or inside the dataset's repository.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its BLAKE3, in hexadecimal.
    pub blake3: String,
}
