//! Pages: one file that needs no other and no network.
//!
//! A page is readable as it is: verdict, facts, tables and static figures. Where scripts run,
//! `assets/page/` draws the [`Chart`]s of a section in the place of its figure, and makes tables sort.

pub mod chart;
mod document;
pub mod maps;
pub mod overview;

pub use chart::Chart;
pub use maps::{MapLabels, MapSet};

use maud::{Markup, PreEscaped, html};
use serde_json::json;

use super::visible::visible;

/// A page about one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// What it is about: the model.
    pub title: String,
    /// What was run.
    pub experiment: String,
    /// The answer in one sentence.
    pub verdict: String,
    /// Whether the verdict deserves attention; sets its colour.
    pub highlight: bool,
    /// Name and value pairs: model, device, dtype, timings.
    pub facts: Vec<(String, String)>,
    /// How to run it again; may be empty.
    pub command_line: String,
    /// Figures, tables and text in order.
    pub sections: Vec<Section>,
}

/// A heading and what follows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// The content.
    pub body: Body,
    /// What takes the place of the content where scripts run.
    pub charts: Vec<Chart>,
}

/// Content of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// An SVG document made by [`super::plot`]; inserted as it is.
    Figure(String),
    /// A table; rows may be emphasised. Columns of numbers are aligned right.
    Table {
        /// Column titles.
        header: Vec<String>,
        /// Cells by row, and whether the row is emphasised.
        rows: Vec<(Vec<String>, bool)>,
    },
    /// A paragraph.
    Text(String),
    /// Text as it is, such as settings in JSON.
    Code(String),
}

impl Section {
    /// A section.
    pub fn new(heading: impl Into<String>, body: Body) -> Self {
        Self {
            heading: heading.into(),
            body,
            charts: Vec::new(),
        }
    }

    /// With charts that the reader can explore.
    #[must_use]
    pub fn explored(mut self, charts: impl IntoIterator<Item = Chart>) -> Self {
        self.charts.extend(charts);
        self
    }
}

impl Page {
    /// The page as HTML.
    pub fn render(&self) -> String {
        let charts: Vec<&Chart> = self.sections.iter().flat_map(|it| &it.charts).collect();
        let content = html! {
            (document::opening(&self.experiment, &self.title, &self.verdict, self.highlight))
            (document::facts(&self.facts, &self.command_line))
            (self.contents())
            (self.body())
        };
        let title = match self.experiment.as_str() {
            "" => self.title.clone(),
            experiment => format!("{} – {experiment} – massact", self.title),
        };
        let data = json!({ "charts": charts });
        document::document(&title, &content, (!charts.is_empty()).then_some(&data))
    }

    /// Links to the sections.
    fn contents(&self) -> Markup {
        html! {
            @if self.sections.len() > 2 {
                nav aria-label="Sections" { ul { @for (index, section) in self.sections.iter().enumerate() {
                    li { a href={ "#section-" (index) } { (visible(&section.heading)) } }
                } } }
            }
        }
    }

    fn body(&self) -> Markup {
        // Charts are numbered through the page.
        let mut numbers = 0..;
        let mut room = Room::default();
        html! {
            @for (index, section) in self.sections.iter().enumerate() {
                section id={ "section-" (index) } {
                    h2 { (visible(&section.heading)) }
                    @for (_, number) in section.charts.iter().zip(numbers.by_ref()) {
                        div.chart data-chart=(number) role="group" aria-label=(visible(&section.heading)) {}
                    }
                    @if section.charts.is_empty() {
                        (body(&section.body, &mut room.figures))
                    } @else {
                        div.still { (body(&section.body, &mut room.stills)) }
                    }
                }
            }
        }
    }
}

/// Bytes that static figures may still take: a page should open at once, and a sweep has many.
struct Room {
    /// For figures that are nowhere else on the page.
    figures: usize,
    /// For those in whose place a chart is drawn.
    stills: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            figures: 980_000,
            stills: 450_000,
        }
    }
}

