//! The sets known by name: where they are, and how their rows become items.

use super::prompts::{self, Prompt};

/// A set that is known by name.
pub(super) struct Set {
    /// On the command line: lm-eval's name of the task.
    pub(super) name: &'static str,
    /// Its repository on the hub.
    pub(super) repo: &'static str,
    /// The subset, where there are several.
    pub(super) subset: Option<&'static str>,
    /// The split that is evaluated.
    pub(super) split: &'static str,
    pub(super) prompt: Prompt,
}

const SETS: [Set; 8] = [
    Set {
        name: "hellaswag",
        repo: "Rowan/hellaswag",
        subset: None,
        split: "validation",
        prompt: prompts::hellaswag,
    },
    Set {
        name: "piqa",
        // ybisk/piqa holds a loading script only; this is its content.
        repo: "baber/piqa",
        subset: None,
        split: "validation",
        prompt: prompts::piqa,
    },
    Set {
        name: "social_iqa",
        repo: "lighteval/siqa",
        subset: None,
        split: "validation",
        prompt: prompts::social_iqa,
    },
    Set {
        name: "winogrande",
        repo: "allenai/winogrande",
        subset: Some("winogrande_xl"),
        split: "validation",
        prompt: prompts::winogrande,
    },
    Set {
        name: "truthfulqa_mc1",
        repo: "truthfulqa/truthful_qa",
        subset: Some("multiple_choice"),
        split: "validation",
        prompt: prompts::truthfulqa_mc1,
    },
    Set {
        name: "truthfulqa_mc2",
        repo: "truthfulqa/truthful_qa",
        subset: Some("multiple_choice"),
        split: "validation",
        prompt: prompts::truthfulqa_mc2,
    },
    Set {
        name: "arc_easy",
        repo: "allenai/ai2_arc",
        subset: Some("ARC-Easy"),
        split: "test",
        prompt: prompts::arc,
    },
    Set {
        name: "arc_challenge",
        repo: "allenai/ai2_arc",
        subset: Some("ARC-Challenge"),
        split: "test",
        prompt: prompts::arc,
    },
];

/// The set of that name.
pub(super) fn find(name: &str) -> Option<&'static Set> {
    SETS.iter().find(|set| set.name == name)
}

/// All names.
pub fn names() -> Vec<&'static str> {
    SETS.iter().map(|set| set.name).collect()
}

impl Set {
    /// Its files in a repository's listing, sorted: `<subset>/validation-00000-of-00001.parquet`, or as
    /// the hub's own conversion names them, `<subset>/validation/0000.parquet`.
    pub(super) fn files(&self, listing: &[String]) -> Vec<String> {
        let of_subset = |path: &str| {
            self.subset
                .is_none_or(|subset| path.split('/').any(|part| part == subset))
        };
        let of_split = |path: &str| {
            path.split('/').any(|part| {
                let behind = part.strip_prefix(self.split);
                behind.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
            })
        };
        let mut files: Vec<String> = listing
            .iter()
            .filter(|path| {
                let rows = [".parquet", ".jsonl"];
                rows.iter().any(|end| path.ends_with(end)) && of_subset(path) && of_split(path)
            })
            .cloned()
            .collect();
        files.sort();
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_subset_and_split() {
        let listing: Vec<String> = [
            "README.md",
            "ARC-Easy/test-00000-of-00001.parquet",
            "ARC-Easy/train-00000-of-00001.parquet",
            "ARC-Challenge/test-00000-of-00001.parquet",
            "data/validation-00001-of-00002.parquet",
            "data/validation-00000-of-00002.parquet",
            "data/validation_extra.parquet",
            "default/validation/0000.parquet",
        ]
        .map(String::from)
        .to_vec();
        let of = |name: &str| find(name).expect("known").files(&listing);
        assert_eq!(of("arc_easy"), ["ARC-Easy/test-00000-of-00001.parquet"]);
        assert_eq!(
            of("hellaswag"),
            [
                "data/validation-00000-of-00002.parquet",
                "data/validation-00001-of-00002.parquet",
                "default/validation/0000.parquet",
            ]
        );
        assert!(of("winogrande").is_empty());
    }
}
