//! What decides a run's numbers, in a form that is the same on any machine: texts are named by what
//! is in them, not by where they lie.

use serde_json::{Map, Value, json};

use super::documents::Record;
use crate::{data::builtin, report::folder::canonical};

/// Hex digits of a text's digest.
const DIGITS: usize = 16;

/// The settings as compact JSON with sorted keys. The revision is not among them: tables have a
/// column for it.
pub(super) fn compact(record: &Record) -> String {
    let mut settings = record.settings.clone();
    settings.remove("revision");
    let corpus = settings.remove("text");
    let evaluation = settings.remove("evaluation_texts");
    if let Some(text) = &corpus {
        settings.insert("text".to_owned(), json!(digest(text)));
        if is_local(text) {
            settings.remove("dataset");
        }
    }
    if let Some(sets) = settings.remove("evaluation_sets") {
        settings.insert("evaluation_sets".to_owned(), by_name(&sets, evaluation));
    }
    if let Some(adapter) = &record.model.adapter {
        settings.insert("adapter".to_owned(), json!(digest(adapter)));
    }
    settings.insert("arithmetic".to_owned(), json!(record.compute_dtype));
    canonical(&Value::Object(settings))
}

/// Evaluation sets: name and digest of the text. How many windows it has, and of which ids, follows
/// from that, the model and the other settings.
fn by_name(sets: &Value, texts: Option<Value>) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let texts = texts.as_ref().map(list).unwrap_or_default();
    let named = list(sets).into_iter().enumerate().map(|(index, set)| {
        let name = set["name"].as_str().unwrap_or_default().to_owned();
        (
            name,
            texts
                .get(index)
                .map_or(Value::Null, |text| json!(digest(text))),
        )
    });
    Value::Object(named.collect::<Map<_, _>>())
}

/// Of the contents of a text's, or an adapter's, files.
fn digest(text: &Value) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in text["files"].as_array().into_iter().flatten() {
        hasher.update(file["blake3"].as_str().unwrap_or_default().as_bytes());
    }
    let mut digest = hasher.finalize().to_hex().to_string();
    digest.truncate(DIGITS);
    digest
}

/// A file of this machine is named by its path; files of datasets are named within them.
fn is_local(text: &Value) -> bool {
    let name = text["name"].as_str().unwrap_or_default();
    name != builtin::NAME && text["files"][0]["path"] == *name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(settings: Value) -> Record {
        serde_json::from_value(json!({
            "model": { "name": "m" }, "compute_dtype": "float32", "settings": settings,
        }))
        .expect("a record")
    }

    fn text(name: &str, path: &str, blake3: &str) -> Value {
        json!({ "name": name, "files": [{ "path": path, "blake3": blake3, "bytes": 1 }] })
    }

    #[test]
    fn keys_are_sorted_and_the_revision_is_left_out() {
        let found = compact(&record(json!({
            "seed": 42, "revision": "step1000", "add_bos_token": true, "dataset": "builtin",
            "text": text("builtin", "builtin", "aa"),
        })));
        let hash = &blake3::hash(b"aa").to_hex()[..DIGITS];
        assert_eq!(
            found,
            format!(
                r#"{{"add_bos_token":true,"arithmetic":"float32","dataset":"builtin","seed":42,"text":"{hash}"}}"#
            )
        );
    }

    /// The same text elsewhere is the same setting; another text in the same place is not.
    #[test]
    fn files_are_named_by_their_content() {
        let of = |path: &str, content: &str| {
            compact(&record(json!({
                "dataset": path,
                "text": text(path, path, content),
                "evaluation_sets": [{ "name": "mine", "windows": 3, "tokens_blake3": path }],
                "evaluation_texts": [text(path, path, content)],
            })))
        };
        assert_eq!(of("/home/a/x.txt", "aa"), of("b/y.txt", "aa"));
        assert_ne!(of("/home/a/x.txt", "aa"), of("/home/a/x.txt", "bb"));
        assert!(!of("/home/a/x.txt", "aa").contains("home"));
        // Datasets of the hub keep their names: what is drawn of them depends on it.
        let hub = text("owner/name", "train.parquet", "aa");
        let found = compact(&record(json!({ "dataset": "owner/name", "text": hub })));
        assert!(found.contains(r#""dataset":"owner/name""#), "{found}");
    }
}
