//! The tables of tokens-analysis.

use std::collections::BTreeSet;

use crate::{
    experiments::tokens_analysis::{Magnitude, MassiveDimension, SequenceTokens, TokensAnalysis},
    present::{Artifacts, Compat},
    report::{
        number::significant,
        table::{Align, Row, Table},
        visible::token_label,
    },
};

/// Rows that stdout shows; the files hold all.
const MOST_ROWS: usize = 24;
/// Tokens that a cell lists.
const MOST_TOKENS: usize = 4;
/// Positions that a cell lists.
const MOST_POSITIONS: usize = 6;

/// Magnitudes in the first massive layer, by position and dimension.
pub(super) fn magnitudes(result: &TokensAnalysis, compat: Compat) -> Table {
    let mut table = Table::new([
        ("position", Align::Right),
        ("dimension", Align::Right),
        ("mean |h|", Align::Right),
        ("std", Align::Right),
        ("count", Align::Right),
        ("tokens there", Align::Left),
    ]);
    for found in reported(result, compat) {
        table.push(Row::new([
            found.position.to_string(),
            found.dimension.to_string(),
            significant(found.mean),
            significant(found.std),
            found.count.to_string(),
            labels(tokens_at(result, found.position, found.dimension).into_iter()),
        ]));
    }
    table
}

/// Whose magnitudes are shown.
pub(super) fn reported(result: &TokensAnalysis, compat: Compat) -> &[Magnitude] {
    match compat {
        Compat::None => &result.summary.magnitudes,
        Compat::Reference => &result.magnitudes_reference,
    }
}

/// The tokens that are massive at this place, in any layer.
pub(super) fn tokens_at(
    result: &TokensAnalysis,
    position: usize,
    dimension: usize,
) -> BTreeSet<&String> {
    let is_massive = |sequence: &&SequenceTokens| {
        let mut layers = sequence.detections.layers.iter();
        layers.any(|layer| layer.holds(position, dimension))
    };
    let massive = result.sequences.iter().filter(is_massive);
    massive
        .filter_map(|sequence| sequence.tokens.get(&position))
        .collect()
}

/// The massive dimensions of every layer.
pub(super) fn dimensions(found: &[MassiveDimension]) -> Table {
    let mut table = Table::new([
        ("layer", Align::Right),
        ("dimension", Align::Right),
        ("mean |h|", Align::Right),
        ("max |h|", Align::Right),
        ("sign", Align::Left),
        ("sequences", Align::Right),
        ("persists", Align::Right),
        ("positions", Align::Left),
        ("tokens", Align::Left),
    ]);
    for found in found {
        let positions = found.positions.iter().map(usize::to_string);
        table.push(Row::new([
            found.layer.to_string(),
            found.dimension.to_string(),
            significant(found.mean),
            significant(found.max),
            found.sign.symbol().to_owned(),
            format!("{:.0} %", 100.0 * found.sequence_share),
            found.persists.to_string(),
            shortened(positions, MOST_POSITIONS, ", "),
            labels(found.tokens.iter()),
        ]));
    }
    table
}

/// Shows the first rows in a terminal, unless there are none at all.
pub(super) fn show(mut table: Table, artifacts: &mut Artifacts) {
    let left_out = table.rows.len().saturating_sub(MOST_ROWS);
    table.rows.truncate(MOST_ROWS);
    if table.rows.is_empty() {
        return;
    }
    artifacts.table(table);
    if left_out > 0 {
        artifacts.line(format!("and {left_out} rows more, in tokens_analysis.json"));
    }
    artifacts.line("");
}

fn labels<'a>(tokens: impl ExactSizeIterator<Item = &'a String>) -> String {
    shortened(tokens.map(|token| token_label(token)), MOST_TOKENS, "  ")
}

fn shortened(items: impl ExactSizeIterator<Item = String>, most: usize, separator: &str) -> String {
    let left_out = items.len().saturating_sub(most);
    let mut shown: Vec<String> = items.take(most).collect();
    if left_out > 0 {
        shown.push(format!("… {left_out} more"));
    }
    shown.join(separator)
}
