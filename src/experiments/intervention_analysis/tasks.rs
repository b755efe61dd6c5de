//! Downstream accuracy: what the likelihoods of a task's answers say, under every intervention.
//!
//! Of an item with answers of log-likelihoods l_i and n_i characters the model chooses the first
//! argmax of l_i (acc), or of l_i / n_i (acc_norm), and is right or wrong. Where several answers are
//! true, acc is the share of exp(l_i) that they have. A task's accuracy is the mean over its items; its
//! standard error is that of lm-eval, the sample's standard deviation over the root of their number.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use super::evaluation::Window;
use crate::{
    data::items::{Request, Right, Task, TaskItem},
    engine::Scored,
};

/// A task under every intervention.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskReport {
    /// Its name.
    pub name: String,
    /// Whose prompts and normalisation: `lm-eval`, `lighteval`.
    pub convention: &'static str,
    /// Its items.
    pub items: usize,
    /// The answers of all items, each of which is a sequence.
    pub choices: usize,
    /// By intervention.
    pub accuracy: BTreeMap<String, TaskScore>,
    /// Every item.
    #[serde(skip)]
    pub each: Vec<ItemReport>,
}

/// How well a task is done under an intervention.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskScore {
    /// Its accuracies.
    #[serde(flatten)]
    pub score: Score,
    /// Answers whose sequence has a massive activation that the intervention overwrites.
    pub choices_treated: usize,
}

/// Accuracies with their standard errors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// By log-likelihood.
    pub acc: f64,
    /// Null for a single item.
    pub acc_stderr: Option<f64>,
    /// By log-likelihood a character; null where the convention has none.
    pub acc_norm: Option<f64>,
    /// Of that.
    pub acc_norm_stderr: Option<f64>,
}

/// An item under every intervention.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemReport {
    /// Its row in the task's file, from 1.
    pub row: u64,
    /// The right answers.
    pub gold: Vec<usize>,
    /// Tokens of each answer.
    pub tokens: Vec<usize>,
    /// Characters of each answer.
    pub characters: Vec<usize>,
    /// By intervention.
    pub results: BTreeMap<String, ItemResult>,
}

/// An item under an intervention.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemResult {
    /// Of each answer, in nats.
    pub log_likelihoods: Vec<f64>,
    /// The answer of the largest.
    pub chosen: usize,
    /// The answer of the largest a character; null where the convention has none.
    pub chosen_norm: Option<usize>,
    /// 0 or 1; a share of probability where several answers are true.
    pub acc: f64,
    /// 0 or 1.
    pub acc_norm: Option<f64>,
}

/// The answers of all tasks, in the order in which they walk.
pub(super) fn requests(tasks: &[Task]) -> impl Iterator<Item = &Request> {
    let items = tasks.iter().flat_map(|task| &task.items);
    items.flat_map(|item| &item.choices)
}

/// What is predicted of an answer's sequence.
pub(super) fn scored(request: &Request) -> Scored {
    Scored {
        from: request.from,
        next: Some(request.last),
    }
}

/// The tasks' results; `windows` are their answers as they walked, and `names` the interventions, the
/// original first.
pub(super) fn reports(tasks: &[Task], windows: &[Window], names: &[String]) -> Vec<TaskReport> {
    let mut rest = windows;
    let mut reports = Vec::new();
    for task in tasks {
        let choices: usize = task.items.iter().map(|item| item.choices.len()).sum();
        let (own, later) = rest.split_at(choices);
        rest = later;
        reports.push(report(task, own, names));
    }
    reports
}

