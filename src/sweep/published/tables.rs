//! A comparison as tables.

use super::compare::{Comparison, Value};
use crate::report::{
    LongTable,
    long_table::{Column, Kind},
    table::{Align, Row, Table},
};

const COLUMNS: &[Column] = &[
    Column::full("model", Kind::Text),
    Column::full("add_bos_token", Kind::Flag),
    Column::full("quantity", Kind::Text),
    Column::nullable("measured", Kind::Text),
    Column::nullable("published", Kind::Text),
    // The two again, where they are numbers.
    Column::nullable("measured_value", Kind::Number),
    Column::nullable("published_value", Kind::Number),
    Column::nullable("tolerance", Kind::Text),
    Column::nullable("agrees", Kind::Flag),
    Column::nullable("note", Kind::Text),
];

/// Every row for other programs.
pub fn long_table(comparison: &Comparison) -> LongTable {
    let mut table = LongTable::new("published", COLUMNS);
    for row in &comparison.rows {
        let text = |value: &Option<Value>| value.as_ref().map(ToString::to_string);
        let number = |value: &Option<Value>| match value {
            Some(Value::Number(value)) => Some(*value),
            _ => None,
        };
        table.push([
            (&row.model).into(),
            row.add_bos_token.into(),
            (&row.quantity).into(),
            text(&row.measured).as_ref().into(),
            text(&row.published).as_ref().into(),
            number(&row.measured).into(),
            number(&row.published).into(),
            row.tolerance.as_ref().into(),
            row.agrees.into(),
            row.note.as_ref().into(),
        ]);
    }
    table
}

/// Every row to be read; those that differ stand out.
pub fn table(comparison: &Comparison) -> Table {
    let mut table = Table::new([
        ("model", Align::Left),
        ("BOS", Align::Left),
        ("quantity", Align::Left),
        ("measured", Align::Right),
        ("published", Align::Right),
        ("tolerance", Align::Left),
        ("agrees", Align::Left),
    ]);
    for row in &comparison.rows {
        let shown = |value: &Option<Value>| {
            let value = value.as_ref().map(ToString::to_string);
            value.unwrap_or_else(|| "-".to_owned())
        };
        let agrees = match (row.agrees, &row.note) {
            (Some(true), _) => "yes".to_owned(),
            (Some(false), _) => "no".to_owned(),
            (None, Some(note)) => note.clone(),
            (None, None) => String::new(),
        };
        let cells = [
            row.model.clone(),
            bos(row.add_bos_token).to_owned(),
            row.quantity.clone(),
            shown(&row.measured),
            shown(&row.published),
            row.tolerance.clone().unwrap_or_default(),
            agrees,
        ];
        table.push(Row::new(cells).emphasised(row.agrees == Some(false)));
    }
    table
}

/// A row a checkpoint and BOS.
pub fn verdicts(comparison: &Comparison) -> Table {
    let mut table = Table::new([
        ("model", Align::Left),
        ("BOS", Align::Left),
        ("agree", Align::Right),
        ("compared", Align::Right),
        ("verdict", Align::Left),
    ]);
    for verdict in &comparison.verdicts {
        let cells = [
            verdict.model.clone(),
            bos(verdict.add_bos_token).to_owned(),
            verdict.agree.to_string(),
            verdict.compared.to_string(),
            verdict.text(),
        ];
        table.push(Row::new(cells).emphasised(!verdict.differ.is_empty()));
    }
    table
}

fn bos(with: bool) -> &'static str {
    if with { "with" } else { "without" }
}
