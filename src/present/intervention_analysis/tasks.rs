//! Downstream accuracy: tables, and every item.

use serde_json::json;

use crate::{
    error::{Error, Result},
    experiments::intervention_analysis::{InterventionAnalysis, Score, TaskReport},
    present::Artifacts,
    report::{
        LongTable,
        html::Section,
        long_table::{Column, Kind},
        number::listed,
        records::Records,
        table::{Align, Row, Table},
    },
};

/// What the mean over the tasks is called.
const MEAN: &str = "mean";

/// Two numbers this many standard errors of their difference apart differ (95 %).
const APART: f64 = 1.96;

/// A row an answer and intervention.
const COLUMNS: &[Column] = &[
    Column::full("task", Kind::Text),
    Column::full("convention", Kind::Text),
    Column::full("item", Kind::Integer),
    Column::full("row", Kind::Integer),
    Column::full("choice", Kind::Integer),
    Column::full("gold", Kind::Flag),
    Column::full("tokens", Kind::Integer),
    Column::full("characters", Kind::Integer),
    Column::full("intervention", Kind::Text),
    Column::full("log_likelihood", Kind::Number),
    Column::full("chosen", Kind::Flag),
    Column::nullable("chosen_norm", Kind::Flag),
];

/// Adds the tables, the items' files, and to the page a section; returns what a terminal shows.
pub(super) fn add(
    artifacts: &mut Artifacts,
    sections: &mut Vec<Section>,
    result: &InterventionAnalysis,
) -> Result<Option<Table>> {
    if result.tasks.is_empty() {
        return Ok(None);
    }
    let table = table(result);
    sections.push(super::page::table("Downstream accuracy", &table));
    artifacts.sheet("accuracy", table.clone(), records(result));
    artifacts.file("task_items.jsonl", lines(&result.tasks)?);
    let items = items(result);
    artifacts.file(format!("{}.parquet", items.name), items.to_parquet()?);
    Ok(Some(table))
}

/// Says so where zeroing leaves answers as they are, which hides its effect.
pub(super) fn notice(result: &InterventionAnalysis) -> Option<String> {
    let answers: usize = result.tasks.iter().map(|task| task.choices).sum();
    let scores = result
        .tasks
        .iter()
        .map(|task| task.accuracy.get("set_to_zero"));
    let treated = scores.map(|score| score.map(|score| score.choices_treated));
    let treated: usize = treated.sum::<Option<usize>>()?;
    (result.first_layer.is_some() && treated < answers).then(|| {
        format!(
            "tasks: in {} of {answers} answers no massive activation is overwritten at layer {}; where \
             those are of the BOS token, --task-add-bos-token true puts it before every text",
            answers - treated,
            listed(&result.layers_written)
        )
    })
}

/// One row an intervention and task, and one for the mean.
fn table(result: &InterventionAnalysis) -> Table {
    let mut table = Table::new([
        ("intervention", Align::Left),
        ("task", Align::Left),
        ("items", Align::Right),
        ("acc", Align::Left),
        ("acc_norm", Align::Left),
    ]);
    for intervention in &result.interventions {
        for task in &result.tasks {
            let of = |name: &str| &task.accuracy[name].score;
            let (score, original) = (of(intervention), of("original"));
            let cells = [
                intervention.clone(),
                task.name.clone(),
                task.items.to_string(),
                number(Some(score.acc), score.acc_stderr),
                number(score.acc_norm, score.acc_norm_stderr),
            ];
            table.push(Row::new(cells).emphasised(apart(score, original)));
        }
        if result.tasks.len() > 1 {
            let of = |name: &str| &result.tasks_mean[name];
            let (score, original) = (of(intervention), of("original"));
            let items: usize = result.tasks.iter().map(|task| task.items).sum();
            let cells = [
                intervention.clone(),
                format!("{MEAN} of {} tasks", result.tasks.len()),
                items.to_string(),
                number(Some(score.acc), score.acc_stderr),
                number(score.acc_norm, score.acc_norm_stderr),
            ];
            table.push(Row::new(cells).emphasised(apart(score, original)));
        }
    }
    table
}

/// Whether the accuracy is another than the original's by more than chance lets expect.
fn apart(score: &Score, original: &Score) -> bool {
    match (score.acc_stderr, original.acc_stderr) {
        (Some(a), Some(b)) => (score.acc - original.acc).abs() > APART * a.hypot(b),
        _ => false,
    }
}

/// `0.4312 ± 0.0049`
fn number(value: Option<f64>, error: Option<f64>) -> String {
    match (value, error) {
        (Some(value), Some(error)) => format!("{value:.4} ± {error:.4}"),
        (Some(value), None) => format!("{value:.4}"),
        (None, _) => String::new(),
    }
}

fn records(result: &InterventionAnalysis) -> Records {
    let mut records = Records::new([
        "intervention",
        "task",
        "convention",
        "items",
        "acc",
        "acc_stderr",
        "acc_norm",
        "acc_norm_stderr",
        "choices",
        "choices_treated",
    ]);
    for intervention in &result.interventions {
        for task in &result.tasks {
            let accuracy = &task.accuracy[intervention];
            records.push(json!([
                intervention,
                task.name,
                task.convention,
                task.items,
                accuracy.score.acc,
                accuracy.score.acc_stderr,
                accuracy.score.acc_norm,
                accuracy.score.acc_norm_stderr,
                task.choices,
                accuracy.choices_treated,
            ]));
        }
        let mean = &result.tasks_mean[intervention];
        records.push(json!([
            intervention,
            MEAN,
            result.tasks[0].convention,
            result.tasks.iter().map(|task| task.items).sum::<usize>(),
            mean.acc,
            mean.acc_stderr,
            mean.acc_norm,
            mean.acc_norm_stderr,
            result.tasks.iter().map(|task| task.choices).sum::<usize>(),
            null,
        ]));
    }
    records
}

/// Every item as a line of JSON.
fn lines(tasks: &[TaskReport]) -> Result<String> {
    let mut text = String::new();
    for task in tasks {
        for (index, item) in task.each.iter().enumerate() {
            let line = json!({
                "task": task.name,
                "convention": task.convention,
                "item": index,
                "row": item.row,
                "gold": item.gold,
                "tokens": item.tokens,
                "characters": item.characters,
                "results": item.results,
            });
            let line = serde_json::to_string(&line)
                .map_err(|error| Error::new("task_items.jsonl", error))?;
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// The same as a long table.
fn items(result: &InterventionAnalysis) -> LongTable {
    let mut table = LongTable::new("task_items", COLUMNS);
    for task in &result.tasks {
        for (index, item) in task.each.iter().enumerate() {
            for choice in 0..item.tokens.len() {
                for intervention in &result.interventions {
                    let found = &item.results[intervention];
                    table.push([
                        (&task.name).into(),
                        task.convention.into(),
                        index.into(),
                        item.row.into(),
                        choice.into(),
                        item.gold.contains(&choice).into(),
                        item.tokens[choice].into(),
                        item.characters[choice].into(),
                        intervention.into(),
                        found.log_likelihoods[choice].into(),
                        (found.chosen == choice).into(),
                        found.chosen_norm.map(|chosen| chosen == choice).into(),
                    ]);
                }
            }
        }
    }
    table
}
