//! Files and configs that say two things: what is stored decides, as in transformers, and every
//! tensor is accounted for.

mod support;

use std::path::Path;

use massact::model::{Model, WeightsRecord};
use serde_json::json;
use support::damage::{Parts, changed, edit_json, refusal};
use support::program::{capture, massact, only_run, read_json, run};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn edit(folder: &Path, change: impl FnOnce(&mut Parts)) {
    let path = folder.join(SINGLE);
    let mut parts = Parts::read(&path);
    change(&mut parts);
    std::fs::write(path, parts.bytes()).expect("written");
}

/// Appends a tensor of these bytes.
fn add(parts: &mut Parts, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) {
    let start = parts.data.len();
    parts.data.extend_from_slice(bytes);
    let offsets = [start, parts.data.len()];
    let tensor = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
    parts.header.insert(name.into(), tensor);
}

fn add_ones(parts: &mut Parts, name: &str, shape: &[usize]) {
    let one = 1f32.to_le_bytes();
    add(
        parts,
        name,
        "F32",
        shape,
        &one.repeat(shape.iter().product()),
    );
}

fn opened(checkpoint: &str, change: impl FnOnce(&Path)) -> (WeightsRecord, Vec<String>) {
    let model = Model::open(changed(checkpoint, change).path()).expect("opens");
    (model.weights_record().clone(), model.notices())
}

/// Joins the shards of a folder into one file, the final norm's values all `norm`.
fn join_shards(folder: &Path, norm: f32) {
    let index = read_json(&folder.join(INDEX));
    let mut whole = Parts {
        header: serde_json::Map::new(),
        data: Vec::new(),
    };
    for (name, shard) in index["weight_map"].as_object().expect("a map") {
        let shard = Parts::read(&folder.join(shard.as_str().expect("a name")));
        let (start, end) = shard.range(name);
        let described = &shard.header[name];
        let dtype = described["dtype"].as_str().expect("a type");
        let shape: Vec<usize> = serde_json::from_value(described["shape"].clone()).expect("sizes");
        let mut bytes = shard.data[start..end].to_vec();
        if name.ends_with("model.norm.weight") {
            // bfloat16 is the upper half of float32.
            let value = &norm.to_le_bytes()[2..];
            bytes
                .chunks_exact_mut(2)
                .for_each(|two| two.copy_from_slice(value));
        }
        add(&mut whole, name, dtype, &shape, &bytes);
    }
    std::fs::write(folder.join(SINGLE), whole.bytes()).expect("written");
}

#[test]
fn one_file_is_read_before_shards() {
    let norm = |folder: &Path| {
        let model = Model::open(folder).expect("opens");
        let values = model.weights.get("model.norm.weight").expect("stored");
        (values.elements.to_f32()[0], model.notices())
    };
    let temp = changed("llama-tied-bf16-sharded", |_| {});
    let folder = temp.path();
    let (of_shards, notices) = norm(folder);
    assert_eq!(notices, [""; 0]);
    join_shards(folder, 3.5);
    let told = |notices: &[String]| {
        notices.len() == 1 && notices[0].contains("both model.safetensors and")
    };
    let (value, notices) = norm(folder);
    assert!(value == 3.5 && told(&notices), "{value}: {notices:?}");
    // An index whose shards are gone is no error beside a whole file.
    for shard in std::fs::read_dir(folder).expect("a folder") {
        let path = shard.expect("an entry").path();
        if path.to_string_lossy().contains("-of-") {
            std::fs::remove_file(path).expect("removed");
        }
    }
    let (value, notices) = norm(folder);
    assert!(value == 3.5 && told(&notices), "{value}: {notices:?}");
    std::fs::remove_file(folder.join(INDEX)).expect("removed");
    assert_eq!(norm(folder), (3.5, Vec::new()));
    assert_ne!(of_shards, 3.5);
}

#[test]
fn a_config_that_names_its_weights_is_followed_or_refused() {
    let name = |name: &'static str| {
        move |folder: &Path| {
            edit_json(&folder.join("config.json"), |config| {
                config.insert("transformers_weights".into(), json!(name));
            });
        }
    };
    opened("qwen2", name(SINGLE));
    opened("llama-tied-bf16-sharded", name(INDEX));
    let error = refusal("qwen2", name("other.safetensors"));
    assert!(
        error.contains("transformers_weights") && error.contains("other"),
        "{error}"
    );
}

