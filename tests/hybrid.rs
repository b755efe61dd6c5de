//! Layers without attention, through the real program: a planted LFM2, whose layers 1 and 2 have
//! convolutions in its place. Its numbers beside transformers' are in the tests of each experiment.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};
use support::damage::{Parts, changed, edit_json};
use support::program::{Done, checkpoint, files, massact, only_run, read_json, run};
use support::{schema::assert_valid, tensors};

const HYBRID: &str = "planted-lfm2";
const WITHOUT: [usize; 2] = [1, 2];

fn ran(save_dir: &Path, folder: &Path, arguments: &[&str]) -> Done {
    let mut command = massact(arguments);
    command.arg("--pretrained").arg(folder).arg("--save-dir");
    run(command.arg(save_dir))
}

/// The layers in the names of a file's tensors: `layer.3.probs_mean`.
fn layers_of(path: &Path) -> BTreeSet<usize> {
    let tensors = tensors::read(path);
    let number = |name: &String| name.split('.').nth(1).and_then(|part| part.parse().ok());
    tensors.keys().filter_map(number).collect()
}

fn edit_tensors(folder: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let path = folder.join("model.safetensors");
    let mut parts = Parts::read(&path);
    change(&mut parts.header);
    std::fs::write(path, parts.bytes()).expect("written");
}

/// A copy with one layer, which is the hybrid's layer 1: no attention anywhere.
fn without_attention() -> tempfile::TempDir {
    changed(HYBRID, |folder| {
        edit_json(&folder.join("config.json"), |config| {
            config.insert("num_hidden_layers".into(), json!(1));
            config.insert("layer_types".into(), json!(["conv"]));
        });
        edit_tensors(folder, |header| {
            let swapped = header.iter().map(|(name, tensor)| {
                let name = match name.strip_prefix("model.layers.") {
                    Some(rest) if rest.starts_with("0.") => format!("model.layers.1{}", &rest[1..]),
                    Some(rest) if rest.starts_with("1.") => format!("model.layers.0{}", &rest[1..]),
                    _ => name.clone(),
                };
                (name, tensor.clone())
            });
            *header = swapped.collect();
        });
    })
}

#[test]
fn maps_and_parts_are_of_the_layers_that_have_attention() {
    let temp = tempfile::tempdir().expect("a folder");
    let arguments = ["self-attention", "--json", "--raw", "--heads", "all"];
    let done = ran(temp.path(), &checkpoint(HYBRID), &arguments).succeeded();
    let notice = "attention maps: layers 1-2 are left out, which have no attention";
    assert!(done.stderr.contains(notice), "{}", done.stderr);
    let document = done.json();
    assert_eq!(document["layers_without_attention"], json!(WITHOUT));
    let folder = only_run(temp.path());
    for name in ["attention.safetensors", "attention_output.safetensors"] {
        assert_eq!(
            layers_of(&folder.join(name)),
            BTreeSet::from([0, 3]),
            "{name}"
        );
    }
    let pictures: Vec<String> = files(&folder);
    let heads =
        |layer: usize| pictures.contains(&format!("self_attention_layer_{layer}_heads.svg"));
    assert!(
        heads(0) && heads(3) && !heads(1) && !heads(2),
        "{pictures:?}"
    );
    let page = std::fs::read_to_string(folder.join("report.html")).expect("a page");
    assert!(page.contains("layers 1-2 have no attention"));
    let svg = std::fs::read_to_string(folder.join("self_attention.svg")).expect("maps");
    assert!(svg.contains("Layer 3") && !svg.contains("Layer 1") && !svg.contains("Layer 2"));

    let temp = tempfile::tempdir().expect("a folder");
    let arguments = [
        "capture",
        "--json",
        "--token-ids",
        "1,5,7",
        "--attention",
        "sink",
    ];
    let more = ["--sites", "q,attention_output,mixer_output", "--raw"];
    let done = ran(
        temp.path(),
        &checkpoint(HYBRID),
        &[&arguments[..], &more].concat(),
    );
    let done = done.succeeded();
    let notice = "q, attention_output, attention maps: layers 1-2 are left out";
    assert!(done.stderr.contains(notice), "{}", done.stderr);
    let folder = only_run(temp.path());
    assert_eq!(
        layers_of(&folder.join("attention.safetensors")),
        BTreeSet::from([0, 3])
    );
    let raw = tensors::read(&folder.join("capture.safetensors"));
    for layer in 0..4 {
        let at = |site: &str| raw.get(&format!("{site}.{layer}.0"));
        assert!(at("mixer_output").is_some(), "layer {layer}");
        let same = at("attention_output") == at("mixer_output");
        assert_eq!(same, !WITHOUT.contains(&layer), "layer {layer}");
    }
}

