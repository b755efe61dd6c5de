//! What an experiment shows: one function an experiment, from its result to files and tables.
//!
//! A result is the plain data of an experiment; [`Context`] is what it does not know of its run. What
//! comes out are [`Artifacts`], which the command writes and prints. Nothing here computes anything of a
//! model, reads an argument, or names a device.
#![forbid(unsafe_code)]

pub(crate) mod capture;
pub(crate) mod compare;
pub(crate) mod existence_validation;
pub(crate) mod figures;
mod formats;
pub(crate) mod intervention_analysis;
pub(crate) mod life;
mod lines;
mod magnitudes;
mod page;
pub(crate) mod profile;
mod recorder;
pub(crate) mod self_attention;
pub(crate) mod sinks;
mod sites;
pub(crate) mod sweep;
pub(crate) mod tokens_analysis;
pub(crate) mod top_activation_magnitude;
pub(crate) mod tvr;

pub(crate) use formats::Formats;
pub(crate) use recorder::FileRecorder;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

use self::formats::{Figure, Sheet};
use crate::{
    error::{Error, Result},
    report::{
        RunFolder,
        folder::json_bytes,
        records::Records,
        run::{ModelRecord, Origin},
        table::Table,
    },
};

/// Whose summary of several sequences is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compat {
    /// The definition's, which does not depend on the order of the sequences.
    None,
    /// The published program's, which does.
    Reference,
}

/// What a result does not know of its run.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The checkpoint.
    pub(crate) model: &'a ModelRecord,
    /// In which types and where, such as `float32 on the CPU`; the run says it.
    pub(crate) computed_in: String,
    /// What was said of the checkpoint.
    pub(crate) notices: Vec<String>,
    /// What was asked for.
    pub(crate) settings: &'a Value,
    /// How the run came about.
    pub(crate) origin: Origin,
}

impl Context<'_> {
    /// What titles and sentences call the model.
    pub(crate) fn name(&self) -> &str {
        self.model.shown()
    }

    /// The experiment's JSON: schema, model and settings, then the result's own fields.
    pub(crate) fn document(&self, schema: &str, result: &impl Serialize) -> Result<Value> {
        let document = json!({ "schema": schema, "model": self.model.name });
        merged([document, self.settings.clone(), json_value(result)?])
    }
}

/// The file of what a run printed.
pub(crate) const SUMMARY: &str = "summary.txt";

/// What a run leaves behind, and what it prints.
#[derive(Debug)]
pub(crate) struct Artifacts {
    /// Names, with folders, and contents.
    files: Vec<(String, Vec<u8>)>,
    figures: Vec<Figure>,
    sheets: Vec<Sheet>,
    /// The experiment's JSON.
    pub(crate) document: Value,
    /// What a terminal shows of it.
    pub(crate) terminal: Vec<Block>,
    /// What the user should know of it, said on stderr.
    pub(crate) notices: Vec<String>,
}

/// A part of what a terminal shows.
#[derive(Debug)]
pub(crate) enum Block {
    /// Styled where it is printed.
    Table(Table),
    /// A line break follows it.
    Line(String),
}

impl Artifacts {
    /// The document, which is the file `name` too.
    fn new(name: &str, document: Value) -> Result<Self> {
        let mut artifacts = Self {
            files: Vec::new(),
            figures: Vec::new(),
            sheets: Vec::new(),
            document: Value::Null,
            terminal: Vec::new(),
            notices: Vec::new(),
        };
        artifacts.json(name, &document)?;
        artifacts.document = document;
        Ok(artifacts)
    }

    fn file(&mut self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.files.push((name.into(), bytes.into()));
    }

    fn json(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        self.file(name, json_bytes(name, value)?);
        Ok(())
    }

    /// A figure, whose files are `<name>.svg` and so on. Returns the SVG.
    fn figure(&mut self, name: &str, svg: String) -> Result<String> {
        self.figures.push(Figure {
            name: name.to_owned(),
            svg: svg.clone(),
        });
        Ok(svg)
    }

