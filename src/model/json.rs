//! JSON as Python reads it: NaN, Infinity and -Infinity are numbers.
#![forbid(unsafe_code)]

use serde_json::{Error, Value};

/// Numbers that JSON itself does not have.
const NAMES: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Parses `text`. A number that JSON does not have becomes a string, which no reader of a number
/// takes for one: it is harmless where nobody asks for it, and refused by its key elsewhere.
pub(super) fn parse(text: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(text).or_else(|error| {
        // The error is that of the text as it is.
        serde_json::from_slice(&quoted(text)).map_err(|_| error)
    })
}

/// The text with those names in quotes where they are values.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    let (mut rest, mut in_string) = (text, false);
    while let Some((&byte, after)) = rest.split_first() {
        let name = NAMES.into_iter().find(|name| {
            let end = rest.strip_prefix(name.as_bytes());
            !in_string && end.is_some_and(|end| !end.first().is_some_and(u8::is_ascii_alphanumeric))
        });
        if let Some(name) = name {
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.push(b'"');
            rest = &rest[name.len()..];
            continue;
        }
        out.push(byte);
        rest = after;
        match (byte, in_string) {
            (b'"', _) => in_string = !in_string,
            (b'\\', true) => {
                // The next byte ends no string.
                out.extend(rest.first());
                rest = rest.get(1..).unwrap_or_default();
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_of_python() {
        let text =
            br#"{"a": [0.0, Infinity], "b": -Infinity, "c":NaN, "d": "NaN \" NaN", "NaN": 1}"#;
        let value = parse(text).expect("Python reads it");
        let expected = json!({
            "a": [0.0, "Infinity"], "b": "-Infinity", "c": "NaN", "d": "NaN \" NaN", "NaN": 1
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn nothing_else() {
        for text in [
            "{",
            "nan",
            "NaNs",
            "[Infinity",
            "{\"a\": --Infinity}",
            "\"\\",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
