//! Where the largest values of a checkpoint's layers are, for the page.

use serde_json::Value;

use super::entries::Measured;
use crate::report::{html::chart::Notes, number::significant, visible::token_label};

/// By layer; nothing where existence-validation did not run.
pub(super) fn of(measured: &Measured) -> Vec<Notes> {
    let mut documents = measured.documents.iter();
    let existence = documents.find(|(name, _)| *name == "existence_validation.json");
    let layers = existence.and_then(|(_, document)| document["layers"].as_array());
    let layers = layers.into_iter().flatten();
    layers.map(|layer| notes(&layer["top"][0])).collect()
}

fn notes(top: &Value) -> Notes {
    let value = top["value"].as_f64().map(significant);
    let token = top["token"].as_str().map(token_label);
    let whole = |name: &str| top[name].as_u64().map(|number| number.to_string());
    let notes = [
        ("largest", value),
        ("token", token),
        ("position", whole("position")),
        ("dimension", whole("dimension")),
    ];
    notes
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_an_entry() {
        let top = json!({ "value": -2400.5, "token": " a", "position": 0, "dimension": 447 });
        let found = notes(&top);
        let texts: Vec<String> = found.iter().map(|(n, v)| format!("{n} {v}")).collect();
        let expected = ["largest -2400", "token ␣a", "position 0", "dimension 447"];
        assert!(texts[0].starts_with(expected[0]), "{texts:?}");
        assert_eq!(texts[1..], expected[1..]);
        // A layer may have no entry.
        assert_eq!(notes(&Value::Null), Notes::new());
    }
}
