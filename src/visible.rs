//! Text from models, files and arguments made safe and readable on one line.

use std::borrow::Cow;
use std::fmt::Write;

use unicode_general_category::{GeneralCategory, get_general_category};

/// `text` with everything invisible escaped: control characters, direction marks and the like. They
/// would break table rows, be illegal in XML or let a token reverse the text around it.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => shown.push('⏎'),
            '\t' => shown.push('→'),
            '\r' => shown.push_str("\\r"),
            c if is_invisible(c) => {
                // Writing into a String cannot fail.
                let _ = match u32::from(c) {
                    code @ 0..=0xff => write!(shown, "\\x{code:02x}"),
                    code => write!(shown, "\\u{{{code:x}}}"),
                };
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// `text` without its middle, where it is longer than `most` bytes.
pub(crate) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let start = text.floor_char_boundary(most * 3 / 4);
    let end = text.ceil_char_boundary(text.len() - most / 4);
    Cow::Owned(format!("{} … {}", &text[..start], &text[end..]))
}

/// A JSON document whose strings have everything invisible escaped: the same values, which cannot steer a terminal.
pub(crate) fn visible_json(document: &str) -> Cow<'_, str> {
    // Outside of strings JSON has no other invisible characters than those that lay it out.
    let steers = |c: char| is_invisible(c) && !matches!(c, '\n' | '\r' | '\t');
    if !document.chars().any(steers) {
        return Cow::Borrowed(document);
    }
    let mut shown = String::with_capacity(document.len() + 64);
    for c in document.chars() {
        if steers(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing into a String cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

fn is_invisible(c: char) -> bool {
    use GeneralCategory as G;
    // XML forbids the non-characters at the end of the first plane, which count as unassigned.
    matches!(c, '\u{fffe}' | '\u{ffff}')
        || matches!(
            get_general_category(c),
            G::Control | G::Format | G::LineSeparator | G::ParagraphSeparator
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_cannot_be_seen() {
        assert_eq!(visible("plain <s> é 模"), "plain <s> é 模");
        assert_eq!(visible("a\nb\tc\0\u{1b}[31m"), "a⏎b→c\\x00\\x1b[31m");
        assert_eq!(visible("\u{202e}x\u{ffff}"), "\\u{202e}x\\u{ffff}");
    }

    #[test]
    fn json_stays_what_it_is() {
        let plain = "{\n  \"a\": \"é\"\n}";
        assert!(matches!(visible_json(plain), Cow::Borrowed(_)));
        let value = serde_json::json!({"a": "\u{202e}x\u{9b}\u{e0001}\u{7f}"});
        let document = format!("{value:#}");
        let shown = visible_json(&document);
        assert!(
            !shown.chars().any(|c| is_invisible(c) && c != '\n'),
            "{shown}"
        );
        let again: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(again, value);
    }

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(shortened("abcdefgh", 8), "abcdefgh");
        assert_eq!(shortened("abcdefghi", 8), "abcdef … hi");
        assert_eq!(shortened("ééééé", 4), "é … ");
    }

    /// What moves a terminal's cursor, colours it or turns text around.
    #[test]
    fn escapes_controls_and_direction_marks() {
        let controls = ('\0'..=' ')
            .chain('\u{7f}'..='\u{9f}')
            .filter(|c| *c != ' ');
        let marks = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        for c in controls
            .chain(marks)
            .chain(['\u{200e}', '\u{200f}', '\u{61c}', '\u{2028}'])
        {
            let text = format!("a{c}b");
            assert!(!visible(&text).contains(c), "{:x}", u32::from(c));
        }
    }
}
