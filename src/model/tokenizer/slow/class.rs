//! Which tokenizer transformers makes of a model's files: its class decides what is done to a text.

use serde_json::{Map, Value};

use crate::model::config::Config;

/// A class of transformers, by what it computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// `GPT2Tokenizer`, and `CodeGenTokenizer`, which differs in what it decodes.
    Gpt2,
    /// `GPTNeoXTokenizer`: normalised first.
    GptNeoX,
    /// `Qwen2Tokenizer`: another way of cutting words.
    Qwen2,
    /// `LlamaTokenizer`
    Llama,
    /// `GemmaTokenizer`
    Gemma,
    /// `TokenizersBackend`: as the file of the vocabulary says itself.
    Generic,
}

/// `AutoTokenizer`'s class of a model type, for those that have one of their own; the others in this table
/// have none, and may not take another's (`TOKENIZER_MAPPING_NAMES`).
const REGISTERED: [(&[&str], &str); 6] = [
    (
        &["gpt2", "gptj", "gpt_neo", "opt", "phi", "starcoder2"],
        "GPT2Tokenizer",
    ),
    (&["gpt_neox", "mpt", "olmo", "olmoe"], "GPTNeoXTokenizer"),
    (
        &["qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next"],
        "Qwen2Tokenizer",
    ),
    (
        &["gemma", "gemma2", "gemma3", "gemma3_text"],
        "GemmaTokenizer",
    ),
    (&["cohere", "cohere2"], "CohereTokenizer"),
    (
        &[
            "mistral",
            "mixtral",
            "phi3",
            "phimoe",
            "olmo2",
            "olmo3",
            "flex_olmo",
            "stablelm",
            "granite",
            "granitemoe",
            "nemotron",
            "glm",
            "glm4",
            "glm4_moe",
            "minimax_m2",
        ],
        GENERIC,
    ),
];

const GENERIC: &str = "TokenizersBackend";

/// Whose tokenizer_config.json on the hub names a wrong class.
const MISNAMED: [&str; 1] = ["qwen2"];

impl Class {
    /// The class, or its name where it is none of these.
    pub(super) fn of(config: &Map<String, Value>, model: &Config) -> Result<Self, String> {
        let text = |value: Option<&Value>| {
            let name = value.and_then(Value::as_str)?;
            Some(name.strip_suffix("Fast").unwrap_or(name).to_owned())
        };
        let named = text(config.get("tokenizer_class"));
        let named = named.or_else(|| text(model.get("tokenizer_class")));
        let kind = model.get("model_type").and_then(Value::as_str);
        let kind = kind.unwrap_or_default();
        let registered = REGISTERED.iter().find(|(kinds, _)| kinds.contains(&kind));
        let registered = registered.map(|(_, name)| *name);
        let own_code = config.get("auto_map").is_some();
        match (named, registered) {
            (Some(named), Some(registered)) if named != registered && !own_code => {
                if registered == GENERIC {
                    Ok(Self::Generic)
                } else if MISNAMED.contains(&kind) {
                    Self::called(registered)
                } else {
                    Self::called(&named)
                }
            }
            (Some(named), _) if own_code => match Self::called(&named)? {
                Self::Generic => Err(named),
                class => Ok(class),
            },
            (Some(named), _) => Self::called(&named),
            (None, Some(registered)) => Self::called(registered),
            (None, None) => Ok(Self::Generic),
        }
    }

    fn called(name: &str) -> Result<Self, String> {
        Ok(match name {
            "GPT2Tokenizer" | "CodeGenTokenizer" => Self::Gpt2,
            "GPTNeoXTokenizer" => Self::GptNeoX,
            "Qwen2Tokenizer" => Self::Qwen2,
            "LlamaTokenizer" | "Phi3Tokenizer" => Self::Llama,
            "GemmaTokenizer" => Self::Gemma,
            "PreTrainedTokenizer" | "BloomTokenizer" | "PythonBackend" | GENERIC => Self::Generic,
            other => return Err(format!("`{other}`")),
        })
    }

    /// Whether its vocabulary is vocab.json and merges.txt.
    pub(super) fn is_byte_level(self) -> bool {
        matches!(self, Self::Gpt2 | Self::GptNeoX | Self::Qwen2)
    }

    /// The tokens that have a role unless a file names another.
    pub(super) fn named(self) -> &'static [(&'static str, &'static str)] {
        const END: &str = "<|endoftext|>";
        match self {
            Self::Gpt2 => &[("unk_token", END), ("bos_token", END), ("eos_token", END)],
            Self::GptNeoX => &[
                ("unk_token", END),
                ("bos_token", END),
                ("eos_token", END),
                ("pad_token", "<|padding|>"),
            ],
            Self::Qwen2 => &[("unk_token", END), ("eos_token", END), ("pad_token", END)],
            Self::Llama => &[
                ("unk_token", "<unk>"),
                ("bos_token", "<s>"),
                ("eos_token", "</s>"),
            ],
            Self::Gemma => &[
                ("unk_token", "<unk>"),
                ("bos_token", "<bos>"),
                ("eos_token", "<eos>"),
                ("pad_token", "<pad>"),
                ("mask_token", "<mask>"),
            ],
            Self::Generic => &[],
        }
    }
}
