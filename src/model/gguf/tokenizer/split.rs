//! How a text is split before bytes are paired: what the names in `tokenizer.ggml.pre` stand for, each
//! with the normalizer and the patterns of the tokenizer.json that it was converted from.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use crate::{error::Result, model::weights::gguf::Metadata};

/// The key with the name.
pub(super) const KEY: &str = "tokenizer.ggml.pre";

/// A way of splitting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Split {
    /// Whether characters are composed first (NFC).
    composed: bool,
    how: How,
    /// Whether a part that is a token is one, whatever the merges say.
    pub(super) ignore_merges: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    /// GPT-2's pattern.
    Usual,
    /// Single digits, then GPT-2's pattern.
    Digits,
    /// One pattern.
    Pattern(&'static str),
    /// Patterns one after the other, and single digits.
    Patterns(&'static [&'static str]),
}

/// cl100k's, with up to three digits together: Llama 3.
const THREE_DIGITS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with single digits: Qwen 2.
const ONE_DIGIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words end where a capital follows: Mistral's Tekken.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// o200k's.
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// DeepSeek Coder's.
const CODER: &[&str] = &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"];

/// The way of the tokenizer; none if the file names none, or one that is not known.
pub(super) fn of(metadata: &Metadata<'_>) -> Result<Option<Split>> {
    let architecture = metadata.text("general.architecture")?;
    let name = match (metadata.text(KEY)?, architecture) {
        // It has had one tokenizer from the beginning.
        (None | Some("default"), Some("gpt2")) => "gpt-2",
        (name, _) => name.unwrap_or_default(),
    };
    Ok(named(name))
}

fn named(name: &str) -> Option<Split> {
    let (composed, how, ignore_merges) = match name {
        "gpt-2" | "phi-2" => (false, How::Usual, false),
        "olmo" | "mpt" => (true, How::Usual, false),
        "smollm" | "starcoder" | "refact" => (false, How::Digits, false),
        "command-r" => (true, How::Digits, false),
        "llama-bpe" | "llama3" | "llama-v3" => (false, How::Pattern(THREE_DIGITS), true),
        "dbrx" | "smaug-bpe" => (false, How::Pattern(THREE_DIGITS), false),
        "qwen2" | "stablelm2" => (true, How::Pattern(ONE_DIGIT), false),
        "deepseek-r1-qwen" => (false, How::Pattern(ONE_DIGIT), false),
        "tekken" => (false, How::Pattern(TEKKEN), true),
        "gpt-4o" => (false, How::Pattern(O200K), false),
        "deepseek-coder" => (false, How::Patterns(CODER), false),
        _ => return None,
    };
    Some(Split {
        composed,
        how,
        ignore_merges,
    })
}

impl Split {
    pub(super) fn normalizer(&self) -> Value {
        if self.composed {
            json!({"type": "NFC"})
        } else {
            Value::Null
        }
    }

    pub(super) fn pre_tokenizer(&self) -> Value {
        let bytes = |use_regex: bool| {
            json!({
                "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                "use_regex": use_regex,
            })
        };
        let pattern = |pattern: &str| {
            json!({
                "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
                "invert": false,
            })
        };
        let digits = || json!({"type": "Digits", "individual_digits": true});
        let steps: Vec<Value> = match self.how {
            How::Usual => return bytes(true),
            How::Digits => vec![digits(), bytes(true)],
            How::Pattern(one) => vec![pattern(one), bytes(false)],
            How::Patterns(all) => {
                let all = all.iter().map(|one| pattern(one));
                all.chain([digits(), bytes(false)]).collect()
            }
        };
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}