fn report(task: &Task, windows: &[Window], names: &[String]) -> TaskReport {
    let mut rest = windows;
    let mut each = Vec::new();
    for item in &task.items {
        let (own, later) = rest.split_at(item.choices.len());
        rest = later;
        let results = names.iter().enumerate().map(|(index, name)| {
            let choices = item.choices.iter().zip(own);
            let log_likelihoods = choices
                .map(|(request, window)| {
                    let mean = match index.checked_sub(1) {
                        Some(intervention) => window.nll(intervention),
                        None => window.original,
                    };
                    -mean * request.tokens() as f64
                })
                .collect();
            (
                name.clone(),
                ItemResult::of(item, task.normed, log_likelihoods),
            )
        });
        let results = results.collect();
        let of_each = |number: fn(&Request) -> usize| item.choices.iter().map(number).collect();
        each.push(ItemReport {
            row: item.row,
            gold: gold(&item.right),
            tokens: of_each(Request::tokens),
            characters: of_each(|request| request.characters),
            results,
        });
    }
    let accuracy = names.iter().enumerate().map(|(index, name)| {
        let results = || each.iter().map(|item| &item.results[name]);
        let acc: Vec<f64> = results().map(|result| result.acc).collect();
        let norm: Option<Vec<f64>> = results().map(|result| result.acc_norm).collect();
        let treated = |window: &&Window| {
            let intervention = index.checked_sub(1);
            intervention.is_some_and(|intervention| window.treated(intervention))
        };
        let score = TaskScore {
            score: Score {
                acc: mean(&acc),
                acc_stderr: standard_error(&acc),
                acc_norm: norm.as_deref().map(mean),
                acc_norm_stderr: norm.as_deref().and_then(standard_error),
            },
            choices_treated: windows.iter().filter(treated).count(),
        };
        (name.clone(), score)
    });
    TaskReport {
        name: task.name.clone(),
        convention: task.convention.name(),
        items: task.items.len(),
        choices: windows.len(),
        accuracy: accuracy.collect(),
        each,
    }
}

/// By intervention, the mean over the tasks; `acc_norm` takes the `acc` of a task that has no other. The
/// standard error is that of a mean of independent numbers.
pub(super) fn means(tasks: &[TaskReport], names: &[String]) -> BTreeMap<String, Score> {
    if tasks.is_empty() {
        return BTreeMap::new();
    }
    let of = |name: &String| {
        let scores = || tasks.iter().map(|task| &task.accuracy[name].score);
        let values: Vec<f64> = scores().map(|score| score.acc).collect();
        let normed = scores().map(|score| score.acc_norm.unwrap_or(score.acc));
        let normed: Vec<f64> = normed.collect();
        let errors: Option<Vec<f64>> = scores().map(|score| score.acc_stderr).collect();
        let normed_errors = scores().map(|score| match score.acc_norm {
            Some(_) => score.acc_norm_stderr,
            None => score.acc_stderr,
        });
        let normed_errors: Option<Vec<f64>> = normed_errors.collect();
        let together = |errors: Vec<f64>| {
            let squares: f64 = errors.iter().map(|error| error * error).sum();
            squares.sqrt() / errors.len() as f64
        };
        Score {
            acc: mean(&values),
            acc_stderr: errors.map(together),
            acc_norm: Some(mean(&normed)),
            acc_norm_stderr: normed_errors.map(together),
        }
    };
    names.iter().map(|name| (name.clone(), of(name))).collect()
}

impl ItemResult {
    fn of(item: &TaskItem, normed: bool, log_likelihoods: Vec<f64>) -> Self {
        let chosen = first_largest(&log_likelihoods);
        let lengths = item.choices.iter().map(|choice| choice.characters as f64);
        let by_length = log_likelihoods.iter().zip(lengths).map(|(l, n)| l / n);
        let chosen_norm = normed.then(|| first_largest(&by_length.collect::<Vec<_>>()));
        let is_right = |choice: usize, right: usize| f64::from(u8::from(choice == right));
        let (acc, acc_norm) = match &item.right {
            Right::Choice(right) => (
                is_right(chosen, *right),
                chosen_norm.map(|choice| is_right(choice, *right)),
            ),
            Right::Each(labels) => (share(&log_likelihoods, labels), None),
        };
        Self {
            log_likelihoods,
            chosen,
            chosen_norm,
            acc,
            acc_norm,
        }
    }
}

