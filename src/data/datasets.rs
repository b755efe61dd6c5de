//! The datasets known by name: where they are, how their documents are chosen and joined, and how
//! the joined text is cut. One table, because published numbers depend on every cell of it.

use super::windows::{Tail, WindowRule};

/// Documents that the corpus role draws at random.
pub const CORPUS_DOCUMENTS: u64 = 500;

/// Which documents of a dataset are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// All, in order.
    All,
    /// The first so many, in order.
    First(u64),
    /// So many at random, in random order.
    Random(u64),
}

/// One file of a dataset on the hub. `prefix` and `suffix` leave room for the content hash that
/// upload tools put into names; for an exact name the suffix is empty and `prefix` is the name.
#[derive(Debug, Clone, Copy)]
pub struct FilePattern {
    /// How the path begins.
    pub prefix: &'static str,
    /// How the path ends.
    pub suffix: &'static str,
}

impl FilePattern {
    const fn exact(name: &'static str) -> Self {
        Self {
            prefix: name,
            suffix: "",
        }
    }

    const fn parquet(prefix: &'static str) -> Self {
        Self {
            prefix,
            suffix: ".parquet",
        }
    }

    /// Whether `path` is such a file.
    pub fn matches(&self, path: &str) -> bool {
        if self.suffix.is_empty() {
            path == self.prefix
        } else {
            path.starts_with(self.prefix) && path.ends_with(self.suffix)
        }
    }
}

/// A dataset known by name.
#[derive(Debug, Clone, Copy)]
pub struct Dataset {
    /// The name on massact's command line.
    pub name: &'static str,
    /// The repository on the hub, which also serves as a name.
    pub repo: &'static str,
    /// Its files, in reading order.
    pub files: &'static [FilePattern],
    /// Size of the download, where it is large enough to be said.
    pub download: Option<&'static str>,
    /// The column or JSON field that holds the text.
    pub column: &'static str,
    /// Put between documents.
    pub joiner: &'static str,
    /// Which documents.
    pub take: Take,
    /// Windows used at most.
    pub windows: Option<usize>,
    /// What becomes of a last slice that is one token short.
    pub tail: Tail,
}

/// The four datasets of the published experiments.
pub const DATASETS: &[Dataset] = &[
    Dataset {
        name: "redpajama",
        repo: "togethercomputer/RedPajama-Data-1T-Sample",
        // In the order of the dataset's own loading script: row numbers depend on it.
        files: &[
            FilePattern::exact("arxiv_sample.jsonl"),
            FilePattern::exact("book_sample.jsonl"),
            FilePattern::exact("c4_sample.jsonl"),
            FilePattern::exact("cc_2019-30_sample.jsonl"),
            FilePattern::exact("cc_2020-05_sample.jsonl"),
            FilePattern::exact("cc_2021-04_sample.jsonl"),
            FilePattern::exact("cc_2022-05_sample.jsonl"),
            FilePattern::exact("cc_2023-06_sample.jsonl"),
            FilePattern::exact("github_sample.jsonl"),
            FilePattern::exact("stackexchange_sample.jsonl"),
            FilePattern::exact("wikipedia_sample.jsonl"),
        ],
        download: Some("5 GB"),
        column: "text",
        joiner: "\n\n",
        take: Take::Random(CORPUS_DOCUMENTS),
        windows: None,
        tail: Tail::OneShort,
    },
    Dataset {
        name: "wikitext",
        repo: "Salesforce/wikitext",
        files: &[FilePattern::parquet("wikitext-2-raw-v1/test-")],
        download: None,
        column: "text",
        // A document is a line; empty lines are documents too.
        joiner: "\n\n",
        take: Take::All,
        windows: None,
        tail: Tail::FullOnly,
    },
    Dataset {
        name: "c4",
        repo: "NeelNanda/c4-10k",
        files: &[FilePattern::parquet("data/train-")],
        download: None,
        column: "text",
        joiner: " ",
        take: Take::First(5000),
        windows: Some(100),
        tail: Tail::OneShort,
    },
    Dataset {
        name: "pg19",
        // deepmind/pg19 holds a loading script only; this is its content as Parquet, and what the
        // published runs read.
        repo: "emozilla/pg19",
        files: &[FilePattern::parquet("data/validation-")],
        download: None,
        column: "text",
        joiner: " ",
        take: Take::First(5),
        windows: Some(100),
        tail: Tail::OneShort,
    },
];

/// The dataset of that name or repository, letter case aside.
pub fn find(name: &str) -> Option<&'static Dataset> {
    DATASETS
        .iter()
        .find(|set| set.name.eq_ignore_ascii_case(name) || set.repo.eq_ignore_ascii_case(name))
}

/// How an evaluation set of this name is cut: its own rule when it is known, else all full windows.
pub fn window_rule(name: &str, context_length: usize, bos: Option<u32>) -> WindowRule {
    let (nsamples, tail) = find(name).map_or((None, Tail::FullOnly), |set| (set.windows, set.tail));
    WindowRule {
        context_length,
        bos,
        nsamples,
        tail,
    }
}

/// How the text of existence, tokens and calibration is cut.
pub fn corpus_rule(context_length: usize, bos: Option<u32>, nsamples: usize) -> WindowRule {
    WindowRule {
        context_length,
        bos,
        nsamples: Some(nsamples),
        tail: Tail::OneShort,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_repositories_are_found() {
        assert_eq!(find("C4").map(|set| set.repo), Some("NeelNanda/c4-10k"));
        assert_eq!(
            find("salesforce/wikitext").map(|set| set.name),
            Some("wikitext")
        );
        assert!(find("imdb").is_none());
    }

    #[test]
    fn rules_of_the_published_runs() {
        assert_eq!(window_rule("pg19", 8, None).nsamples, Some(100));
        assert_eq!(window_rule("wikitext", 8, None).tail, Tail::FullOnly);
        assert_eq!(window_rule("wikitext", 8, None).nsamples, None);
        assert_eq!(window_rule("mine", 8, Some(1)).tail, Tail::FullOnly);
        assert_eq!(corpus_rule(8, None, 3).tail, Tail::OneShort);
    }

    #[test]
    fn patterns_match_hashed_names_and_nothing_else() {
        let pattern = FilePattern::parquet("data/train-");
        assert!(pattern.matches("data/train-00000-of-00001-f6f21d3dc6d657fc.parquet"));
        assert!(!pattern.matches("data/test-00000-of-00001.parquet"));
        assert!(!FilePattern::exact("c4_sample.jsonl").matches("c4_sample.jsonl.gz"));
    }
}
