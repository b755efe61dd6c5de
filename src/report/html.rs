//! report.html: one file that needs no other and no network.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::visible::visible;

/// A page about one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// What was run on which model.
    pub title: String,
    /// The answer in one sentence.
    pub verdict: String,
    /// Whether the verdict deserves attention; sets its colour.
    pub highlight: bool,
    /// Name and value pairs: model, device, dtype, timings.
    pub facts: Vec<(String, String)>,
    /// Figures, tables and text in order.
    pub sections: Vec<Section>,
}

/// A heading and what follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// The content.
    pub body: Body,
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
        }
    }
}

impl Page {
    /// The page as HTML.
    pub fn render(&self) -> String {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (visible(&self.title)) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        h1 { (visible(&self.title)) }
                        @if !self.verdict.is_empty() {
                            p.verdict.highlight[self.highlight] { (visible(&self.verdict)) }
                        }
                        @if !self.facts.is_empty() {
                            dl { @for (name, value) in &self.facts {
                                div { dt { (visible(name)) } dd { (visible(value)) } }
                            } }
                        }
                        @for section in &self.sections {
                            section {
                                h2 { (visible(&section.heading)) }
                                (body(&section.body))
                            }
                        }
                        footer { "massact " (env!("CARGO_PKG_VERSION")) }
                    }
                }
            }
        }
        .into_string()
    }
}

fn body(body: &Body) -> Markup {
    match body {
        Body::Figure(svg) => html! { figure { (PreEscaped(svg)) } },
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
                div.table { table {
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

/// Colours follow the reader's preference; figures keep their white ground. On paper everything is
/// black on white and neither rows nor figures are torn apart.
const STYLE: &str = "
:root{--ground:#fff;--ink:#1a1a1a;--muted:#5c5c5c;--line:#dcdcdc;--soft:#f5f6f8;--accent:#0072b2;--mark:#fdf3dc;--warn:#a34700}
@media (prefers-color-scheme:dark){:root{--ground:#16181c;--ink:#e8e8e8;--muted:#a5a9b0;--line:#363a42;--soft:#20232a;--accent:#6cbcec;--mark:#3a3016;--warn:#ffb067}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}
main{max-width:72rem;margin:0 auto;padding:2rem 1.25rem}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .75rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.25rem 0 .75rem;padding-bottom:.25rem;border-bottom:1px solid var(--line)}
.verdict{font-size:1.1rem;margin:0 0 1.25rem;padding:.75rem 1rem;background:var(--soft);border-left:4px solid var(--accent);border-radius:0 4px 4px 0}
.verdict.highlight{border-left-color:var(--warn);background:var(--mark)}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.5rem 1.5rem;margin:0}
dt{color:var(--muted);font-size:.85rem}
dd{margin:0;overflow-wrap:anywhere}
figure{margin:0;overflow-x:auto}
figure svg{display:block;max-width:100%;height:auto;border:1px solid var(--line);border-radius:4px}
.table{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;text-align:left;border-bottom:1px solid var(--line);white-space:pre-wrap}
th{color:var(--muted);font-weight:600;vertical-align:bottom}
.number{text-align:right}
tr.emphasis td{background:var(--mark);font-weight:600}
pre{margin:0;padding:.9rem 1rem;background:var(--soft);border-radius:4px;overflow-x:auto;font:.85rem/1.45 ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}
footer{margin-top:3rem;color:var(--muted);font-size:.85rem}
@media print{:root{--ground:#fff;--ink:#000;--muted:#444;--line:#bbb;--soft:#fff;--accent:#000;--mark:#eee;--warn:#000}
main{max-width:none;padding:0}body{font-size:10.5pt}figure,tr,.verdict,dl{break-inside:avoid}h2{break-after:avoid}thead{display:table-header-group}
pre{white-space:pre-wrap;overflow-wrap:anywhere}.table,figure{overflow:visible}*{print-color-adjust:exact}}
";

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            title: "existence-validation <b>&\"".into(),
            verdict: "yes".into(),
            highlight: true,
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
        assert!(!html.contains("<script>"));
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