#[test]
fn layers_without_attention_have_no_heads_to_draw() {
    for (flag, layers, told) in [
        (
            "--heads",
            "1",
            "--heads 1: there is no attention in these layers; use some of 0, 3",
        ),
        (
            "--layers",
            "1-2",
            "--layers 1-2: there is no attention in these layers; use some of 0, 3",
        ),
    ] {
        let temp = tempfile::tempdir().expect("a folder");
        let arguments = ["self-attention", flag, layers];
        let done = ran(temp.path(), &checkpoint(HYBRID), &arguments);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(told), "{}", done.stderr);
    }
    // Beside others they are passed over.
    let temp = tempfile::tempdir().expect("a folder");
    let arguments = ["self-attention", "--heads", "1,3", "--layers", "2,3"];
    ran(temp.path(), &checkpoint(HYBRID), &arguments).succeeded();
    let folder = only_run(temp.path());
    assert_eq!(
        layers_of(&folder.join("attention.safetensors")),
        BTreeSet::from([3])
    );
}

/// The axis is that of all layers; a site's values stand at the layers that have it.
#[test]
fn figures_and_magnitudes_keep_the_layers_numbers() {
    let temp = tempfile::tempdir().expect("a folder");
    let arguments = ["figures", "--json", "--tables", "csv"];
    let done = ran(temp.path(), &checkpoint(HYBRID), &arguments).succeeded();
    let document = done.json();
    assert_valid("figures", &document);
    assert_eq!(document["absent_sites"], json!([]));
    let queries = document["sites"]["q"].as_array().expect("queries");
    let numbers: Vec<u64> = queries
        .iter()
        .filter_map(|layer| layer["layer"].as_u64())
        .collect();
    assert_eq!(numbers, [0, 3]);
    let csv = std::fs::read_to_string(only_run(temp.path()).join("layers.csv")).expect("a table");
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let column = rows[0]
        .iter()
        .position(|name| *name == "q_max")
        .expect("q_max");
    for (layer, row) in rows[1..].iter().enumerate() {
        assert_eq!(row[0], layer.to_string());
        assert_eq!(row[column].is_empty(), WITHOUT.contains(&layer), "{row:?}");
    }
    let largest = queries[1]["max"].as_f64().expect("a number") as f32;
    assert_eq!(rows[4][column].parse(), Ok(largest));

    let temp = tempfile::tempdir().expect("a folder");
    let arguments = [
        "top-activation-magnitude",
        "--json",
        "--sentence",
        "A door. A river.",
    ];
    let arguments = [&arguments[..], &["--module-name", "k", "--tables", "csv"]].concat();
    let document = ran(temp.path(), &checkpoint(HYBRID), &arguments)
        .succeeded()
        .json();
    assert_valid("top_activation_magnitude", &document);
    let layers = document["layers"].as_array().expect("layers").iter();
    let numbers: Vec<u64> = layers.filter_map(|layer| layer["layer"].as_u64()).collect();
    assert_eq!(numbers, [0, 3]);
    let page = std::fs::read_to_string(only_run(temp.path()).join("report.html")).expect("a page");
    assert!(
        page.contains("[3.0,") || page.contains("[3,"),
        "the points of layer 3"
    );
}

