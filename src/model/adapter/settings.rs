//! adapter_config.json, as far as it decides what is added to the weights.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, fmt, path::Path};

use fancy_regex::{Regex, RegexBuilder};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    files, lfs,
    model::json,
};

/// The file.
pub(crate) const SETTINGS: &str = "adapter_config.json";

/// What to do about an adapter that is not computed.
pub(super) const MERGE: &str = "merge it in Python: PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)";

/// What to do about a damaged one.
const AGAIN: &str =
    "get both files of the adapter again, as PeftModel.save_pretrained(folder) has written them";

/// Steps of a search for a pattern in a name, which is far more than one of the library's takes.
const STEPS: usize = 20_000;

/// Keys that change nothing of what a trained adapter computes.
const WITHOUT_EFFECT: [&str; 14] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
];

/// Keys that are read.
const READ: [&str; 14] = [
    "alpha_pattern",
    "bias",
    "exclude_modules",
    "init_lora_weights",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "target_modules",
    "use_rslora",
    "ensure_weight_tying",
];

/// Ways to begin training that leave the base model as it is; others change it, so that the adapter belongs
/// to weights that are nowhere stored.
const BEGINNINGS: [&str; 4] = ["true", "false", "gaussian", "orthogonal"];

/// What the adapter's own file says.
#[derive(Debug)]
pub(super) struct Settings {
    file: String,
    /// The model that it was trained on.
    pub(super) base: Option<String>,
    /// The base's revision.
    pub(super) revision: Option<String>,
    pub(super) r: usize,
    pub(super) alpha: f64,
    pub(super) rslora: bool,
    ranks: Vec<(Regex, f64)>,
    alphas: Vec<(Regex, f64)>,
    targets: Targets,
    excluded: Option<Targets>,
    layers: Option<BTreeSet<u64>>,
    /// As the file has them.
    pub(super) lora_alpha: Value,
    pub(super) target_modules: Value,
    pub(super) modules_to_save: Value,
}

/// Which modules.
#[derive(Debug)]
enum Targets {
    /// All projections.
    All,
    /// The last parts of their names.
    Named(Vec<String>),
    /// Their whole names.
    Pattern(Regex),
}

/// Pairs of a JSON object in the order of the file: of several patterns the first counts.
#[derive(Debug, Default)]
struct Ordered(Vec<(String, Value)>);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Patterns {
    rank_pattern: Option<Ordered>,
    alpha_pattern: Option<Ordered>,
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

impl Settings {
    /// Reads the file in an adapter's folder.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(SETTINGS);
        let text = files::read(&path, files::DESCRIPTION).map_err(|error| {
            Error::new(path.display(), error)
                .remedy(format!(
                    "give a folder with {SETTINGS} and adapter_model.safetensors"
                ))
                .meant_path(folder)
        })?;
        lfs::refuse_pointer(path.display(), &text)?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Parses the text of the file, which messages call `file`.
    pub(super) fn parse(file: &str, text: &[u8]) -> Result<Self> {
        let damaged = |error: serde_json::Error| {
            Error::new(file, format!("not an adapter's settings: {error}"))
                .remedy("take the adapter's own file")
        };
        let Value::Object(values) = json::parse(text).map_err(damaged)? else {
            return Err(Error::new(file, "not a JSON object").remedy("take the adapter's own file"));
        };
        let keys = Keys {
            file,
            values: &values,
        };
        keys.refuse_what_is_not_computed()?;
        let patterns: Patterns = serde_json::from_slice(text).map_err(damaged)?;
        let r = keys.number("r")?.unwrap_or(8.0);
        if !(r >= 1.0 && r.fract() == 0.0 && r < 1e9) {
            return Err(keys.wrong("r", "a whole number of at least 1"));
        }
        Ok(Self {
            file: file.to_owned(),
            base: keys.text("base_model_name_or_path"),
            revision: keys.text("revision"),
            r: r as usize,
            alpha: keys.number("lora_alpha")?.unwrap_or(8.0),
            rslora: keys.flag("use_rslora")?,
            ranks: keys.patterns("rank_pattern", patterns.rank_pattern)?,
            alphas: keys.patterns("alpha_pattern", patterns.alpha_pattern)?,
            targets: keys.modules("target_modules")?.ok_or_else(|| {
                Error::new(
                    file,
                    "`target_modules` is null: peft then has a list of its own for each architecture",
                )
                .remedy("write the names of the adapted modules there")
            })?,
            excluded: keys.modules("exclude_modules")?,
            layers: keys.layers()?,
            lora_alpha: keys.value("lora_alpha").clone(),
            target_modules: keys.value("target_modules").clone(),
            modules_to_save: keys.value("modules_to_save").clone(),
        })
    }

