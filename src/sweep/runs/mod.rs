//! What is read of a finished run.

mod documents;
mod settings;

use std::{path::Path, sync::Arc};

use serde::de::DeserializeOwned;

pub use self::documents::{
    Dimension, Existence, Interventions, Layer, MassiveDimensions, Place, Ratio, Record, Tokens,
};
use super::task::Finished;
use crate::{
    error::{Error, Result},
    files,
};

/// A finished run, as tables need it.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredRun {
    /// What tables call the model.
    pub model: Arc<str>,
    /// Its id or path, as it was given.
    pub name: String,
    /// Whether an adapter is on its weights.
    pub adapted: bool,
    /// Branch, tag or commit.
    pub revision: Option<Arc<str>>,
    /// The task's training step, if given.
    pub step: Option<u64>,
    /// What decides the numbers, as compact JSON with sorted keys.
    pub settings: Arc<str>,
    /// Tokens in a sequence; none where the run has no such setting.
    pub context_length: Option<usize>,
    /// Whether sequences begin with BOS; none where the run has no such setting.
    pub add_bos_token: Option<bool>,
    /// What was found.
    pub found: Found,
}

/// What a run has found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// By existence-validation.
    Existence(Existence),
    /// By tokens-analysis.
    Tokens(Box<Tokens>, MassiveDimensions),
    /// By intervention-analysis.
    Interventions(Interventions),
}

/// Reads the runs that tables are made of, in their order. Other experiments have no rows.
pub fn read(finished: &[Finished]) -> Result<Vec<MeasuredRun>> {
    let runs = finished.iter().map(MeasuredRun::read);
    runs.filter_map(Result::transpose).collect()
}

impl MeasuredRun {
    /// Of one task; none of experiments that tables have nothing of.
    pub fn read(finished: &Finished) -> Result<Option<Self>> {
        let Finished { task, folder } = finished;
        let found = match task.command.replace('_', "-").as_str() {
            "existence-validation" => Found::Existence(json(folder, "existence_validation.json")?),
            "tokens-analysis" => Found::Tokens(
                Box::new(json(folder, "tokens_analysis.json")?),
                json(folder, "massive_dimensions.json")?,
            ),
            "intervention-analysis" => {
                Found::Interventions(json(folder, "intervention_analysis.json")?)
            }
            _ => return Ok(None),
        };
        let record: Record = json(folder, "run.json")?;
        Ok(Some(Self {
            model: task.model.as_str().into(),
            settings: settings::compact(&record).into(),
            context_length: record.setting("context_length"),
            add_bos_token: record.setting("add_bos_token"),
            adapted: record.model.adapter.is_some(),
            name: record.model.name,
            revision: task.revision.as_deref().map(Into::into),
            step: task.step,
            found,
        }))
    }
}

fn json<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T> {
    let path = folder.join(name);
    let again = "remove the run's folder; then `massact sweep retry DIR --failed` and `massact sweep run DIR` make it again";
    let bytes = files::read(&path, files::WRITTEN)
        .map_err(|error| Error::new(path.display(), error).remedy(again))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::new(path.display(), format!("not what a run writes: {error}")).remedy(again)
    })
}

#[cfg(test)]
pub(super) mod examples {
    //! Folders like those of runs.

    use std::path::Path;

    use serde_json::{Value, json};

    use super::super::task::{Finished, Task};

    /// A task in `folder` with a run.json of these settings and these documents.
    pub(in crate::sweep) fn finished(
        folder: &Path,
        (command, model): (&str, &str),
        settings: &Value,
        documents: &[(&str, Value)],
    ) -> Finished {
        std::fs::create_dir_all(folder).expect("made");
        let record = json!({
            "model": { "name": model },
            "compute_dtype": "float32",
            "settings": settings,
        });
        let record = ("run.json", record);
        for (name, document) in documents.iter().chain([&record]) {
            std::fs::write(folder.join(name), document.to_string()).expect("written");
        }
        let task = Task {
            id: folder.display().to_string(),
            command: command.to_owned(),
            arguments: Vec::new(),
            model: model.to_owned(),
            revision: None,
            step: None,
            settings: serde_json::Map::new(),
        };
        Finished {
            task,
            folder: folder.to_owned(),
        }
    }

    /// existence-validation with (top1_mean, median_mean) by layer.
    pub(in crate::sweep) fn existence(
        folder: &Path,
        model: &str,
        settings: &Value,
        layers: &[(f64, f64)],
    ) -> Finished {
        let massive = |(top, median): (f64, f64)| top > 100.0 && top >= 1000.0 * median;
        let reports: Vec<Value> = layers
            .iter()
            .enumerate()
            .map(|(layer, &(top, median))| {
                json!({
                    "layer": layer, "top1_mean": top, "median_mean": median,
                    "ratio": (median > 0.0).then(|| top / median),
                    "massive": massive((top, median)),
                    "top": [{ "position": 0, "dimension": 7, "token": "<s>", "value": -top }],
                })
            })
            .collect();
        let document = json!({
            "has_massive_activations": layers.iter().any(|means| massive(*means)),
            "layers": reports,
        });
        let documents = [("existence_validation.json", document)];
        finished(
            folder,
            ("existence-validation", model),
            settings,
            &documents,
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_damaged_is_named() {
        let place = tempfile::tempdir().expect("a folder");
        let run = examples::existence(place.path(), "m", &json!({}), &[(200.0, 0.1)]);
        assert_eq!(read(std::slice::from_ref(&run)).expect("read").len(), 1);
        std::fs::write(place.path().join("existence_validation.json"), "{").expect("written");
        let error = read(std::slice::from_ref(&run))
            .expect_err("damaged")
            .to_string();
        assert!(
            error.contains("existence_validation.json: not what a run writes"),
            "{error}"
        );
        std::fs::remove_file(place.path().join("existence_validation.json")).expect("removed");
        assert!(read(std::slice::from_ref(&run)).is_err());
        // Other experiments have no tables.
        let other = examples::finished(place.path(), ("self-attention", "m"), &json!({}), &[]);
        assert!(read(&[other]).expect("read").is_empty());
    }
}
