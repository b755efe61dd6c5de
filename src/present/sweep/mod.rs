//! What a sweep shows: one page with a row for each model and choice of settings.

mod rows;
mod tables;
mod trajectories;

use std::path::Path;

use crate::{
    report::html::overview::{Overview, page},
    sweep::{MeasuredRun, State, Task, published, trajectory},
};

/// A task, what became of it, and what it found if it is done and tables have something of it.
pub(crate) struct Item {
    pub(crate) task: Task,
    pub(crate) state: State,
    pub(crate) run: Option<MeasuredRun>,
}

/// The page of the sweep in `root`, whose tasks these are, in the order of the manifest.
pub(crate) fn report(title: &str, root: &Path, items: &[Item], command_line: String) -> String {
    let runs: Vec<MeasuredRun> = items.iter().filter_map(|item| item.run.clone()).collect();
    let rows = rows::rows(root, items);
    let judged = rows.iter().filter(|row| row.massive.is_some()).count();
    let massive = rows.iter().filter(|row| row.massive == Some(true)).count();
    let count = |wanted: fn(&State) -> bool| {
        items
            .iter()
            .filter(|item| wanted(&item.state))
            .count()
            .to_string()
    };
    let mut tables = tables::published(&published::compare(&runs));
    tables.extend(tables::interventions(&runs));
    page(&Overview {
        title: title.to_owned(),
        verdict: format!("{massive} of {judged} have massive activations"),
        highlight: massive > 0,
        facts: [
            ("Tasks", items.len().to_string()),
            ("Done", count(|state| matches!(state, State::Done(_)))),
            ("Failed", count(|state| matches!(state, State::Failed(_)))),
            (
                "Running",
                count(|state| matches!(state, State::Running { .. })),
            ),
            (
                "Waiting",
                count(|state| matches!(state, State::Waiting { .. })),
            ),
            ("massact", env!("CARGO_PKG_VERSION").to_owned()),
        ]
        .into_iter()
        .filter(|(_, value)| value != "0")
        .map(|(name, value)| (name.to_owned(), value))
        .collect(),
        command_line,
        trajectories: trajectories::of(&trajectory::of(&runs)),
        rows,
        tables,
    })
}