    /// A table that is written on request, as `<name>.csv` and so on.
    fn sheet(&mut self, name: &'static str, table: Table, records: Records) {
        self.sheets.push(Sheet {
            name,
            table,
            records,
        });
    }

    fn table(&mut self, table: Table) {
        self.terminal.push(Block::Table(table));
    }

    fn notice(&mut self, text: String) {
        self.notices.push(text);
    }

    fn line(&mut self, text: impl Into<String>) {
        self.terminal.push(Block::Line(text.into()));
    }

    /// What a terminal shows, in lines as long as they need to be.
    fn summary(&self) -> String {
        let blocks = self.terminal.iter().map(|block| match block {
            Block::Table(table) => table.render(false),
            Block::Line(text) => format!("{text}\n"),
        });
        blocks.collect()
    }

    /// Writes every file, figures and tables in these formats.
    pub(crate) fn write(&self, folder: &RunFolder, formats: &Formats) -> Result<()> {
        folder.write(SUMMARY, self.summary().as_bytes())?;
        for (name, bytes) in &self.files {
            folder.write(name, bytes)?;
        }
        for figure in &self.figures {
            for format in distinct(formats.figures()) {
                let (name, bytes) = figure.file(format)?;
                folder.write(&name, &bytes)?;
            }
        }
        for sheet in &self.sheets {
            for format in distinct(&formats.tables) {
                let (name, bytes) = sheet.file(format);
                // A comparison has its CSV in any case.
                if !self.files.iter().any(|(known, _)| *known == name) {
                    folder.write(&name, &bytes)?;
                }
            }
        }
        Ok(())
    }
}

/// Each of them once.
fn distinct<T: Copy + PartialEq>(asked: &[T]) -> Vec<T> {
    let mut once = Vec::new();
    for one in asked {
        if !once.contains(one) {
            once.push(*one);
        }
    }
    once
}

fn json_value(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|error| Error::new("result", format!("not valid JSON: {error}")))
}

/// The fields of all objects; of two with one name, the later.
fn merged(objects: impl IntoIterator<Item = Value>) -> Result<Value> {
    let mut all = serde_json::Map::new();
    for object in objects {
        match object {
            Value::Object(fields) => all.extend(fields),
            _ => return Err(Error::new("result", "a part of it is no JSON object")),
        }
    }
    Ok(Value::Object(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_settings_and_result() {
        let model = ModelRecord {
            name: "runs/a/".to_owned(),
            ..ModelRecord::default()
        };
        let settings = json!({ "nsamples": 10, "seed": 1 });
        let context = Context {
            model: &model,
            computed_in: String::new(),
            notices: Vec::new(),
            settings: &settings,
            origin: Origin::default(),
        };
        assert_eq!(context.name(), "a");
        let labelled = ModelRecord {
            label: Some("a better name".to_owned()),
            ..model.clone()
        };
        let known = Context {
            model: &labelled,
            computed_in: String::new(),
            notices: Vec::new(),
            settings: &settings,
            origin: Origin::default(),
        };
        assert_eq!(known.name(), "a better name");
        // The text may have fewer sequences than were asked for.
        let result = json!({ "nsamples": 3, "layers": [] });
        let document = context.document("some/1", &result).expect("JSON");
        let expected = json!({
            "schema": "some/1", "model": "runs/a/", "nsamples": 3, "seed": 1, "layers": [],
        });
        assert_eq!(document, expected);
        let artifacts = Artifacts::new("x.json", document).expect("JSON");
        let (name, bytes) = &artifacts.files[0];
        assert_eq!(name, "x.json");
        assert!(bytes.ends_with(b"}\n"));
        assert_eq!(
            serde_json::from_slice::<Value>(bytes).expect("JSON"),
            expected
        );
        assert!(context.document("some/1", &7).is_err());
    }
}
