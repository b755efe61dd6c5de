//! How much longer a tokenizer may make a text.
//!
//! The rules of tokenizer.json are a program: a few lines that double every space, one after the other, make
//! gigabytes of a sentence, and the library does what they say. The bound here follows from the rules alone, before
//! any text is seen.
#![forbid(unsafe_code)]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value;

use super::charsmap;

/// How many times as long a text may become: those of the models known become at most four times as long.
const MOST_GROWTH: f64 = 4096.0;
/// Bytes that may be put before a text.
const MOST_BEFORE: usize = 4096;
/// Tokens that may be put around a text, and times that it may be repeated between them.
const MOST_AROUND: usize = 4096;
const MOST_REPEATED: usize = 8;

/// The parts of tokenizer.json that can make a text, its pieces or a token longer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rules {
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    /// What is put around a text.
    pub(super) post_processor: Value,
}

impl Rules {
    /// Refuses what no tokenizer does.
    pub(super) fn check(&self) -> Result<(), String> {
        for (part, rule) in [
            ("normalizer", &self.normalizer),
            ("pre_tokenizer", &self.pre_tokenizer),
            ("decoder", &self.decoder),
        ] {
            let mut grown = Grown::default();
            grown
                .follow(rule)
                .map_err(|reason| format!("its {part}: {reason}"))?;
            if grown.times > MOST_GROWTH {
                return Err(format!(
                    "its {part} may make a text more than {MOST_GROWTH} times as long"
                ));
            }
            if grown.before > MOST_BEFORE {
                return Err(format!(
                    "its {part} puts {} bytes before a text, more than {MOST_BEFORE}",
                    grown.before
                ));
            }
        }
        let mut around = Around {
            tokens: 0,
            texts: 1,
        };
        around.follow(&self.post_processor);
        if around.tokens > MOST_AROUND || around.texts > MOST_REPEATED {
            return Err(format!(
                "its post_processor repeats a text {} times and puts {} tokens around it, more than {MOST_REPEATED} \
                 and {MOST_AROUND}",
                around.texts, around.tokens
            ));
        }
        Ok(())
    }
}

/// What a chain of rules makes of a text.
struct Grown {
    times: f64,
    before: usize,
}

impl Default for Grown {
    fn default() -> Self {
        Self {
            times: 1.0,
            before: 0,
        }
    }
}

impl Grown {
    fn follow(&mut self, rule: &Value) -> Result<(), String> {
        let text = |key: &str| rule.get(key).and_then(Value::as_str);
        let length = |key: &str| text(key).map_or(0, str::len);
        match text("type") {
            Some("Sequence") => {
                let lists = ["normalizers", "pretokenizers", "decoders"];
                let lists = lists.iter().filter_map(|key| rule.get(key)?.as_array());
                return lists.flatten().try_for_each(|rule| self.follow(rule));
            }
            Some("Replace") => {
                let pattern = rule.get("pattern");
                let string = pattern.and_then(|pattern| pattern.get("String")?.as_str());
                // An expression may match nothing at every place.
                let (found, kept) = match string.map_or(0, str::len) {
                    0 => (1, 1),
                    length => (length, 0),
                };
                let times = (length("content") + kept) as f64 / found as f64;
                self.times *= times.max(1.0);
            }
            Some("Prepend") => self.before += length("prepend"),
            // A byte becomes a character of two; space goes around a character.
            Some("ByteLevel" | "BertNormalizer") => self.times *= 2.0,
            // A space becomes three bytes, as often as there is one, and stays what it is.
            Some("Metaspace") => {
                self.before += length("replacement");
            }
            Some("Precompiled") => {
                let table = text("precompiled_charsmap").unwrap_or_default();
                let table = STANDARD.decode(table).map_err(|error| error.to_string())?;
                self.times *= charsmap::longest(&table)?.max(1) as f64;
            }
            _ => {}
        }
        Ok(())
    }
}

/// What is put around a text.
struct Around {
    tokens: usize,
    texts: usize,
}

impl Around {
    fn follow(&mut self, rule: &Value) {
        let list = |key: &str| rule.get(key).and_then(Value::as_array);
        for rule in list("processors").into_iter().flatten() {
            self.follow(rule);
        }
        let pieces = list("single").map_or(&[][..], Vec::as_slice);
        let ids = |piece: &Value| {
            let name = piece.get("SpecialToken")?.get("id")?.as_str()?;
            Some(
                rule.get("special_tokens")?
                    .get(name)?
                    .get("ids")?
                    .as_array()?
                    .len(),
            )
        };
        let tokens = pieces.iter().filter_map(ids).fold(0, usize::saturating_add);
        self.tokens = self.tokens.saturating_add(tokens);
        let texts = pieces
            .iter()
            .filter(|piece| piece.get("Sequence").is_some());
        self.texts = self.texts.saturating_mul(texts.count().max(1));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(file: &Value) -> Result<(), String> {
        Rules::deserialize(file).expect("rules").check()
    }

    #[test]
    fn rules_of_models_pass() {
        let llama = json!({
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
            ]},
            "pre_tokenizer": {"type": "ByteLevel"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
            },
        });
        assert_eq!(check(&llama), Ok(()));
        assert_eq!(check(&json!({})), Ok(()));
        assert_eq!(check(&json!({"normalizer": null, "decoder": 5})), Ok(()));
    }

    #[test]
    fn rules_that_multiply_do_not() {
        let doubling = json!({"type": "Replace", "pattern": {"String": " "}, "content": "  "});
        let any = json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "x".repeat(9999)});
        let before = json!({"type": "Prepend", "prepend": "x".repeat(200)});
        let level = json!({"type": "ByteLevel"});
        let damaged = json!({"type": "Precompiled", "precompiled_charsmap": "/////w=="});
        for (key, list, rule, count) in [
            ("normalizer", "normalizers", &doubling, 13),
            ("decoder", "decoders", &doubling, 13),
            ("pre_tokenizer", "pretokenizers", &level, 13),
            ("normalizer", "normalizers", &any, 1),
            ("normalizer", "normalizers", &before, 21),
            ("normalizer", "normalizers", &damaged, 1),
        ] {
            let rules: Vec<&Value> = std::iter::repeat_n(rule, count).collect();
            let refused = check(&json!({key: {"type": "Sequence", list: rules}}));
            let said = refused.expect_err(key);
            assert!(said.starts_with(&format!("its {key}")), "{said}");
            let one_less: Vec<&Value> = std::iter::repeat_n(rule, count - 1).collect();
            assert_eq!(
                check(&json!({key: {"type": "Sequence", list: one_less}})),
                Ok(())
            );
        }
    }

    #[test]
    fn texts_that_are_repeated_do_not() {
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let template = |single: Value| {
            let ids = vec![1; 5000];
            let post = json!({
                "type": "TemplateProcessing", "single": single, "special_tokens": {"x": {"ids": ids}},
            });
            check(&json!({"post_processor": {"type": "Sequence", "processors": [post]}}))
        };
        assert!(template(json!([text, text])).is_ok());
        assert!(template(json!(vec![text; 9])).is_err());
        assert!(template(json!([{"SpecialToken": {"id": "x"}}])).is_err());
    }
}
