//! The training step in the name of a revision or of a checkpoint's folder.

/// Words before the number, the likelier first: of `stage1-step1000-iter2` the step is meant.
const WORDS: [&str; 3] = ["step", "checkpoint", "iter"];

/// The step in `step1000`, `global_step1000`, `step-50k`, `checkpoint-500`, `iter_0010000`,
/// `stage1-step140000-tokens294B` and in the last part of a path; none in other names.
pub fn of_name(name: &str) -> Option<u64> {
    let name = name.trim_end_matches(['/', '\\']);
    let last = name.rsplit(['/', '\\']).next()?.to_ascii_lowercase();
    WORDS.iter().find_map(|word| {
        let mut places = last.match_indices(word);
        places.find_map(|(at, _)| number(&last[at + word.len()..]))
    })
}

/// The number that `text` begins with, after `s` of a plural, `ation` and separators at most.
fn number(text: &str) -> Option<u64> {
    let text = text.strip_prefix("ation").unwrap_or(text);
    let text = text.strip_prefix('s').unwrap_or(text);
    let text = text.trim_start_matches(['-', '_', '=', ' ']);
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let value: u64 = digits.parse().ok()?;
    let (factor, rest) = match rest.strip_prefix('k') {
        Some(rest) => (1000, rest),
        None => (1, rest),
    };
    // `step1.5k` and `step10b` are something else.
    let ends = !rest.starts_with(|c: char| c.is_alphanumeric());
    let decimals = rest.strip_prefix('.');
    let whole = !decimals.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (ends && whole).then(|| value.checked_mul(factor)).flatten()
}

#[cfg(test)]
mod tests {
    use super::of_name;

    #[test]
    fn names_of_revisions_and_folders() {
        for (name, step) in [
            ("step1000", Some(1000)),
            ("step0", Some(0)),
            ("step-1000", Some(1000)),
            ("global_step1000", Some(1000)),
            ("checkpoint-500", Some(500)),
            ("out/checkpoint-500/", Some(500)),
            ("iter_0010000", Some(10_000)),
            ("iteration-12", Some(12)),
            ("stage1-step140000-tokens294B", Some(140_000)),
            ("stage2-ingredient3-step23852-tokens51B", Some(23_852)),
            ("TinyLlama-1.1B-step-50K-105b", Some(50_000)),
            ("main", None),
            ("step", None),
            ("step1.5k", None),
            ("step10b", None),
            ("steps_20/model", None),
            ("v1.2", None),
            ("step99999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(of_name(name), step, "{name:?}");
        }
    }
}