/// Shares of attention are of the layers that have it, beside a model in which all have.
#[test]
fn compare_leaves_shares_empty_where_there_is_no_attention() {
    let temp = tempfile::tempdir().expect("a folder");
    let none = without_attention();
    let mut command = massact([
        "compare",
        "--json",
        "--context-length",
        "32",
        "--nsamples",
        "3",
    ]);
    command
        .arg("--text-file")
        .arg(checkpoint("planted-llama").join("text.txt"));
    command.args([
        "--experiments",
        "existence,tokens,interventions,attention,weights",
    ]);
    command.arg(format!("llama={}", checkpoint("planted-llama").display()));
    command.arg(format!("hybrid={}", checkpoint(HYBRID).display()));
    command.arg(format!("none={}", none.path().display()));
    let done = run(command.arg("--save-dir").arg(temp.path())).succeeded();
    let notice = "attention maps: layers 1-2 are left out, which have no attention";
    assert!(done.stderr.contains(notice), "{}", done.stderr);
    assert!(
        done.stderr.contains("none: no layer has attention"),
        "{}",
        done.stderr
    );
    let document = done.json();
    assert_valid("compare", &document);
    let [llama, hybrid, none] = [0, 1, 2].map(|index| &document["checkpoints"][index]);
    assert_eq!(none["attention"], Value::Null);
    assert_eq!(
        none["existence"]["layers"].as_array().map(Vec::len),
        Some(1)
    );
    for (checkpoint, without) in [(llama, &[][..]), (hybrid, &WITHOUT)] {
        let layers = checkpoint["attention"]["layers"]
            .as_array()
            .expect("layers");
        assert_eq!(layers.len(), 4);
        let mut shares = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            assert_eq!(layer["layer"], index);
            let share = layer["first_token"].as_f64();
            assert_eq!(share.is_none(), without.contains(&index), "layer {index}");
            assert_eq!(layer["massive_tokens"].is_null(), share.is_none());
            shares.extend(share);
        }
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        let told = checkpoint["attention"]["first_token"]
            .as_f64()
            .expect("a mean");
        assert!((told - mean).abs() < 1e-12, "{told} {mean}");
    }
    // Both have what was planted, and zeros there do harm.
    for checkpoint in [llama, hybrid] {
        assert_eq!(checkpoint["tokens"]["first_layer"], 1);
        assert_eq!(checkpoint["existence"]["massive_layers"], json!([1, 2]));
        assert!(checkpoint["interventions"]["set_to_zero"]["ratio"].is_number());
    }
    let folder = only_run(temp.path());
    let csv = std::fs::read_to_string(folder.join("layers.csv")).expect("a table");
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    let column = |name: &str| {
        rows[0]
            .iter()
            .position(|title| *title == name)
            .expect("a column")
    };
    for row in &rows[1..] {
        let layer: usize = row[column("layer")].parse().expect("a number");
        let empty = row[0] == "none" || row[0] == "hybrid" && WITHOUT.contains(&layer);
        assert_eq!(
            row[column("attention_first_token")].is_empty(),
            empty,
            "{row:?}"
        );
    }
    assert!(folder.join("attention_to_first_token.svg").exists());
    assert!(!folder.join("attention_to_kv_bias.svg").exists());
}

#[test]
fn a_model_without_attention() {
    let none = without_attention();
    let temp = tempfile::tempdir().expect("a folder");
    for arguments in [
        &["self-attention"][..],
        &["capture", "--token-ids", "1,5", "--attention", "mean"],
    ] {
        let done = ran(temp.path(), none.path(), arguments);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        let told = "attention: no layer of this model has any: other parts mix its tokens; ";
        assert!(done.stderr.contains(told), "{}", done.stderr);
        assert!(done.stderr.contains("mixer_output"), "{}", done.stderr);
    }
    let arguments = ["capture", "--token-ids", "1,5", "--sites", "q"];
    let done = ran(temp.path(), none.path(), &arguments);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    let told = "site `q`: the layers of this model have no attention; observe mixer_output instead";
    assert!(done.stderr.contains(told), "{}", done.stderr);
    assert!(files(temp.path()).is_empty(), "{:?}", files(temp.path()));

    // What is about hidden states, and the figures of what there is.
    let done = ran(temp.path(), none.path(), &["figures"]).succeeded();
    assert!(done.stdout.contains("qkv: no layer"), "{}", done.stdout);
    let names = files(&only_run(temp.path()));
    let drawn = |name: &str| names.contains(&format!("{name}.svg"));
    assert!(
        drawn("mlp") && drawn("layernorm") && !drawn("qkv"),
        "{names:?}"
    );
    let folder = only_run(temp.path());
    let norms = std::fs::read_to_string(folder.join("layernorm.svg")).expect("a figure");
    assert!(norms.contains("Norms of"), "{norms}");
    let document = read_json(&folder.join("figures.json"));
    assert_eq!(
        document["absent_sites"],
        json!(["attention_input", "q", "k", "v"])
    );
}

