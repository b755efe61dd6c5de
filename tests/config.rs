//! Every key of config.json: what it means when it is changed, absent or null, what is refused, and
//! what is named because nothing reads it.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use massact::Result;
use massact::backend::cpu::Cpu;
use massact::engine::{self, Discard, Plan};
use massact::model::Model;
use massact::model::families::FAMILIES;
use massact::progress::Progress;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use support::damage::{copy, edit_json};
use support::program::{massact, only_run, read_json, run};
use support::reference;
use support::schema::assert_valid;

/// A checkpoint with another config.
struct Altered {
    temp: tempfile::TempDir,
}

impl Altered {
    fn new(name: &str, change: impl FnOnce(&mut Map<String, Value>)) -> Self {
        let altered = Self {
            temp: tempfile::tempdir().expect("a folder"),
        };
        copy(name, &altered.folder());
        edit_json(&altered.folder().join("config.json"), change);
        altered
    }

    /// With these keys set.
    fn with(name: &str, changed: Value) -> Self {
        let Value::Object(changed) = changed else {
            panic!("not an object: {changed}");
        };
        Self::new(name, |config| config.extend(changed))
    }

    fn folder(&self) -> std::path::PathBuf {
        self.temp.path().join("model")
    }

    fn open(&self) -> Result<Model> {
        Model::open(&self.folder())
    }

    /// Why it does not open.
    #[track_caller]
    fn refusal(&self) -> String {
        self.open().expect_err("refused").to_string()
    }
}

/// Mean NLL and the first logits of the last position.
fn result(model: &Model, token_ids: &[u32]) -> (f64, Vec<f32>) {
    let plan = Plan {
        nll: true,
        last_logits: 8,
        ..Plan::default()
    };
    let outcome = engine::run(
        &Cpu::new(),
        model,
        &[token_ids.to_vec()],
        &plan,
        &mut Discard,
        Progress::silent(),
    )
    .expect("runs");
    let nll = &outcome.token_nll[0];
    let mean = nll.iter().map(|value| f64::from(*value)).sum::<f64>() / nll.len() as f64;
    (mean, outcome.last_logits[0].clone())
}

/// The longest of a checkpoint's reference sequences.
fn sequence(name: &str) -> Vec<u32> {
    let reference = read_json(&support::program::checkpoint(name).join("reference.json"));
    let sequences = reference["sequences"].as_array().expect("a list");
    let ids = |entry: &Value| -> Vec<u32> {
        serde_json::from_value(entry["token_ids"].clone()).expect("ids")
    };
    let longest = sequences.iter().map(ids).max_by_key(Vec::len);
    longest.expect("a sequence")
}

/// One line of tests/config_reference.json, which tools/config_sweep writes.
#[derive(Debug, Deserialize)]
struct Case {
    checkpoint: String,
    what: String,
    changed: Map<String, Value>,
    dropped: Vec<String>,
    nll: f64,
    last_logits: Vec<f32>,
}

