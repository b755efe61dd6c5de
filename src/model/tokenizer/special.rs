//! Tokens that the files beside tokenizer.json name, in the order and with the properties that
//! transformers gives them (`PreTrainedTokenizerBase._from_pretrained`, `TokenizersBackend`).
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use super::files::Beside;

/// The roles that a token may have in any tokenizer, in the order of their ids where they are new.
const ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// What the files beside tokenizer.json say of tokens.
#[derive(Debug, Default)]
pub(super) struct Special {
    /// By role, or by a name that only this model's tokenizer has.
    named: Vec<(String, AddedToken)>,
    /// Further special tokens.
    extra: Vec<AddedToken>,
    /// Tokens with an id, which need not be the one they get.
    by_id: BTreeMap<u64, AddedToken>,
}

impl Special {
    /// Reads the files. `added_tokens_decoder` in tokenizer_config.json makes the two older files
    /// irrelevant; without it special_tokens_map.json has the last word.
    pub(super) fn read(files: &Beside) -> Self {
        let config = &files.config;
        let by_id = config.get("added_tokens_decoder").map(|tokens| {
            let tokens = tokens.as_object().into_iter().flatten();
            let tokens = tokens.filter_map(|(id, value)| Some((id.parse().ok()?, plain(value)?)));
            tokens.collect::<BTreeMap<u64, AddedToken>>()
        });
        let empty = Map::new();
        let map = if by_id.is_some() {
            &empty
        } else {
            &files.special_tokens
        };
        let mut special = Self::default();
        special.read_named(config, map);
        special.read_extra(config, map);
        special.by_id = by_id.unwrap_or_else(|| special.older(&files.added_tokens));
        special
    }

    fn read_named(&mut self, config: &Map<String, Value>, map: &Map<String, Value>) {
        let mut add = |name: &str, token: Option<AddedToken>| {
            if let Some(token) = token {
                self.named.push((name.to_owned(), token));
            }
        };
        for role in ROLES {
            let token = match map.get(role) {
                Some(value) => special(value),
                None => config.get(role).and_then(special),
            };
            add(role, token);
        }
        let own = |name: &&String| name.ends_with("_token") && !ROLES.contains(&name.as_str());
        let names: HashSet<&String> = config.keys().chain(map.keys()).filter(own).collect();
        let mut names: Vec<&String> = names.into_iter().collect();
        names.sort_unstable();
        for name in names {
            let value = map.get(name).or_else(|| config.get(name));
            add(name, value.and_then(special));
        }
        let own = config
            .get("extra_special_tokens")
            .and_then(Value::as_object);
        for (name, value) in own.into_iter().flatten() {
            add(name, special(value));
        }
    }

    fn read_extra(&mut self, config: &Map<String, Value>, map: &Map<String, Value>) {
        const KEYS: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];
        let filled = |key: &&&str| config.get(**key).is_some_and(|value| !is_empty(value));
        let of_config = KEYS.iter().find(filled).and_then(|key| config.get(*key));
        let stated = KEYS.iter().any(|key| config.contains_key(*key));
        let of_map = map
            .get(KEYS[0])
            .or_else(|| map.get(KEYS[1]).filter(|_| !stated));
        for list in of_config.into_iter().chain(of_map) {
            self.extra
                .extend(list.as_array().into_iter().flatten().filter_map(special));
        }
    }

    /// added_tokens.json, which says of a token only its id.
    fn older(&self, tokens: &Map<String, Value>) -> BTreeMap<u64, AddedToken> {
        let known: HashSet<&str> = self.all().map(|token| token.content.as_str()).collect();
        let tokens = tokens.iter().filter_map(|(content, id)| {
            let token = AddedToken::from(content.as_str(), known.contains(content.as_str()));
            Some((id.as_u64()?, token))
        });
        tokens.collect()
    }

    fn all(&self) -> impl Iterator<Item = &AddedToken> {
        self.named.iter().map(|(_, token)| token).chain(&self.extra)
    }

    /// The tokens that have a role or a name, with it.
    pub(super) fn texts(&self) -> Vec<(String, String)> {
        let named = self.named.iter();
        named
            .map(|(role, token)| (role.clone(), token.content.clone()))
            .collect()
    }

    /// The text of the token with a role; an empty one is none.
    pub(super) fn text(&self, role: &str) -> Option<&str> {
        let (_, token) = self.named.iter().find(|(name, _)| name == role)?;
        Some(token.content.as_str()).filter(|text| !text.is_empty())
    }

    /// What is to be added to a tokenizer, in order.
    pub(super) fn to_add(&self, tokenizer: &Tokenizer) -> Vec<AddedToken> {
        let known = tokenizer.get_added_tokens_decoder();
        let known: HashMap<&str, &AddedToken> = known
            .values()
            .map(|token| (token.content.as_str(), token))
            .collect();
        let named: HashSet<&str> = self
            .named
            .iter()
            .map(|(_, token)| token.content.as_str())
            .collect();
        let mut adding: Vec<AddedToken> = Vec::new();
        for token in self.by_id.values() {
            if known.get(token.content.as_str()) != Some(&token) {
                let special = token.special || named.contains(token.content.as_str());
                adding.push(token.clone().special(special));
            }
        }
        let by_id: HashSet<String> = adding.iter().map(|token| token.content.clone()).collect();
        for token in self.all() {
            let content = token.content.as_str();
            // Of a token with two roles the properties of the later one stay.
            if !content.is_empty() && !known.contains_key(content) && !by_id.contains(content) {
                adding.push(token.clone());
            }
        }
        adding
    }

    /// Ids that files state, with their tokens.
    pub(super) fn ids(&self) -> impl Iterator<Item = (u32, &str)> {
        let stated = self.by_id.iter();
        stated.filter_map(|(id, token)| Some((u32::try_from(*id).ok()?, token.content.as_str())))
    }

    /// Tokens without an id and without a role.
    pub(super) fn extra(&self) -> impl Iterator<Item = &str> {
        self.extra.iter().map(|token| token.content.as_str())
    }

    /// Finds the tokens that have an id in a text before it is normalised.
    pub(super) fn match_as_written(&mut self) {
        for token in self.by_id.values_mut() {
            token.normalized = false;
        }
    }

    /// The id that a file states for a token.
    pub(super) fn stated_id(&self, content: &str) -> Option<u64> {
        let mut stated = self.by_id.iter();
        let (id, _) = stated.find(|(_, token)| token.content == content)?;
        Some(*id)
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A special token: its text, or an object with its properties.
fn special(value: &Value) -> Option<AddedToken> {
    match value {
        Value::String(text) => Some(AddedToken::from(text.as_str(), true)),
        Value::Object(_) => plain(value).map(|token| token.special(true)),
        _ => None,
    }
}

/// A token as an object describes it.
fn plain(value: &Value) -> Option<AddedToken> {
    let content = value.get("content")?.as_str()?;
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(false);
    Some(AddedToken {
        content: content.to_owned(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}