fn body(body: &Body, room: &mut usize) -> Markup {
    match body {
        Body::Figure(svg) => match room.checked_sub(svg.len()) {
            Some(left) => {
                *room = left;
                html! { figure { (PreEscaped(svg)) } }
            }
            None => html! {
                p {
                    (format!("This figure has {:.1} MB, too much for a page", svg.len() as f64 / 1e6))
                    "; it is among the files beside this one."
                }
            },
        },
        Body::Text(text) => html! { p { (visible(text)) } },
        Body::Code(text) => html! {
            pre { @for line in text.lines() { (visible(line)) "\n" } }
        },
        Body::Table { header, rows } => {
            let numeric: Vec<bool> = (0..header.len()).map(|i| is_numeric(rows, i)).collect();
            let number = |column: usize| {
                let number = numeric.get(column).copied().unwrap_or(false);
                number.then_some("number")
            };
            html! {
                div.table tabindex="0" { table {
                    thead { tr { @for (column, title) in header.iter().enumerate() {
                        th class=[number(column)] { (visible(title)) }
                    } } }
                    tbody { @for (cells, emphasis) in rows {
                        tr class=[emphasis.then_some("emphasis")] { @for (column, cell) in cells.iter().enumerate() {
                            td class=[number(column)] { (visible(cell)) }
                        } }
                    } }
                } }
            }
        }
    }
}

/// Whether a column holds numbers and nothing else but blanks.
fn is_numeric(rows: &[(Vec<String>, bool)], column: usize) -> bool {
    let mut cells = rows
        .iter()
        .filter_map(|(cells, _)| cells.get(column))
        .map(|cell| cell.trim())
        .filter(|cell| !cell.is_empty())
        .peekable();
    cells.peek().is_some()
        && cells.all(|cell| {
            let digits = cell.replace([',', '×', '%'], "");
            digits.trim().parse::<f64>().is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            title: "existence-validation <b>&\"".into(),
            experiment: String::new(),
            verdict: "yes".into(),
            highlight: true,
            command_line: "massact existence-validation".into(),
            facts: vec![("model".into(), "</style><script>alert(1)</script>".into())],
            sections: vec![
                Section::new("Figure", Body::Figure("<svg id='figure'></svg>".into())),
                Section::new(
                    "Layers",
                    Body::Table {
                        header: vec!["layer".into(), "token".into()],
                        rows: vec![
                            (vec!["1".into(), "<s>".into()], true),
                            (vec!["2".into(), "\0".into()], false),
                        ],
                    },
                ),
                Section::new("Settings", Body::Code("{\n  \"a\": 1\n}".into())),
            ],
        }
    }

    #[test]
    fn escapes_everything_but_figures() {
        let html = page().render();
        assert!(html.starts_with("<!DOCTYPE html>"));
        assert!(!html.contains("<script>alert"));
        assert!(html.contains("&lt;script&gt;"));
        assert!(
            html.contains("<h1>existence-validation &lt;b&gt;&amp;&quot;</h1>"),
            "{html}"
        );
        assert!(html.contains("<svg id='figure'></svg>"));
        assert!(html.contains("<td>\\x00</td>"));
        assert!(html.contains("{\n  &quot;a&quot;: 1\n}\n"));
    }

    #[test]
    fn needs_nothing_from_outside() {
        let html = page().render();
        for outside in ["http:", "https:", "src=", "<link", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.contains("default-src 'none'"));
    }

    #[test]
    fn charts_stand_before_their_figure() {
        let mut page = page();
        let html = page.render();
        assert!(!html.contains("data-chart=\"") && !html.contains("Observable"));
        let maps = MapSet {
            unit: "</script>".to_owned(),
            ..MapSet::default()
        };
        page.experiment = "self-attention".to_owned();
        page.sections[0].charts.push(Chart::Maps(maps));
        let html = page.render();
        let place = "data-chart=\"0\" role=\"group\" aria-label=\"Figure\"></div><div class=\"still\"><figure><svg";
        assert!(html.contains(place));
        assert!(html.contains("\"unit\":\"\\u003c/script>\""));
        assert!(html.contains("&quot; – self-attention – massact</title>"));
    }

    #[test]
    fn figures_too_large_for_a_page_are_beside_it() {
        let mut page = page();
        let svg = format!("<svg>{}</svg>", "x".repeat(2_000_000));
        page.sections[0].body = Body::Figure(svg);
        let html = page.render();
        assert!(html.len() < 200_000);
        assert!(html.contains("This figure has 2.0 MB"), "{html}");
    }

    #[test]
    fn numbers_lean_right() {
        let html = page().render();
        assert!(
            html.contains("<td class=\"number\">1</td><td>&lt;s&gt;</td>"),
            "{html}"
        );
        assert!(html.contains("<tr class=\"emphasis\">"));
    }
}