#[test]
fn tied_heads_are_what_is_stored() {
    let table = "model.embed_tokens.weight";
    let with_head = |name: &'static str, dtype: &'static str, change: fn(&mut [u8])| {
        move |folder: &Path| {
            edit(folder, |parts| {
                let (start, end) = parts.range(table);
                let shape: Vec<usize> =
                    serde_json::from_value(parts.header[table]["shape"].clone()).expect("sizes");
                let mut bytes = parts.data[start..end].to_vec();
                if dtype == "F32" {
                    bytes = bytes
                        .chunks_exact(2)
                        .flat_map(|two| [0, 0, two[0], two[1]])
                        .collect();
                }
                change(&mut bytes);
                add(parts, name, dtype, &shape, &bytes);
            });
        }
    };
    let head = "lm_head.weight";
    // Tied, with the head stored once more, in another type or not.
    for dtype in ["BF16", "F32"] {
        let (record, notices) = opened("qwen3", with_head(head, dtype, |_| {}));
        assert_eq!(record.unneeded["head equal to the embedding"], 1, "{dtype}");
        assert_eq!(
            (record.unused, notices),
            (Vec::new(), Vec::new()),
            "{dtype}"
        );
    }
    // The last value differs.
    let (record, notices) = opened(
        "qwen3",
        with_head(head, "BF16", |bytes| {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
        }),
    );
    assert!(
        record.unneeded.is_empty() && record.unused.is_empty(),
        "{record:?}"
    );
    assert!(
        notices.len() == 1 && notices[0].contains(head) && notices[0].contains("other values"),
        "{notices:?}"
    );
    // Neither: the message names both ends.
    let error = refusal("qwen3", |folder| {
        edit(folder, |parts| {
            let tensor = parts.header.remove(table).expect("there");
            parts.header.insert("another.weight".into(), tensor);
        });
    });
    assert!(error.contains(table), "{error}");
    // GPT-NeoX calls its head otherwise, or as transformers keeps it.
    for name in ["embed_out.weight", head] {
        let (record, notices) = opened("gpt-neox-parallel", |folder| {
            edit_json(&folder.join("config.json"), |config| {
                config.insert("tie_word_embeddings".into(), json!(true));
            });
            edit(folder, |parts| {
                let tensor = parts.header.remove("embed_out.weight").expect("there");
                parts.header.insert(name.into(), tensor);
            });
        });
        assert_eq!(record.unused, [""; 0]);
        assert!(
            notices.len() == 1 && notices[0].contains(name),
            "{notices:?}"
        );
    }
}

#[test]
fn every_tensor_of_every_checkpoint_is_accounted_for() {
    for checkpoint in support::reference::all() {
        let Ok(model) = Model::open(&checkpoint.folder) else {
            continue;
        };
        let record = model.weights_record();
        assert_eq!(record.unused, [""; 0], "{}", checkpoint.name);
        let known = record.used + record.unneeded.values().sum::<usize>();
        assert_eq!(known, model.weights.names().count(), "{}", checkpoint.name);
        // The model reads what it says it reads.
        for name in model.spec.tensors() {
            assert!(model.weights.contains(&name), "{}: {name}", checkpoint.name);
        }
    }
}

#[test]
fn tensors_that_nothing_reads_are_named() {
    for (checkpoint, name, shape) in [
        ("qwen2", "score.weight", &[2, 24][..]),
        ("qwen2", "model.layers.0.mlp.up_proj.bias", &[29]),
        // One layer more than config.json has.
        ("qwen2", "model.layers.2.input_layernorm.weight", &[24]),
        // Biases that `mlp_bias` does not announce.
        (
            "deepseek-v2",
            "model.layers.1.mlp.shared_experts.up_proj.bias",
            &[14],
        ),
        ("gpt2-f32", "transformer.h.0.attn.bias", &[25]),
    ] {
        let (record, notices) = opened(checkpoint, |folder| {
            edit(folder, |parts| add_ones(parts, name, shape));
        });
        assert_eq!(record.unused, [name], "{checkpoint}");
        assert!(
            notices.len() == 1
                && notices[0].contains(name)
                && notices[0].contains("1 stored tensor is not used"),
            "{checkpoint}: {notices:?}"
        );
    }
}

#[test]
fn tensors_that_no_decoder_reads_are_counted_by_what_they_are() {
    for (checkpoint, name, shape, what) in [
        (
            "qwen2",
            "model.layers.0.self_attn.rotary_emb.inv_freq",
            &[3][..],
            "rotary tables",
        ),
        (
            "gpt2-f32",
            "transformer.h.0.attn.bias",
            &[1, 1, 64, 64],
            "attention masks",
        ),
        ("qwen2", "visual.patch_embed.weight", &[2, 2], "vision"),
        ("qwen2", "mtp.fc.weight", &[2, 2], "multi-token prediction"),
        (
            "deepseek-v3",
            "model.layers.4.eh_proj.weight",
            &[24, 48],
            "multi-token prediction",
        ),
    ] {
        let (record, notices) = opened(checkpoint, |folder| {
            edit(folder, |parts| add_ones(parts, name, shape));
        });
        assert_eq!(record.unneeded.get(what), Some(&1), "{checkpoint}: {name}");
        assert_eq!(
            (record.unused, notices),
            (Vec::new(), Vec::new()),
            "{checkpoint}: {name}"
        );
    }
    // All of such a layer, whatever it is called.
    let (record, _) = opened("deepseek-v3", |folder| {
        edit(folder, |parts| {
            add_ones(parts, "model.layers.4.eh_proj.weight", &[24, 48]);
            add_ones(parts, "model.layers.4.shared_head.norm.weight", &[24]);
        });
    });
    assert_eq!(
        (
            record.unneeded["multi-token prediction"],
            record.unused.len()
        ),
        (2, 0)
    );
}

