//! Checks JSON against the repository's schemas.

use std::path::Path;

use serde_json::Value;

/// The schema `schemas/<name>.schema.json`.
pub(crate) fn load(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("schemas")
        .join(format!("{name}.schema.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Where `value` breaks the schema `name`, one `place: reason` each.
pub(crate) fn violations(name: &str, value: &Value) -> Vec<String> {
    jsonschema::draft202012::new(&load(name))
        .unwrap_or_else(|e| panic!("schema {name}: {e}"))
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// Fails the test, listing every violation.
#[track_caller]
pub(crate) fn assert_valid(name: &str, value: &Value) {
    let found = violations(name, value);
    assert!(found.is_empty(), "{name}: {}", found.join("; "));
}