    /// Rank and factor of a module.
    pub(super) fn of_module(&self, module: &str) -> Result<(usize, f32)> {
        let rank = self.first(&self.ranks, module)?;
        let rank = rank.map_or(self.r, |rank| rank as usize);
        let alpha = self.first(&self.alphas, module)?.unwrap_or(self.alpha);
        let by = if self.rslora {
            (rank as f64).sqrt()
        } else {
            rank as f64
        };
        let scale = (alpha / by) as f32;
        if rank == 0 || !scale.is_finite() {
            return Err(self.error(format!("`{module}` has rank {rank} and alpha {alpha}")));
        }
        Ok((rank, scale))
    }

    /// Whether the library puts the adapter on this module.
    pub(super) fn targets(&self, module: &str) -> Result<bool> {
        if let Some(excluded) = &self.excluded
            && self.names(excluded, module)?
        {
            return Ok(false);
        }
        let layer = module.split('.').find_map(|part| part.parse::<u64>().ok());
        let of_layer = match (&self.layers, &self.targets) {
            (Some(layers), Targets::Named(_)) => layer.is_some_and(|at| layers.contains(&at)),
            _ => true,
        };
        Ok(of_layer && self.names(&self.targets, module)?)
    }

    fn names(&self, modules: &Targets, module: &str) -> Result<bool> {
        match modules {
            Targets::All => Ok(true),
            Targets::Named(names) => Ok(names.iter().any(|name| {
                let before = module.strip_suffix(name.as_str());
                before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
            })),
            Targets::Pattern(pattern) => self.matches(pattern, module),
        }
    }

    fn first(&self, patterns: &[(Regex, f64)], module: &str) -> Result<Option<f64>> {
        for (pattern, value) in patterns {
            if self.matches(pattern, module)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }

    fn matches(&self, pattern: &Regex, module: &str) -> Result<bool> {
        pattern.is_match(module).map_err(|error| {
            let pattern = pattern.as_str();
            self.error(format!("the pattern `{pattern}` on `{module}`: {error}"))
        })
    }

    pub(super) fn error(&self, reason: impl fmt::Display) -> Error {
        Error::new(&self.file, reason).remedy(MERGE)
    }

    /// That a tensor is for one of several layers whose weights are stored once. Merging would change all of
    /// them.
    pub(super) fn of_one_user(&self, tensor: &str) -> Error {
        Error::new(
            &self.file,
            format!(
                "tensor `{tensor}`: the checkpoint has the weights that layers share once, and an adapter is for \
                 one of these layers"
            ),
        )
        .remedy("store the shared weights under the name of every layer that uses them")
    }

    /// Of files that are not whole, or not of one adapter: merging would not help.
    pub(super) fn damaged(&self, reason: impl fmt::Display) -> Error {
        Error::new(&self.file, reason).remedy(AGAIN)
    }

    /// Whether modules are named by name or pattern; else it is all projections.
    pub(super) fn names_modules(&self) -> bool {
        !matches!(self.targets, Targets::All)
    }
}

/// The keys of the file.
struct Keys<'a> {
    file: &'a str,
    values: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn value(&self, key: &str) -> &Value {
        self.values.get(key).unwrap_or(&Value::Null)
    }

