//! Comma-separated values (RFC 4180).

/// A record as a line with its line break. Cells with a comma, a quote or a line break are quoted.
pub fn line(cells: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    joined(cells.into_iter().map(|cell| quoted(cell.as_ref(), false)))
}

/// As [`line`], where some cells have no value. A text without letters is quoted, so that the two
/// are told apart.
pub fn line_of_some(cells: impl IntoIterator<Item = Option<impl AsRef<str>>>) -> String {
    joined(cells.into_iter().map(|cell| {
        let cell = cell.map(|cell| quoted(cell.as_ref(), true));
        cell.unwrap_or_default()
    }))
}

fn joined(cells: impl Iterator<Item = String>) -> String {
    let mut line = cells.collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

fn quoted(cell: &str, also_empty: bool) -> String {
    if cell.contains([',', '"', '\n', '\r']) || (also_empty && cell.is_empty()) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{line, line_of_some};

    #[test]
    fn quotes_what_needs_it() {
        assert_eq!(line(["a b", "", "1.5"]), "a b,,1.5\r\n");
        assert_eq!(
            line(["a,b", "say \"x\"", "two\nlines"]),
            "\"a,b\",\"say \"\"x\"\"\",\"two\nlines\"\r\n"
        );
        assert_eq!(line([""; 0]), "\r\n");
    }

    #[test]
    fn no_value_is_no_empty_text() {
        assert_eq!(
            line_of_some([Some("a"), None, Some(""), Some("b,c")]),
            "a,,\"\",\"b,c\"\r\n"
        );
    }
}
