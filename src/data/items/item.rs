//! What an item is, whatever the set.

use clap::ValueEnum;
use serde::Serialize;

/// Whose prompts and normalisation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convention {
    /// Those of the lm-eval package (EleutherAI's lm-evaluation-harness).
    #[default]
    LmEval,
    /// Those of lighteval's common-sense tasks (examples/nanotron in its repository; TruthfulQA is the
    /// leaderboard's).
    Lighteval,
}

impl Convention {
    /// As flags and documents name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::LmEval => "lm-eval",
            Self::Lighteval => "lighteval",
        }
    }
}

/// Which choices are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    /// This one: an answer is right or wrong.
    Choice(usize),
    /// Those that are true here: an answer is as right as the share of probability on them.
    Each(Vec<bool>),
}

/// A question with its answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Its row in the file, from 1.
    pub(super) row: u64,
    pub(super) choices: Vec<Choice>,
    pub(super) right: Right,
    /// Whether the convention also chooses by likelihood a character.
    pub(super) normed: bool,
}

/// An item, and which of the task's files it is from.
pub(super) struct Read {
    pub(super) file: usize,
    pub(super) item: Item,
}

/// One answer: how likely is the continuation after the context?
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) context: String,
    pub(super) continuation: String,
    /// Characters of the answer, by which its likelihood may be divided.
    pub(super) characters: usize,
}

impl Choice {
    /// `continuation` is the answer behind what separates it from the context.
    pub(super) fn new(context: &str, delimiter: &str, answer: &str) -> Self {
        Self {
            context: context.to_owned(),
            continuation: format!("{delimiter}{answer}"),
            characters: answer.chars().count(),
        }
    }
}
