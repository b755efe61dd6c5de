//! Cuts one long list of token ids into the windows that a model sees.

use crate::error::{Error, Result};

/// What happens to a last slice that is one token short of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// It is dropped: `floor(n / C)` windows. The rule of wikitext.
    FullOnly,
    /// With a BOS it makes a window, because a window needs only C - 1 tokens of its slice.
    /// The rule of c4, pg19 and the corpus (existence, tokens, calibration).
    OneShort,
}

/// How token ids become windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRule {
    /// Tokens in a window, the BOS included.
    pub context_length: usize,
    /// Put in front of every window when given.
    pub bos: Option<u32>,
    /// At most this many windows, from the start; `None` takes all.
    pub nsamples: Option<usize>,
    /// What happens to a last slice that is one token short.
    pub tail: Tail,
}

/// Cuts `ids` by `rule`: slice i is `ids[i*C..(i+1)*C]`, and with a BOS the window is the BOS and
/// the slice without its last token (which no window sees; published perplexities are computed so).
///
/// Fewer windows than `nsamples` is not an error: the caller has the count. None at all is.
pub fn windows(ids: &[u32], rule: &WindowRule) -> Result<Vec<Vec<u32>>> {
    let length = rule.context_length;
    let Some(body) = length.checked_sub(usize::from(rule.bos.is_some())) else {
        return Err(
            Error::usage("--context-length", "0 tokens make no window").remedy("give at least 2")
        );
    };
    if body == 0 {
        return Err(Error::usage(
            "--context-length",
            format!("{length} leaves no room for text{}", after_bos(rule)),
        )
        .remedy("give at least 2"));
    }
    let needed = match rule.tail {
        Tail::FullOnly => length,
        Tail::OneShort => body,
    };
    let limit = rule.nsamples.unwrap_or(usize::MAX);
    let found: Vec<Vec<u32>> = ids
        .chunks(length)
        .filter(|slice| slice.len() >= needed)
        .take(limit)
        .map(|slice| {
            rule.bos
                .into_iter()
                .chain(slice.iter().copied().take(body))
                .collect()
        })
        .collect();
    if found.is_empty() && limit > 0 {
        return Err(Error::new(
            "text",
            format!(
                "{} tokens, and one window of {length}{} needs {needed}",
                ids.len(),
                after_bos(rule)
            ),
        )
        .remedy("lower --context-length or give a longer text"));
    }
    Ok(found)
}

fn after_bos(rule: &WindowRule) -> &'static str {
    if rule.bos.is_some() {
        " (with the BOS token)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(context_length: usize, bos: Option<u32>, tail: Tail) -> WindowRule {
        WindowRule {
            context_length,
            bos,
            nsamples: None,
            tail,
        }
    }

    #[test]
    fn without_bos_slices_follow_each_other() {
        let ids: Vec<u32> = (0..10).collect();
        let got = windows(&ids, &rule(4, None, Tail::FullOnly)).expect("two windows");
        assert_eq!(got, [[0, 1, 2, 3], [4, 5, 6, 7]]);
    }

    #[test]
    fn with_bos_the_last_token_of_each_slice_is_lost() {
        let ids: Vec<u32> = (0..11).collect();
        let full = windows(&ids, &rule(4, Some(99), Tail::FullOnly)).expect("two windows");
        assert_eq!(full, [[99, 0, 1, 2], [99, 4, 5, 6]]);
        let short = windows(&ids, &rule(4, Some(99), Tail::OneShort)).expect("three windows");
        assert_eq!(short, [[99, 0, 1, 2], [99, 4, 5, 6], [99, 8, 9, 10]]);
    }

    #[test]
    fn too_short_says_how_much_is_needed() {
        let error = windows(&[1, 2], &rule(4, Some(9), Tail::OneShort)).expect_err("too short");
        assert_eq!(
            error.to_string(),
            "text: 2 tokens, and one window of 4 (with the BOS token) needs 3; \
             lower --context-length or give a longer text"
        );
        assert!(windows(&[1, 2, 3], &rule(4, Some(9), Tail::FullOnly)).is_err());
        assert!(windows(&[], &rule(4, None, Tail::FullOnly)).is_err());
    }

    #[test]
    fn impossible_lengths_are_usage_errors() {
        for bad in [
            rule(0, None, Tail::OneShort),
            rule(0, Some(1), Tail::FullOnly),
            rule(1, Some(1), Tail::FullOnly),
        ] {
            assert_eq!(
                windows(&[1, 2, 3], &bad).expect_err("refused").exit_code(),
                2
            );
        }
    }

    proptest! {
        #[test]
        fn windows_are_what_the_rule_says(
            count in 0usize..300,
            length in 2usize..40,
            bos in proptest::option::of(Just(u32::MAX)),
            nsamples in proptest::option::of(1usize..12),
            one_short: bool,
        ) {
            let ids: Vec<u32> = (0..count as u32).collect();
            let tail = if one_short { Tail::OneShort } else { Tail::FullOnly };
            let rule = WindowRule { context_length: length, bos, nsamples, tail };
            let full = if one_short && bos.is_some() { (count + 1) / length } else { count / length };
            let expected = nsamples.map_or(full, |most| full.min(most));
            match windows(&ids, &rule) {
                Err(_) => prop_assert_eq!(expected, 0),
                Ok(got) => {
                    prop_assert_eq!(got.len(), expected);
                    for (i, window) in got.iter().enumerate() {
                        prop_assert_eq!(window.len(), length);
                        let start = i * length;
                        let wanted: Vec<u32> = match bos {
                            Some(bos) => std::iter::once(bos)
                                .chain(ids[start..start + length - 1].iter().copied())
                                .collect(),
                            None => ids[start..start + length].to_vec(),
                        };
                        prop_assert_eq!(window, &wanted);
                    }
                }
            }
        }
    }
}
