//! The overview as HTML.

use maud::{Markup, html};
use serde_json::{Value, json};

use super::{
    super::{document, is_numeric},
    Cell, Changed, Flag, Link, Overview, OverviewRow, OverviewTable, State,
    spark::sparkline,
};
use crate::report::{
    number::{ranges, significant},
    visible::visible,
};

/// The page of a sweep.
pub fn page(overview: &Overview) -> String {
    let runs = !overview.rows.is_empty();
    let layers = overview.rows.iter().any(|row| !row.top1.is_empty());
    let content = html! {
        (document::opening("sweep", &overview.title, &overview.verdict, overview.highlight))
        (document::facts(&overview.facts, &overview.command_line))
        @if runs { section {
            h2 { "Runs" }
            div #overview { (table(&overview.rows)) }
        } }
        @if layers { section.drawn {
            h2 { "Layers of the chosen runs" }
            div #overlay.chart {}
        } }
        @if !overview.trajectories.is_empty() { section.drawn {
            h2 { "Over training" }
            div #trajectories.chart {}
        } }
        @for table in &overview.tables { (further(table)) }
    };
    let title = format!("{} – sweep – massact", overview.title);
    document::document(&title, &content, Some(&data(overview)))
}

/// What the scripts draw.
fn data(overview: &Overview) -> Value {
    let rows: Vec<Value> = overview
        .rows
        .iter()
        .map(|row| {
            json!({
                "label": visible(&row.label),
                "top1": row.top1,
                "median": row.median,
                "places": row.places.iter().map(|place| visible(place)).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "charts": [], "sweep": { "rows": rows, "trajectories": overview.trajectories } })
}

/// Which columns the rows need.
struct Columns {
    settings: Vec<String>,
    revisions: bool,
    layers: bool,
    perplexity: bool,
}

impl Columns {
    fn of(rows: &[OverviewRow]) -> Self {
        let mut settings: Vec<String> = Vec::new();
        for (name, _) in rows.iter().flat_map(|row| &row.settings) {
            if !settings.contains(name) {
                settings.push(name.clone());
            }
        }
        Self {
            settings,
            revisions: rows.iter().any(|row| row.revision.is_some()),
            layers: rows.iter().any(|row| !row.top1.is_empty()),
            perplexity: rows
                .iter()
                .any(|row| row.original.is_some() || row.zeroed.is_some() || row.mean.is_some()),
        }
    }
}

fn table(rows: &[OverviewRow]) -> Markup {
    let columns = Columns::of(rows);
    html! {
        div.table.runs tabindex="0" { table {
            thead { tr {
                @if columns.layers { th { " " } }
                th { "model" }
                @if columns.revisions { th { "revision" } }
                @for name in &columns.settings { th { (visible(name)) } }
                th { "verdict" }
                @if columns.layers { th { "top-1 by layer" } }
                th.number { "ratio" }
                th.number { "first layer" }
                th { "dimensions" }
                @if columns.perplexity {
                    th.number { "perplexity" }
                    th.number { "set to zero" }
                    th.number { "set to mean" }
                }
            } }
            tbody { @for (index, row) in rows.iter().enumerate() { (line(index, row, &columns)) } }
        } }
    }
}

fn line(index: usize, row: &OverviewRow, columns: &Columns) -> Markup {
    let verdict = verdict(row);
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), significant);
    let peak = row.top1.iter().copied().fold(f64::NAN, f64::max);
    html! {
        tr data-row=(index) data-verdict=(verdict) {
            @if columns.layers { td.choose {} }
            td data-sort=(visible(&row.label)) {
                (visible(&row.label))
                @if !row.model.is_empty() && row.model != row.label {
                    br; span.muted { (visible(&row.model)) }
                }
                @if !row.links.is_empty() { div.links { @for (index, link) in row.links.iter().enumerate() {
                    @if index > 0 { " · " }
                    (anchor(link))
                } } }
            }
            @if columns.revisions { td { (visible(row.revision.as_deref().unwrap_or("–"))) } }
            @for name in &columns.settings {
                @let value = row.settings.iter().find(|(other, _)| other == name);
                td { (value.map_or("–".into(), |(_, value)| visible(value))) }
            }
            td {
                span.badge.(verdict.replace(' ', "-")) { (verdict) }
                @if let State::Failed(error) = &row.state { div.error { (visible(error)) } }
            }
            @if columns.layers {
                td data-sort=(if peak.is_nan() { String::new() } else { peak.to_string() }) {
                    (sparkline(&row.top1))
                }
            }
            td.number { (number(row.ratio)) }
            td.number { (row.first_layer.map_or_else(|| "–".to_owned(), |layer| layer.to_string())) }
            td { (if row.dimensions.is_empty() { "–".to_owned() } else { ranges(&row.dimensions) }) }
            @if columns.perplexity {
                td.number { (number(row.original)) }
                (changed(row.zeroed))
                (changed(row.mean))
            }
        }
    }
}

