//! Whether matches of a regular expression depend on what comes after a cut.
//!
//! A text is cut between two characters, `before | after`. Every match that starts before the cut is
//! the same whether the text goes on with `after` or ends there, if no way through the expression
//! consumes `before` and then `after`, and if nothing is looked at, right after `before` was
//! consumed, for which `after` differs from the end. A matcher that starts before the cut and arrives
//! at it has just consumed `before`; so its next step fails on `after` as it fails at the end, and no
//! backtracking can tell the two texts apart. Nothing is assumed of what follows `after`.

use fancy_regex::{Assertion, Expr, LookAround, Regex};

/// What an expression can do at a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crossing {
    /// It can match nothing.
    pub(super) empty: bool,
    /// Its match can begin with the character after the cut.
    pub(super) begins: bool,
    /// Its match can end with the character before the cut.
    pub(super) ends: bool,
    /// A match that starts before the cut may depend on what is behind it.
    pub(super) crosses: bool,
    /// It can look at the cut from its very start, without having consumed anything.
    looks: bool,
}

impl Crossing {
    /// Of a pattern as the tokenizers library compiles it; none if this cannot be told.
    pub(super) fn of(pattern: &str, before: char, after: char) -> Option<Self> {
        let tree = Expr::parse_tree(pattern).ok()?;
        Cut { before, after }.cross(&tree.expr)
    }

    /// Of a pattern that is matched literally.
    pub(super) fn of_literal(text: &str, before: char, after: char) -> Self {
        let cut = Cut { before, after };
        text.chars().fold(Self::NOTHING, |all, c| {
            all.then(cut.one(c == before, c == after))
        })
    }

    /// Consumes nothing and depends on nothing behind the cut.
    const NOTHING: Self = Self {
        empty: true,
        begins: false,
        ends: false,
        crosses: false,
        looks: false,
    };

    fn then(self, next: Self) -> Self {
        Self {
            empty: self.empty && next.empty,
            begins: self.begins || (self.empty && next.begins),
            ends: next.ends || (next.empty && self.ends),
            crosses: self.crosses || next.crosses || (self.ends && (next.begins || next.looks)),
            looks: self.looks || (self.empty && next.looks),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            empty: self.empty || other.empty,
            begins: self.begins || other.begins,
            ends: self.ends || other.ends,
            crosses: self.crosses || other.crosses,
            looks: self.looks || other.looks,
        }
    }
}

#[derive(Clone, Copy)]
struct Cut {
    before: char,
    after: char,
}

impl Cut {
    fn cross(self, expr: &Expr) -> Option<Crossing> {
        Some(match expr {
            Expr::Empty => Crossing::NOTHING,
            Expr::Any { newline } => {
                let takes = |c| *newline || c != '\n';
                self.one(takes(self.before), takes(self.after))
            }
            Expr::Literal { val, casei: false } => {
                Crossing::of_literal(val, self.before, self.after)
            }
            Expr::Literal { val, casei: true } => {
                val.chars().try_fold(Crossing::NOTHING, |all, c| {
                    let c = fancy_regex::escape(c.encode_utf8(&mut [0; 4])).into_owned();
                    Some(all.then(self.class(&c, true)?))
                })?
            }
            Expr::Delegate {
                inner,
                size: 1,
                casei,
            } => self.class(inner, *casei)?,
            // Both look to the left only.
            Expr::Assertion(Assertion::StartText | Assertion::StartLine { .. }) => {
                Crossing::NOTHING
            }
            Expr::Assertion(_) => Crossing {
                looks: true,
                ..Crossing::NOTHING
            },
            Expr::LookAround(inner, LookAround::LookAhead | LookAround::LookAheadNeg) => {
                let inner = self.cross(inner)?;
                Crossing {
                    crosses: inner.crosses,
                    looks: inner.begins || inner.looks,
                    ..Crossing::NOTHING
                }
            }
            Expr::Concat(parts) => parts.iter().try_fold(Crossing::NOTHING, |all, part| {
                Some(all.then(self.cross(part)?))
            })?,
            Expr::Alt(parts) => {
                let mut parts = parts.iter().map(|part| self.cross(part));
                let first = parts.next()??;
                parts.try_fold(first, |all, part| Some(all.or(part?)))?
            }
            Expr::Group(inner) | Expr::AtomicGroup(inner) => self.cross(inner)?,
            Expr::Repeat { child, lo, hi, .. } => {
                let once = self.cross(child)?;
                let many = if *hi > 1 { once.then(once) } else { once };
                Crossing {
                    empty: *lo == 0 || once.empty,
                    ..once.or(many)
                }
            }
            _ => return None,
        })
    }

    /// One character.
    fn one(self, before: bool, after: bool) -> Crossing {
        Crossing {
            empty: false,
            begins: after,
            ends: before,
            ..Crossing::NOTHING
        }
    }

    /// One character of a class.
    fn class(self, class: &str, casei: bool) -> Option<Crossing> {
        let flags = if casei { "(?i)" } else { "" };
        let class = Regex::new(&format!(r"{flags}\A(?:{class})\z")).ok()?;
        let takes = |c: char| class.is_match(c.encode_utf8(&mut [0; 4])).ok();
        Some(self.one(takes(self.before)?, takes(self.after)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPT2: &str =
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    fn crosses(pattern: &str, before: char, after: char) -> Option<bool> {
        Crossing::of(pattern, before, after).map(|found| found.crosses)
    }

    #[test]
    fn published_patterns_end_at_words() {
        for pattern in [GPT2, LLAMA3] {
            for before in ['a', '7', '.', 'é', '中', '😀'] {
                assert_eq!(
                    crosses(pattern, before, ' '),
                    Some(false),
                    "{pattern} {before}"
                );
            }
            assert_eq!(crosses(pattern, 'a', '\n'), Some(false), "{pattern}");
            assert_eq!(crosses(pattern, 'a', 'b'), Some(true), "{pattern}");
            assert_eq!(crosses(pattern, ' ', ' '), Some(true), "{pattern}");
            assert_eq!(crosses(pattern, ' ', 'a'), Some(true), "{pattern}");
        }
        // Line ends belong to the punctuation before them.
        assert_eq!(crosses(GPT2, '.', '\n'), Some(false));
        assert_eq!(crosses(LLAMA3, '.', '\n'), Some(true));
    }

    #[test]
    fn looking_behind_the_cut_is_seen() {
        for (pattern, expected) in [
            (r"a(?= )", true),
            (r"a(?! )", true),
            (r"a(?!\S)", false),
            (r"a(?=b)", false),
            (r"a\b", true),
            (r"a$", true),
            (r"\s+$", false),
            (r"a*$", true),
            (r"(?=a )a", true),
            (r"(?:a| )+", true),
            (r"(?:ab?)? c", true),
            (r"a{1,3}+", false),
            (r"(?m:^)a", false),
        ] {
            assert_eq!(crosses(pattern, 'a', ' '), Some(expected), "{pattern}");
        }
        for unknown in [r"(a)\1", r"(?<=a)b", r"\Ga", "("] {
            assert_eq!(crosses(unknown, 'a', ' '), None, "{unknown}");
        }
    }

    #[test]
    fn ends_of_matches() {
        let found = Crossing::of(" {2,}", 'a', ' ').expect("told");
        assert!(found.begins && !found.ends && !found.empty && !found.crosses);
        let found = Crossing::of_literal("ba", 'a', ' ');
        assert!(found.ends && !found.begins && !found.crosses);
        assert!(Crossing::of_literal("xa y", 'a', ' ').crosses);
        assert!(Crossing::of("a*", 'b', ' ').expect("told").empty);
    }
}