#[test]
fn what_the_tensors_show_is_told() {
    for (checkpoint, shows) in [
        ("dyt-llama-some", "DyT in the place of"),
        ("kv-bias-llama", "attention KV bias in"),
        ("kv-bias-nano-gpt", "matrices laid out as nanoGPT does"),
    ] {
        let (record, notices) = opened(checkpoint, |_| {});
        let found = record.recognised.iter().any(|what| what.contains(shows));
        assert!(found, "{checkpoint}: {record:?}");
        assert!(
            notices.iter().any(|notice| notice.contains(shows)),
            "{checkpoint}: {notices:?}"
        );
    }
    // A gate that the config announces is no surprise, one that it does not is.
    let (told, _) = opened("gated-qwen3", |_| {});
    let (silent, _) = opened("gated-qwen3", |folder| {
        edit_json(&folder.join("config.json"), |config| {
            let _ = config.remove("attn_output_gate");
        });
    });
    let counts = |record: &WeightsRecord| {
        record
            .recognised
            .iter()
            .filter(|what| what.contains("a gate"))
            .count()
    };
    assert_eq!(counts(&silent), 1);
    assert!(counts(&told) <= 1);
}

/// On stderr, in run.json and on the page, once each.
#[test]
fn notices_reach_the_reader() {
    let temp = changed("kv-bias-llama", |folder| {
        edit(folder, |parts| add_ones(parts, "stray.weight", &[2]));
    });
    let save_dir = temp.path().join("out");
    let done = capture(temp.path(), &save_dir).succeeded();
    let told = |text: &str| text.matches("stray.weight").count();
    assert_eq!(told(&done.stderr), 1, "{}", done.stderr);
    assert_eq!(
        done.stderr.matches("attention KV bias in").count(),
        1,
        "{}",
        done.stderr
    );
    let folder = only_run(&save_dir);
    let record = read_json(&folder.join("run.json"));
    assert_eq!(record["weights"]["unused"], json!(["stray.weight"]));
    assert!(
        record["weights"]["recognised"][0]
            .as_str()
            .expect("text")
            .contains("KV bias")
    );
    let notices = record["notices"].as_array().expect("a list");
    assert_eq!(
        notices
            .iter()
            .filter(|notice| told(notice.as_str().unwrap_or("")) == 1)
            .count(),
        1
    );
    let mut command = massact([
        "existence-validation",
        "--quiet",
        "--dataset",
        "builtin",
        "--nsamples",
        "1",
    ]);
    let temp = changed("planted-llama-kv-bias", |_| {});
    let save_dir = temp.path().join("out");
    command
        .arg("--pretrained")
        .arg(temp.path())
        .arg("--save-dir")
        .arg(&save_dir);
    let quiet = run(&mut command).succeeded();
    assert_eq!(quiet.stderr, "");
    let page = std::fs::read_to_string(only_run(&save_dir).join("report.html")).expect("a page");
    assert!(page.contains("attention KV bias in"));
}

