//! report.html of a run.

use serde_json::Value;

use super::{Artifacts, Context};
use crate::report::{
    html::{Body, Page, Section},
    table::Table,
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
        let facts = [
            ("Model", model.name.clone()),
            ("Source", model.source.clone()),
            ("Family", model.model_type.clone()),
            ("Layers", model.layers.to_string()),
            ("Hidden size", model.hidden_size.to_string()),
            ("Stored as", model.dtype.clone()),
            ("Computed in", context.computed_in.clone()),
        ];
        let notices = context.notices.iter();
        let notices = notices.map(|notice| ("Notice", notice.clone()));
        sections.push(settings(context.settings));
        let page = Page {
            title: context.name().to_owned(),
            verdict: verdict.text,
            highlight: verdict.highlight,
            facts: facts
                .into_iter()
                .chain(notices)
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            sections,
        };
        self.file("report.html", page.render());
    }
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
        assert!(page.contains("&quot;nsamples&quot;: 3"), "{page}");
    }
}
