//! report.html of a run.

use serde_json::Value;

use super::{Artifacts, Context};
use crate::{
    model::AdapterRecord,
    report::{
        html::{Body, Page, Section},
        run::Origin,
        table::Table,
        visible::token_label,
    },
};

/// The answer in a sentence.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) text: String,
    /// Whether it deserves attention.
    pub(super) highlight: bool,
}

impl Artifacts {
    /// `report.html`: verdict, what ran where, the sections, and the settings.
    pub(super) fn page(
        &mut self,
        context: &Context<'_>,
        verdict: Verdict,
        mut sections: Vec<Section>,
    ) {
        let model = context.model;
        let revision = [&model.revision, &model.commit];
        let revision: Vec<&str> = revision.into_iter().flatten().map(String::as_str).collect();
        let facts = [
            ("Model", model.name.clone()),
            (
                "Adapter",
                model.adapter.as_ref().map(adapter).unwrap_or_default(),
            ),
            ("Source", model.source.clone()),
            ("Revision", revision.join(", ")),
            ("Family", model.model_type.clone()),
            ("Layers", model.layers.to_string()),
            ("Hidden size", model.hidden_size.to_string()),
            ("Stored as", model.dtype.clone()),
            ("Computed in", context.computed_in.clone()),
        ];
        let notices = context.notices.iter();
        let notices = notices.map(|notice| ("Notice", notice.clone()));
        sections.push(settings(context.settings));
        let mut facts: Vec<(String, String)> = facts
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        facts.extend(provenance(&context.origin));
        facts.extend(notices.map(|(name, value)| (name.to_owned(), value)));
        let page = Page {
            title: context.name().to_owned(),
            experiment: context.origin.command.clone(),
            verdict: verdict.text,
            highlight: verdict.highlight,
            facts,
            command_line: context.origin.command_line(),
            sections,
        };
        self.file("report.html", page.render());
    }
}

/// An adapter in one line.
fn adapter(adapter: &AdapterRecord) -> String {
    let modules = match &adapter.target_modules {
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str);
            names.collect::<Vec<_>>().join(", ")
        }
        Value::String(pattern) => pattern.clone(),
        _ => String::new(),
    };
    let of = match adapter.use_rslora {
        true => "alpha over the rank's root",
        false => "alpha over the rank",
    };
    format!(
        "{}: LoRA, r {}, alpha {} ({of}), on {} matrices ({modules}), {} tensors replaced",
        adapter.path, adapter.r, adapter.lora_alpha, adapter.adapted, adapter.replaced
    )
}

/// What texts, when, and by which version.
pub(super) fn provenance(origin: &Origin) -> Vec<(String, String)> {
    let mut facts = origin.texts.clone();
    let more = [
        ("Date", origin.started_at.clone()),
        ("massact", origin.massact.clone()),
    ];
    facts.extend(more.map(|(name, value)| (name.to_owned(), value)));
    facts
}

/// A figure, as SVG, as a section.
pub(super) fn figure(heading: impl Into<String>, svg: String) -> Section {
    Section::new(heading, Body::Figure(svg))
}

/// A table as a section.
pub(super) fn table(heading: &str, table: &Table) -> Section {
    let titles = table.columns.iter().map(|(title, _)| title.clone());
    let rows = table.rows.iter();
    Section::new(
        heading,
        Body::Table {
            header: titles.collect(),
            rows: rows.map(|row| (row.cells.clone(), row.emphasis)).collect(),
        },
    )
}

/// The tokens of the one sequence that was run as a section.
pub(super) fn sequence(tokens: &[String]) -> Section {
    const MOST: usize = 400;
    let shown: Vec<String> = tokens
        .iter()
        .take(MOST)
        .map(|token| token_label(token))
        .collect();
    let mut text = shown.join(" ");
    if tokens.len() > MOST {
        text.push_str(&format!(" … and {} more", tokens.len() - MOST));
    }
    let heading = format!("The sequence, {} tokens", tokens.len());
    Section::new(heading, Body::Text(text))
}

/// The settings as a section.
pub(super) fn settings(settings: &Value) -> Section {
    Section::new("Settings", Body::Code(format!("{settings:#}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::run::ModelRecord;

    /// What computed is the run's to say, and what a card computed must not pass for the CPU's.
    #[test]
    fn says_what_computed() {
        let model = ModelRecord {
            name: "owner/some-model".to_owned(),
            ..ModelRecord::default()
        };
        let settings = json!({ "nsamples": 3 });
        let context = Context {
            model: &model,
            computed_in: "bfloat16 on NVIDIA H100, float32 stream".to_owned(),
            notices: Vec::new(),
            settings: &settings,
            origin: Origin {
                command: "existence-validation".to_owned(),
                arguments: vec!["existence-validation".to_owned(), "a b".to_owned()],
                texts: vec![("Text".to_owned(), "wikitext".to_owned())],
                started_at: "2026-01-02T03:04:05Z".to_owned(),
                massact: "0.1.0".to_owned(),
            },
        };
        let mut artifacts = Artifacts::new("x.json", json!({})).expect("JSON");
        let verdict = Verdict {
            text: "an answer".to_owned(),
            highlight: false,
        };
        artifacts.page(&context, verdict, Vec::new());
        let (name, page) = artifacts.files.last().expect("the page");
        let page = std::str::from_utf8(page).expect("UTF-8");
        assert_eq!(name, "report.html");
        assert!(
            page.contains("<dt>Computed in</dt><dd>bfloat16 on NVIDIA H100, float32 stream</dd>"),
            "{page}"
        );
        assert!(!page.contains("CPU"), "{page}");
        assert!(page.contains("<h1>some-model</h1>"), "{page}");
        let title = "<title>some-model – existence-validation – massact</title>";
        assert!(page.contains(title), "{page}");
        for (name, value) in [
            ("Text", "wikitext"),
            ("Date", "2026-01-02T03:04:05Z"),
            ("massact", "0.1.0"),
            (
                "Command line",
                "<code>massact existence-validation 'a b'</code>",
            ),
        ] {
            assert!(
                page.contains(&format!("<dt>{name}</dt><dd>{value}</dd>")),
                "{name}: {page}"
            );
        }
        assert!(page.contains("&quot;nsamples&quot;: 3"), "{page}");
    }
}