/// A learned key belongs to attention: in one layer it is that layer's, and nothing takes it where
/// there is none.
#[test]
fn kv_bias_is_of_layers_with_attention() {
    let add = |folder: &Path, module: &str, names: &[&str]| {
        let path = folder.join("model.safetensors");
        let mut parts = Parts::read(&path);
        for name in names {
            let start = parts.data.len();
            // Two key/value heads of four values.
            let values = (0..8).flat_map(|index| (0.3 * index as f32).to_le_bytes());
            parts.data.extend(values);
            let offsets = [start, parts.data.len()];
            let tensor = json!({ "dtype": "F32", "shape": [2, 1, 4], "data_offsets": offsets });
            parts
                .header
                .insert(format!("model.layers.{module}.{name}"), tensor);
        }
        std::fs::write(path, parts.bytes()).expect("written");
    };
    let arguments = ["self-attention", "--json", "--token-ids", "1,5,7,9"];
    let biased = changed(HYBRID, |folder| {
        add(folder, "3.self_attn", &["k_bias", "v_bias"])
    });
    let temp = tempfile::tempdir().expect("a folder");
    let done = ran(temp.path(), biased.path(), &arguments).succeeded();
    assert!(
        done.stderr.contains("attention KV bias in one layer"),
        "{}",
        done.stderr
    );
    let maps = tensors::read(&only_run(temp.path()).join("attention.safetensors"));
    assert_eq!(maps["layer.0.probs_mean"].shape, [4, 4]);
    assert_eq!(maps["layer.3.probs_mean"].shape, [4, 5]);

    // One without the other is refused, and where there is no attention both are told to be of no use.
    for (module, names, code, told) in [
        ("3.self_attn", &["k_bias"][..], 1, "v_bias"),
        (
            "1.self_attn",
            &["k_bias", "v_bias"],
            0,
            "2 stored tensors are not used",
        ),
        (
            "1.conv",
            &["k_bias", "v_bias"],
            0,
            "2 stored tensors are not used",
        ),
    ] {
        let folder = changed(HYBRID, |folder| add(folder, module, names));
        let temp = tempfile::tempdir().expect("a folder");
        let done = ran(temp.path(), folder.path(), &arguments);
        assert_eq!(done.code, Some(code), "{module}: {}", done.stderr);
        assert!(done.stderr.contains(told), "{}", done.stderr);
        assert!(
            !done.stderr.contains("attention KV bias in"),
            "{}",
            done.stderr
        );
    }
}

/// Convolutions' weights have three dimensions, and stay.
#[test]
fn tvr_rescales_what_has_two_dimensions() {
    let temp = tempfile::tempdir().expect("a folder");
    let out = temp.path().join("rescaled");
    let mut command = massact(["tvr", "--json", "--pretrained"]);
    command.arg(checkpoint(HYBRID)).arg("--out").arg(&out);
    let document = run(command.arg("--save-dir").arg(temp.path().join("runs"))).succeeded();
    let document = document.json();
    let skipped = document["skipped"].as_array().expect("a list");
    let names: Vec<&str> = skipped
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    let convolutions = WITHOUT.map(|layer| format!("model.layers.{layer}.conv.conv.weight"));
    assert_eq!(names, convolutions);
    let [before, after] = [checkpoint(HYBRID), out.clone()]
        .map(|folder| tensors::read(&folder.join("model.safetensors")));
    for name in &convolutions {
        assert_eq!(before[name], after[name], "{name}");
    }
    let rescaled = "model.layers.1.conv.in_proj.weight";
    assert_ne!(before[rescaled], after[rescaled]);
    ran(temp.path(), &out, &["capture", "--token-ids", "1,5,7"]).succeeded();
}