#[test]
fn missing_tensors_are_said_with_what_is_near() {
    // Experts that are laid out as no release of transformers does.
    let error = refusal("mixtral", |folder| {
        edit(folder, |parts| {
            let names: Vec<String> = parts
                .names()
                .into_iter()
                .filter(|name| name.contains("experts"))
                .collect();
            for name in names {
                let tensor = parts.header.remove(&name).expect("there");
                parts
                    .header
                    .insert(name.replace("experts.", "experts.mlp_"), tensor);
            }
        });
    });
    for part in [
        "experts.0.w1.weight` is missing",
        "experts.mlp_0.w1.weight",
        "save_pretrained",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let error = refusal("qwen2", |folder| {
        edit_json(&folder.join("config.json"), |config| {
            config.insert("num_hidden_layers".into(), json!(3));
        });
    });
    assert!(
        error.contains("layers.2") && error.contains("do not fit together"),
        "{error}"
    );
}

/// Which of two spellings counts, libraries do not agree on.
#[test]
fn a_second_spelling_of_a_tensor_is_refused() {
    for (checkpoint, stored, read) in [
        ("qwen2", "norm.weight", "model.norm.weight"),
        ("gpt2-f32", "ln_f.weight", "transformer.ln_f.weight"),
    ] {
        let error = refusal(checkpoint, |folder| {
            edit(folder, |parts| {
                let shape = [parts.range(read).1 / 4 - parts.range(read).0 / 4];
                add_ones(parts, stored, &shape);
            });
        });
        for part in [format!("`{stored}`"), format!("`{read}`")] {
            assert!(error.contains(&part), "{part}: {error}");
        }
    }
}

/// Python's JSON has numbers that JSON has not.
#[test]
fn numbers_that_only_python_writes() {
    let with = |key: &str, value: &str| {
        let temp = changed("planted-llama", |folder| {
            let path = folder.join("config.json");
            edit_json(&path, |config| {
                config.insert(key.to_owned(), json!("@"));
            });
            let text = std::fs::read_to_string(&path).expect("a config");
            std::fs::write(path, text.replace("\"@\"", value)).expect("written");
        });
        Model::open(temp.path()).map(|_| ())
    };
    for value in ["NaN", "Infinity", "-Infinity", "[0.0, Infinity]"] {
        assert_eq!(with("time_step_limit", value), Ok(()), "{value}");
        for key in ["rms_norm_eps", "rope_theta", "num_hidden_layers"] {
            let error = with(key, value).expect_err("no number").to_string();
            assert!(error.contains(key) && !error.contains("again"), "{error}");
        }
    }
}

#[test]
fn a_window_of_nothing_is_explained() {
    let error = refusal("mistral-window", |folder| {
        edit_json(&folder.join("config.json"), |config| {
            config.insert("sliding_window".into(), json!(0));
        });
    });
    assert!(
        error.contains("`sliding_window` is 0") && error.contains("null"),
        "{error}"
    );
}

/// A checkpoint of both layouts is rescaled as it is read: no index of other weights is left beside.
#[test]
fn tvr_writes_what_is_read() {
    let temp = changed("llama-tied-bf16-sharded", |folder| join_shards(folder, 3.5));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let new = elsewhere.path().join("new");
    let mut command = massact(["tvr", "--quiet", "--pretrained"]);
    command
        .arg(temp.path())
        .arg("--out")
        .arg(&new)
        .arg("--save-dir")
        .arg(elsewhere.path().join("out"));
    run(&mut command).succeeded();
    assert!(new.join(SINGLE).is_file() && !new.join(INDEX).exists());
    let model = Model::open(&new).expect("opens");
    let norm = model.weights.get("model.norm.weight").expect("stored");
    assert_eq!((norm.elements.to_f32()[0], model.notices().len()), (3.5, 0));
    let record = read_json(&only_run(&elsewhere.path().join("out")).join("run.json"));
    let inputs = record["inputs"].as_array().expect("files");
    let names = |ending: &str| {
        let paths = inputs.iter().filter_map(|input| input["path"].as_str());
        paths.filter(|path| path.ends_with(ending)).count()
    };
    assert_eq!((names(SINGLE), names(INDEX)), (1, 0));
}

#[test]
fn a_text_that_begins_with_bos_is_told() {
    let place = support::program::checkpoint("planted-llama");
    let temp = tempfile::tempdir().expect("a folder");
    let file = temp.path().join("text.txt");
    std::fs::write(&file, "<s>The river paints. ".repeat(20)).expect("written");
    let file = file.to_str().expect("UTF-8");
    let told = |arguments: &[&str]| {
        let mut command = massact(arguments);
        command.arg("--pretrained").arg(&place);
        command.arg("--save-dir").arg(temp.path().join("out"));
        let done = run(&mut command).succeeded();
        done.stderr.matches("begins with BOS (id 1) itself").count()
    };
    assert_eq!(told(&["capture", "--text", "<s>The river"]), 1);
    assert_eq!(told(&["capture", "--text", "The river <s>"]), 0);
    let without = ["--add-bos-token", "false"];
    assert_eq!(
        told(&[&["capture", "--text", "<s>The river"][..], &without].concat()),
        0
    );
    assert_eq!(
        told(&[
            "existence-validation",
            "--nsamples",
            "1",
            "--text-file",
            file
        ]),
        1
    );
    let set = format!("mine={file}");
    let arguments = [
        "intervention-analysis",
        "--text-file",
        file,
        "--eval",
        &set,
        "--nsamples",
        "1",
        "--calibration-nsamples",
        "1",
    ];
    // The corpus and the evaluation set.
    assert_eq!(told(&arguments), 2);
}