/// Absent keys, nulls, added keys and keys that contradict each other mean what they mean to
/// transformers.
#[test]
fn altered_configs_agree_with_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_reference.json");
    let cases: Vec<Case> = serde_json::from_value(read_json(&path)).expect("cases");
    assert!(cases.len() > 100);
    let mut wrong = Vec::new();
    for case in cases {
        let altered = Altered::new(&case.checkpoint, |config| {
            config.extend(case.changed.clone());
            for key in &case.dropped {
                config.remove(key);
            }
        });
        let name = format!("{}, {}", case.checkpoint, case.what);
        let model = match altered.open() {
            Ok(model) => model,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let (nll, logits) = result(&model, &sequence(&case.checkpoint));
        let square = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>();
        let rms = (square(&case.last_logits) / 8.0).sqrt();
        let off = logits
            .iter()
            .zip(&case.last_logits)
            .map(|(ours, theirs)| (ours - theirs).abs() / rms)
            .fold(0.0, f32::max);
        // As in tools/config_sweep.
        if (nll - case.nll).abs() > 2e-5 * case.nll.max(1.0) || off > 3e-4 {
            wrong.push(format!(
                "{name}: NLL {nll}, transformers {}, logits off by {off}",
                case.nll
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_checkpoint_has_unknown_keys() {
    for checkpoint in reference::all() {
        let model = Model::open(&checkpoint.folder).expect("opens");
        let unknown = &model.config_record().unknown_keys;
        assert!(unknown.is_empty(), "{}: {unknown:?}", checkpoint.name);
    }
}

/// One checkpoint of every family.
fn one_of_each() -> Vec<String> {
    let mut seen = BTreeSet::new();
    let names: Vec<String> = reference::all()
        .into_iter()
        .filter(|checkpoint| seen.insert(checkpoint.model_type.clone()))
        .map(|checkpoint| checkpoint.name)
        .collect();
    assert_eq!(seen.len(), FAMILIES.len());
    names
}

#[test]
fn other_mathematics_is_refused_in_every_family() {
    for name in one_of_each() {
        for (key, value) in [
            ("is_causal", json!(false)),
            ("is_causal", json!(null)),
            ("use_bidirectional_attention", json!(true)),
            ("add_cross_attention", json!(true)),
            ("per_layer_config", json!({"0": {"num_attention_heads": 2}})),
        ] {
            let message = Altered::with(&name, json!({ key: value })).refusal();
            assert!(message.contains(key), "{name}: {message}");
        }
        let harmless = json!({"is_causal": true, "use_bidirectional_attention": false});
        assert!(Altered::with(&name, harmless).open().is_ok(), "{name}");
    }
    let nested = Altered::new("gemma3-multimodal", |config| {
        config["text_config"]["is_causal"] = json!(false);
    });
    assert!(nested.refusal().contains("is_causal"));
}

#[test]
fn two_sections_of_rotary_settings_must_agree() {
    let yarn = json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16});
    for name in ["qwen3", "llama-gqa3-f32", "gemma3-old-keys", "deepseek-v2"] {
        let by_layer = name.starts_with("gemma3");
        let plain = json!({"rope_type": "default", "rope_theta": 700.0});
        let new = match by_layer {
            true => json!({"full_attention": plain, "sliding_attention": plain}),
            false => plain,
        };
        let both = Altered::with(name, json!({"rope_scaling": yarn, "rope_parameters": new}));
        let message = both.refusal();
        for says in ["`rope_scaling`", "`rope_parameters`", "`rope_theta`"] {
            assert!(message.contains(says), "{name}: {message}");
        }
    }
    // The same twice is no contradiction.
    let twice = json!({
        "rope_scaling": {"type": "linear", "factor": 2.5},
        "rope_parameters": {"rope_type": "linear", "factor": 2.5, "rope_theta": 10000.0},
        "rope_theta": 10000.0,
    });
    let model = Altered::with("llama-gqa3-f32", twice)
        .open()
        .expect("opens");
    assert_eq!(model.notices(), [""; 0]);
}

#[test]
fn another_base_beside_the_section_is_named() {
    let changed = json!({"rope_theta": 300.0, "rope_parameters": {"rope_theta": 50.0}});
    let model = Altered::with("llama-gqa3-f32", changed)
        .open()
        .expect("opens");
    assert_eq!(model.spec.ropes[0].theta, 50.0);
    let [notice] = &model.notices()[..] else {
        panic!("{:?}", model.notices());
    };
    assert!(notice.contains("`rope_theta` is 300.0"), "{notice}");
}

/// GPT-NeoX has names of its own, and transformers reads only those.
#[test]
fn gpt_neox_reads_its_own_names() {
    let changed = json!({"rotary_emb_base": 300, "rope_theta": 50.0, "rotary_pct": 0.5,
        "partial_rotary_factor": 1.0});
    let model = Altered::with("gpt-neox-parallel", changed)
        .open()
        .expect("opens");
    assert_eq!(model.spec.ropes[0].theta, 300.0);
    assert_eq!(
        model.config_record().unknown_keys,
        ["partial_rotary_factor", "rope_theta"]
    );
    let changed = json!({"rotary_emb_base": 300, "rope_parameters": {"rope_theta": 50.0}});
    let model = Altered::with("gpt-neox-parallel", changed)
        .open()
        .expect("opens");
    assert_eq!(model.spec.ropes[0].theta, 50.0);
    let notices = model.notices();
    assert!(
        notices[0].contains("`rotary_emb_base` is 300"),
        "{notices:?}"
    );
}

#[test]
fn two_names_of_a_setting_that_disagree_are_named() {
    let changed = json!({"n_layer": 3, "num_hidden_layers": 2});
    let model = Altered::with("gpt2-f32", changed).open().expect("opens");
    assert_eq!(model.spec.layers.len(), 2);
    let notices = model.notices();
    let says = |notice: &String| notice.contains("`n_layer` is 3 and `num_hidden_layers`");
    assert!(notices.iter().any(says), "{notices:?}");
}

#[test]
fn a_window_of_nothing_is_refused() {
    for name in [
        "mistral-window",
        "phi3-window",
        "mixtral",
        "gemma2",
        "olmo3",
    ] {
        for window in [0, -1] {
            let altered = Altered::with(name, json!({"sliding_window": window}));
            let message = altered.refusal();
            assert!(
                message.contains("`sliding_window`") && message.contains("null"),
                "{name}: {message}"
            );
        }
    }
    // One that is not used may be anything.
    let unused = json!({"sliding_window": 0, "use_sliding_window": false});
    assert!(Altered::with("qwen2", unused).open().is_ok());
    let none = json!({"sliding_window": null});
    assert!(Altered::with("mistral-window", none).open().is_ok());
}

#[test]
fn nulls_that_mean_nothing_are_refused() {
    for (name, key) in [
        ("llama-gqa3-f32", "rms_norm_eps"),
        ("llama-gqa3-f32", "rope_theta"),
        ("llama-gqa3-f32", "max_position_embeddings"),
        ("llama-gqa3-f32", "hidden_act"),
        ("cohere", "logit_scale"),
        ("gpt-neox-parallel", "rotary_pct"),
    ] {
        let message = Altered::with(name, json!({ key: null })).refusal();
        assert!(message.contains(&format!("`{key}` is null")), "{message}");
    }
}

#[test]
fn unknown_keys_are_named_everywhere() {
    let changed = json!({"twist": 3, "rope_parameters": {"rope_type": "default", "turn": 1},
        "use_cache": true});
    let altered = Altered::with("planted-llama", changed);
    let program = |more: &[&str]| {
        let text = support::program::checkpoint("planted-llama").join("text.txt");
        let mut command = massact(["existence-validation", "--context-length", "8"]);
        command.args(more).arg("--text-file").arg(text);
        command.arg("--pretrained").arg(altered.folder());
        command
            .arg("--save-dir")
            .arg(altered.temp.path().join("out"));
        run(&mut command).succeeded()
    };
    let done = program(&[]);
    let both = "`rope_parameters.turn`, `twist`";
    assert!(done.stderr.contains(both), "{}", done.stderr);
    let folder = only_run(&altered.temp.path().join("out"));
    let record = read_json(&folder.join("run.json"));
    let names = json!(["rope_parameters.turn", "twist"]);
    assert_eq!(record["config"]["unknown_keys"], names);
    assert_valid("run", &record);
    let page = std::fs::read_to_string(folder.join("report.html")).expect("the page");
    assert!(page.contains(both));
    assert_eq!(program(&["--quiet"]).stderr, "");
}

/// The decoder inside is one of its own `model_type`.
#[test]
fn text_parts_are_described_by_their_own_config() {
    let missing = Altered::new("llava", |config| {
        config.remove("text_config");
    });
    assert!(missing.refusal().contains("`text_config` is missing"));
    let other = Altered::new("llava", |config| {
        config["text_config"]["model_type"] = json!("a_mystery");
    });
    assert!(other.refusal().contains("`a_mystery`"));
    // Wrappers do not wrap each other.
    let nested = Altered::new("llava", |config| {
        config["text_config"]["model_type"] = json!("llava");
    });
    assert!(nested.refusal().contains("`llava`"));
    let unknown = Altered::new("qwen3-vl", |config| {
        config["text_config"]["twist"] = json!(1);
        config["text_config"]["rope_scaling"]["turn"] = json!(1);
    });
    let model = unknown.open().expect("opens");
    let names = ["text_config.rope_scaling.turn", "text_config.twist"];
    assert_eq!(model.config_record().unknown_keys, names);
    assert_eq!(model.spec.model_type, "qwen3_vl_text");
}

/// The flag of the outer config ties; in some wrappers the inner one does, too.
#[test]
fn either_config_may_tie() {
    let tied = |name: &str, outer: Value, inner: Value| {
        let altered = Altered::new(name, |config| {
            config.insert("tie_word_embeddings".into(), outer);
            config["text_config"]["tie_word_embeddings"] = inner;
        });
        let model = altered.open().expect("opens");
        // What is stored decides over a flag; the flag is what is asked here.
        let head = model.spec.head.linear.weight == model.spec.embedding.tokens;
        head || model
            .notices()
            .iter()
            .any(|notice| notice.contains("config.json ties"))
    };
    for name in [
        "llava",
        "llava-onevision",
        "qwen2-5-vl",
        "glm4v",
        "llava-next",
    ] {
        let either = name != "llava-next";
        assert!(!tied(name, json!(false), json!(false)), "{name}");
        assert!(tied(name, json!(true), json!(false)), "{name}");
        assert_eq!(tied(name, json!(false), json!(true)), either, "{name}");
    }
}

/// An indexer's choice needs a layer that has made one, and heads that can be rotated.
#[test]
fn indexers_that_cannot_choose_are_refused() {
    for (name, changed, reason) in [
        (
            "glm-moe-dsa",
            json!({"indexer_types": ["shared", "full", "full", "shared"]}),
            "`indexer_types`",
        ),
        (
            "glm-moe-dsa",
            json!({"indexer_types": ["full", "half", "full", "shared"]}),
            "`half`",
        ),
        (
            "deepseek-v32",
            json!({"index_head_dim": 2}),
            "`index_head_dim`",
        ),
        (
            "deepseek-v32",
            json!({"q_lora_rank": null}),
            "`q_lora_rank`",
        ),
        (
            "llama4-text",
            json!({"layer_types": vec!["chunked_attention"; 8], "attention_chunk_size": null}),
            "`attention_chunk_size`",
        ),
    ] {
        let message = Altered::with(name, changed).refusal();
        assert!(message.contains(reason), "{name}: {message}");
    }
}

#[test]
fn several_residual_streams_are_refused_by_name() {
    for model_type in ["hy_v4", "qwen4_exp", "qwen4_exp_text"] {
        let message = Altered::with("llama4-text", json!({"model_type": model_type})).refusal();
        let reason = format!("`{model_type}` has several residual streams");
        assert!(message.contains(&reason), "{message}");
    }
}

#[test]
fn unknown_kinds_of_layers_are_refused() {
    let changed = json!({"layer_types": ["attention", "rwkv"]});
    let message = Altered::with("granitemoehybrid-dense", changed).refusal();
    assert!(message.contains("`rwkv`"), "{message}");
}

#[test]
fn gated_delta_nets_that_are_not_computed_are_refused() {
    let rotated = json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 300.0});
    let unnamed = json!({
        "full_attn_layers": [2], "kda_layers": [1, 3], "num_heads": 3, "head_dim": 7,
        "short_conv_kernel_size": 3,
    });
    for (name, changed, reason) in [
        (
            "qwen3-next",
            json!({"layer_types": vec!["sliding_attention"; 4]}),
            "`sliding_attention`",
        ),
        (
            "qwen3-next",
            json!({"linear_num_value_heads": 4}),
            "do not fit together",
        ),
        (
            "olmo-hybrid",
            json!({"rope_scaling": rotated}),
            "`rope_scaling`",
        ),
        (
            "kimi-linear",
            json!({"linear_attn_config": unnamed}),
            "`kda_layers`",
        ),
        (
            "kimi-linear",
            json!({"mla_use_nope": false}),
            "`mla_use_nope`",
        ),
        (
            "kimi-linear",
            json!({"moe_router_activation_func": "softmax"}),
            "`moe_router_activation_func`",
        ),
    ] {
        let message = Altered::with(name, changed).refusal();
        assert!(message.contains(reason), "{name}: {message}");
    }
}

#[test]
fn settings_of_state_spaces_that_do_not_fit_are_refused() {
    let kinds = json!(["mamba", "moe", "attention", "rwkv"]);
    for (name, changed, what) in [
        ("mamba2", json!({"num_heads": 7}), "`num_heads`"),
        (
            "mamba",
            json!({"rescale_prenorm_residual": true}),
            "`rescale_prenorm_residual`",
        ),
        (
            "bamba",
            json!({"time_step_limit": [1.0]}),
            "`time_step_limit`",
        ),
        (
            "bamba",
            json!({"time_step_limit": [2.0, 1.0]}),
            "`time_step_limit`",
        ),
        ("nemotron-h", json!({"n_groups": 4}), "do not fit together"),
        (
            "nemotron-h-latent",
            json!({"layers_block_type": kinds}),
            "`rwkv`",
        ),
        (
            "falcon-h1",
            json!({"ssm_multipliers": [1.0]}),
            "`ssm_multipliers`",
        ),
        (
            "falcon-h1",
            json!({"ssm_in_multiplier": 0}),
            "`ssm_in_multiplier`",
        ),
        (
            "jamba",
            json!({"attn_layer_offset": 3}),
            "`attn_layer_offset`",
        ),
        ("zamba", json!({"n_mamba_heads": 3}), "`n_mamba_heads`"),
        ("zamba2", json!({"n_mamba_heads": 7}), "`n_mamba_heads`"),
        (
            "zamba2",
            json!({"hybrid_layer_ids": [1, 3]}),
            "`hybrid_layer_ids`",
        ),
        (
            "zamba2",
            json!({"attention_hidden_size": 20}),
            "`attention_hidden_size`",
        ),
        (
            "zamba2",
            json!({"layers_block_type": vec!["attention"; 8]}),
            "massact knows no layers `attention`",
        ),
    ] {
        let message = Altered::with(name, changed).refusal();
        assert!(message.contains(what), "{name}: {message}");
    }
}
