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
