//! Texts that a tokenizer takes as one word.
//!
//! Merging the bytes of a word needs some 160 bytes of memory for each of them, all at once. Words of people are
//! short; megabytes of one letter are a damaged file, or sequences of another kind, which nobody wants whole.
#![forbid(unsafe_code)]

use crate::error::{Error, Result};

/// Bytes of a word.
const LONGEST: usize = 1 << 20;

/// What a word is made of: most tokenizers split where this changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Number,
    Space,
    Other,
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            c if c.is_alphabetic() => Self::Letter,
            c if c.is_whitespace() => Self::Space,
            c if c.is_numeric() => Self::Number,
            _ => Self::Other,
        }
    }
}

/// Refuses a text with a word that is too long.
pub(super) fn check(text: &str) -> Result<()> {
    let (mut kind, mut start) = (Kind::Other, 0);
    for (at, c) in text.char_indices() {
        let next = Kind::of(c);
        if next != kind {
            (kind, start) = (next, at);
        } else if at - start > LONGEST {
            return Err(Error::new(
                "text",
                format!(
                    "from byte {start} on, {} MiB of it are one word to a tokenizer",
                    LONGEST >> 20
                ),
            )
            .remedy("put spaces or line ends into it, or give a part of it"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_an_end() {
        let most = LONGEST + 1;
        for one in ["a", "\0", "模", "\u{301}", "5"] {
            let count = most / one.len() + 1;
            assert!(check(&one.repeat(count - 1)).is_ok(), "{one:?}");
            let text = format!("a b {}", one.repeat(count + 1));
            let said = check(&text).expect_err(one).to_string();
            assert!(said.contains("from byte 4 on"), "{said}");
        }
        assert!(check(&"a1".repeat(most)).is_ok());
        assert!(check(&"words, ".repeat(most / 4)).is_ok());
    }
}