/// Zamba2's layers 1, 3, 4, 5 and 7 have attention in a block beside the stream.
#[test]
fn a_block_beside_the_stream() {
    let folder = checkpoint("zamba2");
    let with = BTreeSet::from([1, 3, 4, 5, 7]);
    let temp = tempfile::tempdir().expect("a folder");
    let sites = "attention_input,attention_output,mlp_input,mlp_output,mixer_output,residual_mid";
    let asked = ["capture", "--token-ids", "1,5,7", "--raw", "--sites", sites];
    let done = ran(temp.path(), &folder, &asked);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    let told = "have no MLP or have an MLP that does not start from the residual stream";
    assert!(done.stderr.contains(told), "{}", done.stderr);
    let sites = sites.trim_end_matches(",residual_mid");
    let asked = ["capture", "--token-ids", "1,5,7", "--raw", "--sites", sites];
    ran(
        temp.path(),
        &folder,
        &[&asked[..], &["--attention", "mean"]].concat(),
    )
    .succeeded();
    let run = only_run(temp.path());
    assert_eq!(layers_of(&run.join("attention.safetensors")), with);
    let raw = tensors::read(&run.join("capture.safetensors"));
    for layer in 0..8 {
        let shape = |site: &str| Some(raw.get(&format!("{site}.{layer}.0"))?.shape.clone());
        assert_eq!(shape("mixer_output"), Some(vec![3, 20]), "layer {layer}");
        for (site, width) in [
            ("attention_input", 40),
            ("mlp_input", 20),
            ("mlp_output", 20),
        ] {
            let expected = with.contains(&layer).then(|| vec![3, width]);
            assert_eq!(shape(site), expected, "layer {layer}: {site}");
        }
    }

    // Only the mixer adds to the stream, and no neuron writes to it.
    let temp = tempfile::tempdir().expect("a folder");
    let asked = [
        "life",
        "--json",
        "--token-ids",
        "1,5,7",
        "--position",
        "0,2",
    ];
    let document = ran(
        temp.path(),
        &folder,
        &[&asked[..], &["--dimension", "0,3"]].concat(),
    );
    let document = document.succeeded().json();
    assert_valid("life", &document);
    let activations = document["activations"].as_array().expect("activations");
    assert_eq!(activations.len(), 4);
    for life in activations {
        assert_eq!(life["super_weight"], Value::Null);
        for layer in life["layers"].as_array().expect("layers") {
            let [attention, mlp] = [&layer["attention"], &layer["mlp"]];
            assert_eq!((attention, mlp), (&Value::Null, &Value::Null), "{layer}");
            assert!(layer["mixer"].is_number(), "{layer}");
            assert_eq!(layer["neurons"], json!([]), "{layer}");
        }
    }

    // Columns in there that are no dimensions of the stream are to be named.
    for site in ["attention_input", "attention_output", "mlp_input"] {
        let temp = tempfile::tempdir().expect("a folder");
        let asked = ["intervention-analysis", "--site", site, "--layers", "1"];
        let done = ran(temp.path(), &folder, &asked);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        let told = "its columns are not the dimensions of the residual stream";
        assert!(done.stderr.contains(told), "{site}: {}", done.stderr);
    }
}

/// A block's tensors are read from wherever they are stored: with the first of its layers, with another, or
/// with each, where each has values of its own.
#[test]
fn shared_weights_wherever_they_lie() {
    const FIRST: &str = "model.layers.1.shared_transformer.";
    let later = |name: &str| {
        let rest = name.strip_prefix(FIRST)?;
        Some(format!("model.layers.4.shared_transformer.{rest}"))
    };
    let likelihood = |folder: &Path| {
        let temp = tempfile::tempdir().expect("a folder");
        let asked = ["capture", "--json", "--nll", "--token-ids", "1,5,7,9,2"];
        let done = ran(temp.path(), folder, &asked).succeeded();
        assert!(!done.stderr.contains("not used"), "{}", done.stderr);
        let nll = done.json()["sequences"][0]["nll"].as_f64();
        nll.expect("a number")
    };
    let usual = likelihood(&checkpoint("zamba2"));
    let moved = changed("zamba2", |folder| {
        edit_tensors(folder, |header| {
            let names = header.iter().map(|(name, tensor)| {
                let name = later(name).unwrap_or_else(|| name.clone());
                (name, tensor.clone())
            });
            *header = names.collect();
        });
    });
    assert_eq!(likelihood(moved.path()), usual);
    let with_copy = |change: &dyn Fn(&mut [u8])| {
        changed("zamba2", |folder| {
            let path = folder.join("model.safetensors");
            let mut parts = Parts::read(&path);
            for (name, tensor) in parts.header.clone() {
                let Some(later) = later(&name) else {
                    continue;
                };
                let offsets = [0, 1].map(|end| tensor["data_offsets"][end].as_u64());
                let [start, end] = offsets.map(|end| end.expect("an offset") as usize);
                let mut copy = parts.data[start..end].to_vec();
                if name.ends_with("down_proj.weight") {
                    change(&mut copy);
                }
                let first = parts.data.len();
                parts.data.extend(copy);
                let mut tensor = tensor.clone();
                tensor["data_offsets"] = json!([first, parts.data.len()]);
                parts.header.insert(later, tensor);
            }
            std::fs::write(path, parts.bytes()).expect("written");
        })
    };
    assert_eq!(likelihood(with_copy(&|_| {}).path()), usual);
    let other = with_copy(&|values| values.reverse());
    assert_ne!(likelihood(other.path()), usual);
}
