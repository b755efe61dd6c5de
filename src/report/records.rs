//! Tables for programs: names of the JSON's fields, numbers in full.

use serde_json::Value;

use super::csv::line;

/// Records of the same fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Records {
    names: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Records {
    /// Without records.
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            names: names.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a record: an array with a value a name, such as `json!([1, null, "a"])`.
    pub fn push(&mut self, record: Value) {
        debug_assert_eq!(record.as_array().map(Vec::len), Some(self.names.len()));
        if let Value::Array(values) = record {
            self.rows.push(values);
        }
    }

    /// As CSV; what is not known is empty, and lists are separated by spaces.
    pub fn csv(&self) -> String {
        let mut text = line(&self.names);
        for row in &self.rows {
            text.push_str(&line(row.iter().map(cell)));
        }
        text
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_in_full_and_lists_by_spaces() {
        let mut records = Records::new(["layer", "top1_mean", "massive", "tokens"]);
        records.push(json!([0, 0.1 + 0.2, true, ["<s>", "a,b"]]));
        records.push(json!([1, null, false, []]));
        assert_eq!(
            records.csv(),
            "layer,top1_mean,massive,tokens\r\n0,0.30000000000000004,true,\"<s> a,b\"\r\n1,,false,\r\n"
        );
    }
}
