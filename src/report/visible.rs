//! Tokens as labels.

pub use crate::visible::visible;

/// A decoded token as a label: as [`visible`], and the spaces at its ends shown as ␣.
pub fn token_label(token: &str) -> String {
    let inner = token.trim_matches(' ');
    let leading = token.len() - token.trim_start_matches(' ').len();
    let trailing = token.len() - inner.len() - leading;
    format!(
        "{}{}{}",
        "␣".repeat(leading),
        visible(inner),
        "␣".repeat(trailing)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_spaces_of_tokens() {
        assert_eq!(token_label(" the"), "␣the");
        assert_eq!(token_label("  "), "␣␣");
        assert_eq!(token_label("a b "), "a b␣");
        assert_eq!(token_label(""), "");
        assert_eq!(token_label(" \u{1b}"), "␣\\x1b");
    }
}
