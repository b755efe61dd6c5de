//! Byte-pair encoding of bytes, as GPT-2 began it.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::{Tokens, document, split::Split};
use crate::{
    error::{Error, Result},
    model::weights::gguf::Metadata,
};

const MERGES: &str = "tokenizer.ggml.merges";

/// tokenizer.json of a vocabulary whose texts are split so.
pub(super) fn json(
    metadata: &Metadata<'_>,
    vocabulary: &Tokens<'_>,
    split: &Split,
) -> Result<Value> {
    let Some(merges) = metadata.texts(MERGES)? else {
        return Err(
            Error::new(format!("`{MERGES}`"), "it is missing").remedy(super::super::keys::REMEDY)
        );
    };
    let merges: Option<Vec<[&str; 2]>> = merges.into_iter().map(pair).collect();
    let Some(merges) = merges else {
        return Err(Error::new(
            format!("`{MERGES}`"),
            "an entry is not two tokens with a space between them",
        )
        .remedy(super::super::keys::REMEDY));
    };
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": split.ignore_merges,
        "vocab": vocabulary.json(),
        "merges": merges,
    });
    let decoder = json!({
        "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
    });
    Ok(document(
        vocabulary,
        [split.normalizer(), split.pre_tokenizer(), decoder],
        model,
    ))
}

/// The two tokens of a merge; the first may itself begin with a space.
fn pair(merge: &str) -> Option<[&str; 2]> {
    let first = merge.chars().next()?.len_utf8();
    let at = first + merge[first..].find(' ')?;
    let (one, other) = (&merge[..at], &merge[at + 1..]);
    (!other.is_empty()).then_some([one, other])
}

#[cfg(test)]
mod tests {
    use super::pair;

    #[test]
    fn merges_are_pairs() {
        assert_eq!(pair("Ġ t"), Some(["Ġ", "t"]));
        assert_eq!(pair("  t"), Some([" ", "t"]));
        for other in ["", "a", "a ", " "] {
            assert_eq!(pair(other), None, "{other:?}");
        }
    }
}