/// The share of probability on the answers that are true.
fn share(log_likelihoods: &[f64], labels: &[bool]) -> f64 {
    // Over the largest, so that not all vanish.
    let largest = log_likelihoods[first_largest(log_likelihoods)];
    let odds = |l: &f64| (l - largest).exp();
    let all: f64 = log_likelihoods.iter().map(odds).sum();
    let labelled = log_likelihoods.iter().zip(labels);
    let right: f64 = labelled
        .filter(|(_, label)| **label)
        .map(|(l, _)| odds(l))
        .sum();
    right / all
}

fn first_largest(values: &[f64]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

fn gold(right: &Right) -> Vec<usize> {
    match right {
        Right::Choice(right) => vec![*right],
        Right::Each(labels) => (0..labels.len()).filter(|index| labels[*index]).collect(),
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The sample's standard deviation over the root of its size.
fn standard_error(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let (mean, count) = (mean(values), values.len() as f64);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (count - 1.0)).sqrt() / count.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(right: Right, characters: &[usize]) -> TaskItem {
        let choices = characters.iter().map(|characters| Request {
            ids: vec![0, 0],
            from: 1,
            last: 0,
            characters: *characters,
        });
        TaskItem {
            row: 1,
            right,
            choices: choices.collect(),
        }
    }

    #[test]
    fn the_first_of_equal_answers_is_chosen() {
        let item = item(Right::Choice(1), &[2, 4, 1]);
        let found = ItemResult::of(&item, true, vec![-3.0, -3.0, -4.0]);
        assert_eq!((found.chosen, found.chosen_norm), (0, Some(1)));
        assert_eq!((found.acc, found.acc_norm), (0.0, Some(1.0)));
        let found = ItemResult::of(&item, false, vec![-3.0, -2.0, -4.0]);
        assert_eq!(
            (found.acc, found.chosen_norm, found.acc_norm),
            (1.0, None, None)
        );
    }

    #[test]
    fn several_true_answers_share_the_probability() {
        let item = item(Right::Each(vec![true, false, true]), &[1, 1, 1]);
        let logs = [0.5f64, 0.3, 0.2].map(f64::ln);
        // Too small for double precision, all of them.
        for shift in [0.0, -2000.0] {
            let shifted = logs.map(|log| log + shift).to_vec();
            let found = ItemResult::of(&item, false, shifted);
            assert!((found.acc - 0.7).abs() < 1e-9, "{}", found.acc);
        }
    }

    #[test]
    fn standard_errors_are_the_samples() {
        assert_eq!(standard_error(&[1.0]), None);
        let found = standard_error(&[1.0, 0.0, 0.0, 1.0]).expect("several");
        assert!((found - (1.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-12);
    }

    #[test]
    fn the_mean_over_tasks_takes_acc_where_there_is_no_other() {
        let task = |acc, acc_norm: Option<f64>, error| {
            let score = TaskScore {
                score: Score {
                    acc,
                    acc_stderr: Some(error),
                    acc_norm,
                    acc_norm_stderr: acc_norm.map(|_| 2.0 * error),
                },
                choices_treated: 0,
            };
            TaskReport {
                name: String::new(),
                convention: "lm-eval",
                items: 2,
                choices: 4,
                accuracy: BTreeMap::from([("original".to_owned(), score)]),
                each: Vec::new(),
            }
        };
        let tasks = [task(0.4, None, 0.3), task(0.6, Some(0.8), 0.4)];
        let found = &means(&tasks, &["original".to_owned()])["original"];
        assert!((found.acc - 0.5).abs() < 1e-12);
        assert!((found.acc_norm.expect("one") - 0.6).abs() < 1e-12);
        assert!((found.acc_stderr.expect("one") - 0.25).abs() < 1e-12);
        let expected = (0.3f64.powi(2) + 0.8f64.powi(2)).sqrt() / 2.0;
        assert!((found.acc_norm_stderr.expect("one") - expected).abs() < 1e-12);
    }
}