    fn refused(&self, key: &str) -> Error {
        let reason = format!(
            "`{key}` is {}, which massact does not compute",
            self.value(key)
        );
        Error::new(self.file, reason).remedy(MERGE)
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let reason = format!("`{key}` is {}, expected {expected}", self.value(key));
        Error::new(self.file, reason).remedy("correct it, or take the adapter's own file")
    }

    /// Every key is read, without effect, or unset.
    fn refuse_what_is_not_computed(&self) -> Result<()> {
        if self.value("peft_type") != "LORA" {
            return Err(self.refused("peft_type"));
        }
        for (key, value) in self.values {
            let unset = match value {
                Value::Null | Value::Bool(false) => true,
                Value::Object(fields) => fields.is_empty(),
                Value::Array(items) => items.is_empty(),
                _ => false,
            };
            let known = READ.contains(&key.as_str()) || WITHOUT_EFFECT.contains(&key.as_str());
            if !unset && !known {
                return Err(self.refused(key));
            }
        }
        let beginning = match self.value("init_lora_weights") {
            Value::Null => "true".to_owned(),
            Value::String(name) => name.clone(),
            other => other.to_string(),
        };
        if !BEGINNINGS.contains(&beginning.as_str()) && beginning != "eva" {
            return Err(self.refused("init_lora_weights"));
        }
        if self.flag("ensure_weight_tying")? {
            return Err(self.refused("ensure_weight_tying"));
        }
        match self.value("bias") {
            Value::Null => Ok(()),
            Value::String(kind) if ["none", "all", "lora_only"].contains(&kind.as_str()) => Ok(()),
            _ => Err(self.refused("bias")),
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        let text = self.value(key).as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.value(key) {
            Value::Null => Ok(None),
            Value::Number(number) => Ok(number.as_f64()),
            _ => Err(self.wrong(key, "a number")),
        }
    }

    fn flag(&self, key: &str) -> Result<bool> {
        match self.value(key) {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            _ => Err(self.wrong(key, "true or false")),
        }
    }

    fn modules(&self, key: &str) -> Result<Option<Targets>> {
        match self.value(key) {
            Value::Null => Ok(None),
            Value::String(all) if all == "all-linear" => Ok(Some(Targets::All)),
            Value::String(pattern) => {
                let pattern = self.pattern(key, &format!("^(?:{pattern})$"))?;
                Ok(Some(Targets::Pattern(pattern)))
            }
            Value::Array(names) => {
                let names = names.iter().map(|name| name.as_str().map(str::to_owned));
                let names = names.collect::<Option<Vec<_>>>();
                let names = names.ok_or_else(|| self.wrong(key, "names of modules"))?;
                Ok(Some(Targets::Named(names)).filter(|_| {
                    // An empty list excludes nothing.
                    key == "target_modules" || self.value(key) != &Value::Array(Vec::new())
                }))
            }
            _ => Err(self.wrong(key, "names of modules, or a pattern")),
        }
    }

    fn layers(&self) -> Result<Option<BTreeSet<u64>>> {
        const KEY: &str = "layers_to_transform";
        let list = match self.value(KEY) {
            Value::Null => return Ok(None),
            Value::Array(list) if list.is_empty() => return Ok(None),
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        let layers = list.iter().map(Value::as_u64).collect::<Option<_>>();
        layers
            .map(Some)
            .ok_or_else(|| self.wrong(KEY, "numbers of layers"))
    }

    /// The library looks for a pattern at the end of a name, behind its beginning or a dot.
    fn patterns(&self, key: &str, found: Option<Ordered>) -> Result<Vec<(Regex, f64)>> {
        let found = found.unwrap_or_default().0.into_iter();
        let read = found.map(|(pattern, value)| {
            let value = value.as_f64().filter(|value| *value >= 0.0 && *value < 1e9);
            let value = value.ok_or_else(|| self.wrong(key, "numbers"))?;
            let pattern = self.pattern(key, &format!("^(?:.*\\.)?(?:{pattern})$"))?;
            Ok((pattern, value))
        });
        read.collect()
    }

    fn pattern(&self, key: &str, pattern: &str) -> Result<Regex> {
        let built = RegexBuilder::new(pattern)
            .backtrack_limit(STEPS)
            .delegate_size_limit(1 << 20)
            .delegate_dfa_size_limit(1 << 20)
            .build();
        built.map_err(|error| {
            let why = error.to_string();
            let why = why.lines().next().unwrap_or_default();
            Error::new(self.file, format!("`{key}`: not a pattern: {why}")).remedy(MERGE)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(more: Value) -> Result<Settings> {
        let mut all = json!({ "peft_type": "LORA", "r": 4, "lora_alpha": 6 });
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
        Settings::parse("a.json", all.to_string().as_bytes())
    }

    #[test]
    fn ranks_and_factors_by_pattern() {
        // Not by the order of the alphabet.
        let text = br#"{"peft_type": "LORA", "r": 4, "lora_alpha": 6, "use_rslora": true,
            "target_modules": "all-linear",
            "alpha_pattern": {"q_proj": 8, "0.q_proj": 2, "^a\\.k_proj": 10},
            "rank_pattern": {"k_proj": 16}}"#;
        let found = Settings::parse("a.json", text).expect("read");
        let of = |module: &str| found.of_module(module).expect("a factor");
        assert_eq!(of("a.0.q_proj"), (4, 4.0));
        assert_eq!(of("a.k_proj"), (16, 2.5));
        assert_eq!(of("a.0.v_proj"), (4, 3.0));
        assert_eq!(of("a.xk_proj"), (4, 3.0));
    }

    #[test]
    fn modules_by_name_pattern_and_layer() {
        let targets = |more: Value, module: &str| {
            let found = settings(more).expect("read");
            found.targets(module).expect("an answer")
        };
        let named = json!({ "target_modules": ["q_proj", "mlp.up"] });
        for (module, is) in [
            ("q_proj", true),
            ("a.1.q_proj", true),
            ("a.1.xq_proj", false),
            ("a.1.mlp.up", true),
            ("a.1.up", false),
        ] {
            assert_eq!(targets(named.clone(), module), is, "{module}");
        }
        let pattern = json!({ "target_modules": r".*\.[02]\.(q|k)" });
        assert!(targets(pattern.clone(), "a.2.k") && !targets(pattern, "a.2.kk"));
        let layers = json!({ "target_modules": ["q"], "layers_to_transform": [1] });
        assert!(targets(layers.clone(), "a.1.q") && !targets(layers, "a.2.q"));
        let excluded = json!({ "target_modules": "all-linear", "exclude_modules": ["a.1.q"] });
        assert!(targets(excluded.clone(), "a.2.q") && !targets(excluded, "a.1.q"));
    }

    #[test]
    fn refuses_by_name() {
        for (more, key) in [
            (json!({ "peft_type": "LOHA" }), "peft_type"),
            (json!({ "use_dora": true }), "use_dora"),
            (json!({ "lora_bias": true }), "lora_bias"),
            (json!({ "init_lora_weights": "pissa" }), "init_lora_weights"),
            (json!({ "bias": "some" }), "bias"),
            (
                json!({ "trainable_token_indices": [3] }),
                "trainable_token_indices",
            ),
            (
                json!({ "target_parameters": ["experts"] }),
                "target_parameters",
            ),
            (
                json!({ "layer_replication": [[0, 4]] }),
                "layer_replication",
            ),
            (json!({ "a_new_key": 1 }), "a_new_key"),
            (json!({ "r": 0 }), "`r`"),
            (json!({ "lora_alpha": "8" }), "lora_alpha"),
            (json!({ "target_modules": "(" }), "target_modules"),
            (json!({ "target_modules": null }), "target_modules"),
            (json!({ "rank_pattern": { "q": -1 } }), "rank_pattern"),
        ] {
            let error = settings(more).expect_err(key).to_string();
            assert!(error.contains(key) && error.contains("; "), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn patterns_take_few_steps() {
        let found = settings(json!({ "target_modules": r"(a+)+\1b" })).expect("read");
        assert!(found.targets(&"a".repeat(60)).is_err());
    }
}
