//! What Python's text methods do, which the harnesses' prompts are made with.

/// Whether Python strips it: Unicode's white space, and four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.strip`
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.rstrip`
pub(super) fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// `str.capitalize`: the first letter a capital one, all others small ones.
pub(super) fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else {
        return String::new();
    };
    let mut capital = first.to_uppercase();
    // A letter that becomes several (German sharp s) becomes one capital and small ones.
    let mut all: String = capital.next().into_iter().collect();
    all.extend(capital.flat_map(char::to_lowercase));
    // The rest in its context: a final sigma is a letter of its own.
    let small_first = first.to_lowercase().count();
    all.extend(text.to_lowercase().chars().skip(small_first));
    all
}

/// `re.sub(r"\[.*?\]", "", text)`
pub(super) fn without_brackets(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::new();
    while let Some(open) = rest.find('[') {
        let behind = &rest[open + 1..];
        let end = behind.find([']', '\n']);
        match end.filter(|end| behind[*end..].starts_with(']')) {
            Some(end) => {
                kept.push_str(&rest[..open]);
                rest = &behind[end + 1..];
            }
            None => {
                kept.push_str(&rest[..=open]);
                rest = behind;
            }
        }
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_python_does() {
        assert_eq!(strip("\u{1f}\u{a0} a b\n"), "a b");
        assert_eq!(rstrip(" a \t"), " a");
        for (text, expected) in [
            ("", ""),
            ("hELLO World", "Hello world"),
            ("ß A", "Ss a"),
            ("éA", "Éa"),
            ("ΑΣ", "Ας"),
            ("1 A", "1 a"),
        ] {
            assert_eq!(capitalize(text), expected);
        }
        for (text, expected) in [
            ("a [b] c [d]e", "a  c e"),
            ("[a\nb] c", "[a\nb] c"),
            ("[a [b] c]", " c]"),
            ("a ] [", "a ] ["),
            ("[x\n[y]z", "[x\nz"),
        ] {
            assert_eq!(without_brackets(text), expected);
        }
    }
}
