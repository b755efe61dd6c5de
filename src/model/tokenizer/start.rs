//! Which id starts a sequence, where several files have a say.
//!
//! In this order: the BOS that the tokenizer's files name, what tokenizer.json puts before a text
//! by itself, the tokenizer's EOS (as the reference program), config.json's BOS, its EOS.
#![forbid(unsafe_code)]

use serde_json::Value;
use tokenizers::Tokenizer;

use super::special::Special;
use crate::model::config::Config;

/// The id that starts a sequence, and what is to be said about the choice.
#[derive(Debug, Default)]
pub(super) struct Start {
    pub(super) id: Option<u32>,
    pub(super) notice: Option<String>,
}

impl Start {
    pub(super) fn choose(
        tokenizer: &Tokenizer,
        special: &Special,
        post_processor: Option<&Value>,
        model: &Config,
    ) -> Self {
        let named = |role: &str| {
            special
                .text(role)
                .and_then(|text| tokenizer.token_to_id(text))
        };
        let before = post_processor.and_then(put_before);
        let (bos, eos) = (ids(model, "bos_token_id"), ids(model, "eos_token_id"));
        const NO_BOS: &str = "for the tokenizer names no BOS";
        let sources = [
            (
                named("bos_token"),
                "the BOS that the tokenizer names".to_owned(),
            ),
            (before, "which tokenizer.json puts before a text".to_owned()),
            (named("eos_token"), format!("the tokenizer's EOS, {NO_BOS}")),
            (
                bos.first().copied(),
                format!("config.json's bos_token_id, {NO_BOS}"),
            ),
            (
                eos.first().copied(),
                format!("config.json's eos_token_id, {NO_BOS}"),
            ),
        ];
        let mut chosen = sources.iter().enumerate();
        let chosen = chosen.find_map(|(place, (id, why))| Some((place, (*id)?, why)));
        let Some((place, id, why)) = chosen else {
            return Self::default();
        };
        let mut others = Vec::new();
        if let Some(before) = before.filter(|before| *before != id) {
            others.push(format!("tokenizer.json puts id {before} before a text"));
        }
        if let Some(more @ 2..) = post_processor.map(count_before) {
            others.push(format!(
                "tokenizer.json puts {more} tokens before a text, of which this is one"
            ));
        }
        if let Some(first) = bos.first().filter(|_| !bos.contains(&id)) {
            others.push(format!("config.json says bos_token_id {first}"));
        }
        // The ids of BOS and EOS may be one, and then an EOS that starts is no surprise.
        let is_eos = matches!(place, 2 | 4) && !bos.contains(&id);
        let notice = (is_eos || !others.is_empty()).then(|| {
            let token = tokenizer.id_to_token(id).unwrap_or_default();
            let others: String = others.iter().map(|other| format!("; {other}")).collect();
            format!("sequences start with id {id} (`{token}`), {why}{others}")
        });
        Self {
            id: Some(id),
            notice,
        }
    }
}

/// The id of the special token that a post-processor puts before a text.
fn put_before(processor: &Value) -> Option<u32> {
    let id = match processor.get("type")?.as_str()? {
        "TemplateProcessing" => {
            let first = processor
                .get("single")?
                .get(0)?
                .get("SpecialToken")?
                .get("id")?;
            let tokens = processor.get("special_tokens")?.get(first.as_str()?)?;
            tokens.get("ids")?.get(0)?
        }
        "BertProcessing" | "RobertaProcessing" => processor.get("cls")?.get(1)?,
        // The last one's token comes to stand first.
        "Sequence" => {
            let parts = processor.get("processors")?.as_array()?;
            return parts.iter().rev().find_map(put_before);
        }
        _ => return None,
    };
    u32::try_from(id.as_u64()?).ok()
}

/// How many special tokens a template puts before a text.
fn count_before(processor: &Value) -> usize {
    match processor.get("type").and_then(Value::as_str) {
        Some("TemplateProcessing") => {
            let parts = processor.get("single").and_then(Value::as_array);
            let parts = parts.into_iter().flatten();
            parts
                .take_while(|part| part.get("SpecialToken").is_some())
                .count()
        }
        Some("Sequence") => {
            let parts = processor.get("processors").and_then(Value::as_array);
            parts.into_iter().flatten().map(count_before).sum()
        }
        _ => 0,
    }
}

/// Ids of config.json, one or a list; of a multimodal model also those of its text part.
fn ids(config: &Config, key: &str) -> Vec<u32> {
    let text = config.section("text_config").ok().flatten();
    let value = config.get(key);
    let value = value.or_else(|| text.as_ref()?.get(key));
    let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}