/// What the filter knows of a row.
fn verdict(row: &OverviewRow) -> &'static str {
    match (&row.state, row.massive) {
        (State::Failed(_), _) => "failed",
        (State::Running, _) => "running",
        (State::Waiting, _) => "waiting",
        (State::Done, Some(true)) => "massive",
        (State::Done, Some(false)) => "not massive",
        (State::Done, None) => "done",
    }
}

/// The ratio, its interval and the perplexity behind it; sorts by the ratio.
fn changed(found: Option<Changed>) -> Markup {
    let Some(found) = found else {
        return html! { td.number { "–" } };
    };
    let number = |value: Option<f64>| value.map_or_else(|| "∞".to_owned(), significant);
    html! {
        td.number data-sort=(found.ratio.map_or_else(|| "∞".to_owned(), |ratio| ratio.to_string())) {
            "× " (number(found.ratio))
            @if let Some((low, high)) = found.interval {
                br; span.muted { (significant(low)) " to " (significant(high)) }
            }
            br; span.muted { "perplexity " (number(found.perplexity)) }
        }
    }
}

fn anchor(link: &Link) -> Markup {
    html! { a href=(encoded(&link.path)) { (visible(&link.text)) } }
}

/// A path as an address that cannot be anything but relative: what means something in an address is
/// encoded.
fn encoded(path: &str) -> String {
    let relative = path.trim_start_matches('/');
    let mut address = String::with_capacity(relative.len());
    for byte in relative.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                address.push(char::from(byte));
            }
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    address
}

fn further(table: &OverviewTable) -> Markup {
    let texts: Vec<(Vec<String>, bool)> = table
        .rows
        .iter()
        .map(|cells| (cells.iter().map(|cell| cell.text.clone()).collect(), false))
        .collect();
    let numeric: Vec<bool> = (0..table.header.len())
        .map(|column| is_numeric(&texts, column))
        .collect();
    let class = |column: usize, flag: Flag| {
        let number = numeric.get(column).copied().unwrap_or(false);
        let flag = match flag {
            Flag::Plain => "",
            Flag::Agrees => "agrees",
            Flag::Differs => "differs",
            Flag::Known => "known",
        };
        let both = format!("{} {flag}", if number { "number" } else { "" });
        Some(both.trim().to_owned()).filter(|class| !class.is_empty())
    };
    html! {
        section {
            h2 { (visible(&table.heading)) }
            @if !table.note.is_empty() { p { (visible(&table.note)) } }
            div.table tabindex="0" { table {
                thead { tr { @for (column, title) in table.header.iter().enumerate() {
                    th class=[class(column, Flag::Plain)] { (visible(title)) }
                } } }
                tbody { @for cells in &table.rows {
                    tr { @for (column, Cell { text, flag }) in cells.iter().enumerate() {
                        td class=[class(column, *flag)] { (visible(text)) }
                    } }
                } }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_relative() {
        assert_eq!(
            encoded("org--a model/x/report.html"),
            "org--a%20model/x/report.html"
        );
        assert_eq!(encoded("javascript:alert(1)"), "javascript%3Aalert%281%29");
        assert_eq!(encoded("//host/x?y#z"), "host/x%3Fy%23z");
        assert_eq!(encoded("../ä"), "../%C3%A4");
    }

    #[test]
    fn says_how_far_a_run_came() {
        let row = |state, massive| OverviewRow {
            state,
            massive,
            ..OverviewRow::default()
        };
        assert_eq!(verdict(&row(State::Done, Some(true))), "massive");
        assert_eq!(verdict(&row(State::Done, Some(false))), "not massive");
        assert_eq!(verdict(&row(State::Done, None)), "done");
        assert_eq!(verdict(&row(State::Waiting, None)), "waiting");
        assert_eq!(
            verdict(&row(State::Failed(String::new()), Some(true))),
            "failed"
        );
    }

    #[test]
    fn readable_without_scripts() {
        let hostile = "</script><script>alert(1)</script>";
        let overview = Overview {
            title: "plan".to_owned(),
            rows: vec![OverviewRow {
                label: hostile.to_owned(),
                settings: vec![("add_bos_token".to_owned(), "false".to_owned())],
                state: State::Failed("model: not found".to_owned()),
                ..OverviewRow::default()
            }],
            tables: vec![OverviewTable {
                heading: "Published".to_owned(),
                header: vec!["model".to_owned(), "ratio".to_owned()],
                rows: vec![vec![
                    Cell::plain("a"),
                    Cell {
                        text: "12.5".to_owned(),
                        flag: Flag::Differs,
                    },
                ]],
                ..OverviewTable::default()
            }],
            ..Overview::default()
        };
        let html = page(&overview);
        assert!(!html.contains("<script>alert"));
        assert!(html.contains("&lt;script&gt;alert(1)"));
        assert!(html.contains("model: not found"));
        assert!(html.contains("<td>false</td>"));
        assert!(html.contains("<td class=\"number differs\">12.5</td>"));
        assert!(html.contains("<title>plan – sweep – massact</title>"));
    }

    #[test]
    fn an_empty_sweep_is_a_page() {
        let html = page(&Overview::default());
        assert!(!html.contains("id=\"overview\"") && !html.contains("id=\"overlay\""));
    }
}
