//! Weights that are stored in few bits: every value against the format's own library, and damaged
//! packings refused by name. That whole models agree is in `parity.rs`.

mod support;

use std::path::Path;

use massact::model::Model;
use massact::model::weights::WeightStore;
use serde_json::{Value, json};
use support::damage::{Parts, changed, edit_json};
use support::reference;
use support::tensors;

/// Every so many-th value of a packed matrix is in `dequantised.safetensors`.
const SAMPLED: usize = 37;

/// All values of a packed tensor, `[.., out, in]`.
fn decoded(weights: &WeightStore, name: &str) -> Vec<f32> {
    let tensor = weights.packed(name).expect("packed");
    let shape = tensor.shape();
    let (outputs, inputs) = (shape[shape.len() - 2], shape[shape.len() - 1]);
    let encoding = tensor.encoding();
    let mut values = vec![0.0; shape.iter().product()];
    if encoding.by_input() {
        let mut column = vec![0.0; outputs];
        for input in 0..inputs {
            encoding.decode(input, 0, &mut column);
            for (output, value) in column.iter().enumerate() {
                values[output * inputs + input] = *value;
            }
        }
    } else {
        for (line, row) in values.chunks_mut(inputs).enumerate() {
            encoding.decode(line, 0, row);
        }
    }
    values
}

#[test]
fn values_are_those_of_the_formats_libraries() {
    let mut encodings = std::collections::BTreeSet::new();
    let mut wrong = Vec::new();
    for checkpoint in reference::all() {
        let path = checkpoint.folder.join("dequantised.safetensors");
        if !path.exists() {
            continue;
        }
        let model = Model::open(&checkpoint.folder).expect("opens");
        assert!(model.weights.packing().is_some(), "{}", checkpoint.name);
        assert!(model.weights_record().unused.is_empty());
        let references = tensors::read(&path);
        assert!(!references.is_empty());
        for (name, theirs) in references {
            let what = format!("{}: {name}", checkpoint.name);
            let ours = decoded(&model.weights, &name);
            encodings.extend(model.weights.stored_as(&name));
            let ours: Vec<f32> = ours.iter().copied().step_by(SAMPLED).collect();
            assert_eq!(ours.len(), theirs.values.len(), "{what}");
            // A scale and a product are rounded once each, on both sides.
            let far = |(ours, theirs): &(&f32, &f32)| {
                let near = (*ours - *theirs).abs() <= 2.5e-7 * theirs.abs();
                !near
            };
            if let Some((ours, theirs)) = ours.iter().zip(&theirs.values).find(far) {
                wrong.push(format!("{what}: {ours} instead of {theirs}"));
            }
            // A part of a line is that part of the line.
            let tensor = model.weights.packed(&name).expect("packed");
            let (shape, encoding) = (tensor.shape(), tensor.encoding());
            let axis = if encoding.by_input() { 2 } else { 1 };
            let length = shape[shape.len() - axis];
            let mut whole = vec![0.0; length];
            encoding.decode(1, 0, &mut whole);
            for (first, count) in [(1, length - 1), (4, 5), (length - 1, 1), (3, 0)] {
                let mut part = vec![0.0; count];
                encoding.decode(1, first, &mut part);
                assert_eq!(part, whole[first..first + count], "{what} from {first}");
            }
        }
    }
    println!("{encodings:#?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(encodings.len() >= 19, "{encodings:?}");
}

/// What opening a changed copy says: one line with a remedy.
fn refused(checkpoint: &str, change: impl FnOnce(&Path)) -> String {
    let temp = changed(checkpoint, change);
    let error = Model::open(temp.path()).expect_err("refused").to_string();
    assert!(error.contains("; "), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

/// Changes the section of config.json that says how the weights are packed.
fn configured(key: &'static str, value: Value) -> impl FnOnce(&Path) {
    move |folder| {
        edit_json(&folder.join("config.json"), |config| {
            config["quantization_config"][key] = value;
        });
    }
}

/// Changes the header of the file that has all tensors.
fn stored(change: impl FnOnce(&mut Parts)) -> impl FnOnce(&Path) {
    move |folder| {
        let path = folder.join("model.safetensors");
        let mut parts = Parts::read(&path);
        change(&mut parts);
        std::fs::write(path, parts.bytes()).expect("written");
    }
}

fn renamed(from: String) -> impl FnOnce(&Path) {
    stored(move |parts| {
        let tensor = parts.header.remove(&from).expect("stored");
        parts.header.insert(format!("{from}_away"), tensor);
    })
}

const MODULE: &str = "model.layers.1.self_attn.k_proj";

#[test]
fn parts_that_are_missing_are_named() {
    for (checkpoint, part) in [
        ("fp8-blocks-experts", "weight_scale_inv"),
        ("fbgemm-fp8", "weight_scale"),
        ("compressed-float", "weight_scale"),
        ("compressed-naive", "weight_zero_point"),
        ("compressed-pack", "weight_scale"),
        ("compressed-pack", "weight_shape"),
        ("compressed-pack", "weight_zero_point"),
        ("gptq-act-order", "qzeros"),
        ("gptq-act-order", "scales"),
        ("gptq-act-order", "qweight"),
        ("awq", "qzeros"),
        ("awq", "scales"),
        ("bitsandbytes-nf4", "weight.absmax"),
        ("bitsandbytes-nf4", "weight.quant_map"),
        ("bitsandbytes-nf4", "weight.nested_quant_map"),
        ("bitsandbytes-int8", "SCB"),
        ("modelopt-nvfp4", "weight_scale"),
        ("gptq-act-order", "g_idx"),
        ("compressed-act-order", "weight_g_idx"),
    ] {
        let module = if checkpoint == "fbgemm-fp8" {
            "model.layers.1.self_attn.qkv_proj"
        } else {
            MODULE
        };
        let module = match checkpoint {
            // `v_proj` of some is left as it is.
            "compressed-naive" => "model.layers.1.self_attn.q_proj",
            _ => module,
        };
        let error = refused(checkpoint, renamed(format!("{module}.{part}")));
        assert!(error.contains(module), "{checkpoint} {part}: {error}");
    }
}

#[test]
fn parts_of_a_wrong_shape_or_type_are_named() {
    let reshaped =
        |name: String, shape: Value| stored(move |parts| parts.header[&name]["shape"] = shape);
    for (checkpoint, part, shape) in [
        ("fp8-blocks-experts", "weight_scale_inv", json!([2, 1])),
        ("compressed-float-block", "weight_scale", json!([1, 4])),
        ("compressed-pack", "weight_scale", json!([1, 16])),
        ("gptq-act-order", "scales", json!([32, 3])),
        ("gptq-act-order", "qzeros", json!([4, 3])),
        ("gptq-act-order", "g_idx", json!([2, 48])),
        ("gptq-act-order", "qweight", json!([32, 12])),
        ("awq", "scales", json!([32, 3])),
        ("awq", "qzeros", json!([4, 3])),
        ("compressed-nvfp4", "weight_scale", json!([6, 32])),
        ("compressed-int8", "weight_scale", json!([1, 28])),
        ("bitsandbytes-int8", "SCB", json!([1, 28])),
    ] {
        let name = format!("{MODULE}.{part}");
        let error = refused(checkpoint, reshaped(name, shape));
        assert!(error.contains(MODULE), "{checkpoint} {part}: {error}");
    }
    let retyped = |name: String, dtype: &'static str| {
        stored(move |parts| parts.header[&name]["dtype"] = json!(dtype))
    };
    for (checkpoint, part, dtype) in [
        ("gptq-act-order", "qweight", "F32"),
        ("gptq-act-order", "scales", "I16"),
        ("gptq-act-order", "g_idx", "F32"),
        ("awq", "qzeros", "F32"),
        ("compressed-pack", "weight_packed", "U32"),
        ("compressed-nvfp4", "weight_scale", "U8"),
        ("compressed-nvfp4", "weight_global_scale", "I32"),
        ("bitsandbytes-nf4", "weight.absmax", "I8"),
        ("bitsandbytes-int8", "weight", "F8_E4M3"),
        ("bitsandbytes-int8", "SCB", "I32"),
    ] {
        let name = format!("{MODULE}.{part}");
        let error = refused(checkpoint, retyped(name, dtype));
        assert!(error.contains(MODULE), "{checkpoint} {part}: {error}");
    }
}

#[test]
fn settings_that_do_not_fit_or_are_not_read_are_named() {
    for (checkpoint, key, value, named) in [
        ("gptq-act-order", "group_size", json!(28), "groups of 28"),
        ("gptq-act-order", "group_size", json!(0), "group_size"),
        ("gptq-act-order", "bits", json!(5), "5"),
        ("gptq-act-order", "bits", json!(8), "down_proj"),
        (
            "gptq-act-order",
            "checkpoint_format",
            json!("marlin"),
            "marlin",
        ),
        ("awq", "group_size", json!(36), "groups of 36"),
        ("awq", "version", json!("gemv"), "gemv"),
        ("awq", "bits", json!(8), "bits"),
        (
            "compressed-float",
            "format",
            json!("marlin-24"),
            "marlin-24",
        ),
        (
            "compressed-float",
            "sparsity_config",
            json!({ "format": "sparse-24-bitmask" }),
            "sparse-24-bitmask",
        ),
        (
            "compressed-float",
            "config_groups",
            json!({}),
            "config_groups",
        ),
        (
            "fp8-blocks-experts",
            "weight_block_size",
            json!([128, 128]),
            "scale",
        ),
        (
            "fp8-blocks-experts",
            "weight_block_size",
            json!([0, 16]),
            "weight_block_size",
        ),
        ("fp8-blocks-experts", "quant_method", json!("aqlm"), "aqlm"),
        ("gptq-act-order", "rotation", json!("hadamard"), "rotation"),
    ] {
        let error = refused(checkpoint, configured(key, value.clone()));
        assert!(error.contains(named), "{checkpoint} {key} {value}: {error}");
    }
    let uneven = |folder: &Path| {
        edit_json(&folder.join("config.json"), |config| {
            let group = &mut config["quantization_config"]["config_groups"]["group_0"];
            group["weights"]["group_size"] = json!(12);
        });
    };
    for checkpoint in ["compressed-pack", "compressed-naive"] {
        let error = refused(checkpoint, uneven);
        assert!(error.contains("groups of 12"), "{error}");
    }
}

#[test]
fn values_that_point_nowhere_are_refused() {
    let number = |part: &'static str, value: i32| {
        stored(move |parts| {
            let (start, _) = parts.range(&format!("{MODULE}.{part}"));
            parts.data[start..start + 4].copy_from_slice(&value.to_le_bytes());
        })
    };
    for group in [3, -1, i32::MAX] {
        for (checkpoint, part) in [
            ("gptq-act-order", "g_idx"),
            ("compressed-act-order", "weight_g_idx"),
        ] {
            let error = refused(checkpoint, number(part, group));
            let said = format!("group {group}");
            assert!(error.contains(MODULE) && error.contains(&said), "{error}");
        }
    }
    let error = refused("compressed-pack", number("weight_shape", 31));
    assert!(error.contains(MODULE), "{error}");
    let state = format!("{MODULE}.weight.quant_state.bitsandbytes__nf4");
    for broken in [
        &b"{"[..],
        b"[]",
        br#"{"shape": [28]}"#,
        br#"{"shape": [28, 42], "blocksize": 0}"#,
        br#"{"shape": [28, 40], "blocksize": 64}"#,
        br#"{"shape": [28, 42], "blocksize": 64, "nested_blocksize": 256}"#,
        br#"{"shape": [9000000000000000000, 9], "blocksize": 64, "nested_blocksize": 256, "nested_offset": 1}"#,
    ] {
        let error = refused(
            "bitsandbytes-nf4",
            stored(|parts| {
                let (start, end) = parts.range(&state);
                parts.data[start..end].fill(b' ');
                parts.data[start..start + broken.len()].copy_from_slice(broken);
            }),
        );
        assert!(error.contains(MODULE), "{error}");
    }
}

#[test]
fn tensors_that_change_what_is_computed_are_refused() {
    for (checkpoint, from, to) in [
        ("awq", "post_attention_layernorm.weight", "mlp.act.scales"),
        (
            "modelopt-nvfp4",
            "self_attn.k_proj.input_scale",
            "self_attn.k_proj.pre_quant_scale",
        ),
    ] {
        let name = |end: &str| format!("model.layers.1.{end}");
        let error = refused(
            checkpoint,
            stored(|parts| {
                let tensor = parts.header.remove(&name(from)).expect("stored");
                parts.header.insert(name(to), tensor);
            }),
        );
        assert!(error.contains(&name(to)), "{error}");
    }
}

#[test]
fn a_bias_that_the_model_does_not_have_must_be_zero() {
    let error = refused(
        "gptq-act-order",
        stored(|parts| {
            let (start, _) = parts.range(&format!("{MODULE}.bias"));
            parts.data[start + 1] = 0x3C;
        }),
    );
    assert!(error.contains(&format!("{MODULE}.bias")), "{error}");
}

#[test]
fn zero_points_of_both_versions() {
    let name = format!("{MODULE}.weight");
    let values = |change: fn(&Path)| values("gptq-2-bits", &name, change);
    let first = values(|_| {});
    let second = values(|folder| {
        configured("checkpoint_format", json!("gptq_v2"))(folder);
    });
    // A stored zero point means one more in the first version.
    let lower = first.iter().zip(&second).filter(|(a, b)| a < b).count();
    assert_eq!(lower, first.len());
    let unnamed = values(|folder| {
        edit_json(&folder.join("config.json"), |config| {
            let section = config["quantization_config"].as_object_mut();
            section.expect("an object").remove("checkpoint_format");
        });
    });
    assert_eq!(first, unnamed);
}

#[test]
fn what_is_packed_and_what_is_left_out_is_said() {
    let record = |checkpoint: &str| {
        let folder = support::program::checkpoint(checkpoint);
        let model = Model::open(&folder).expect("opens");
        (model.weights_record().clone(), model.notices())
    };
    let (awq, notices) = record("awq");
    assert_eq!(awq.format, "AWQ: int4 in groups of 32");
    assert_eq!(awq.stored_as["int4 in groups of 32"], 14);
    assert_eq!((awq.activations_quantised, notices), (None, Vec::new()));
    let (fp8, notices) = record("fp8-tensor-e5m2");
    assert_eq!(fp8.format, "FP8 E5M2 by tensor");
    assert_eq!(fp8.activations_quantised.as_deref(), Some("not simulated"));
    assert_eq!(fp8.unneeded["quantisation of activations"], 17);
    assert!(
        notices.len() == 1 && notices[0].contains("not simulated"),
        "{notices:?}"
    );
    let (gptq, _) = record("gptq-act-order");
    assert_eq!(gptq.unneeded["biases of zeros"], 14);
}

/// All values of a matrix of a changed copy.
fn values(checkpoint: &str, name: &str, change: impl FnOnce(&Path)) -> Vec<f32> {
    let temp = changed(checkpoint, change);
    let model = Model::open(temp.path()).expect("opens");
    decoded(&model.weights, name)
}

/// Puts another tensor of one axis in the place of one, or beside those that are there.
fn replaced(parts: &mut Parts, name: String, dtype: &str, bytes: &[u8]) {
    if let Some(tensor) = parts.header.remove(&name) {
        parts.header.insert(format!("{name}_away"), tensor);
    }
    let start = parts.data.len();
    parts.data.extend(bytes);
    let (size, place) = (bytes.len(), [start, start + bytes.len()]);
    let count = if dtype.ends_with("32") {
        size / 4
    } else {
        size
    };
    let tensor = json!({ "dtype": dtype, "shape": [count], "data_offsets": place });
    parts.header.insert(name, tensor);
}

#[test]
fn what_the_text_part_says_of_packing_counts_where_nothing_else_does() {
    for checkpoint in ["fp8-tensor-e5m2", "compressed-int8", "gptq-act-order"] {
        let inside = format!("model.language_model.{}.weight", &MODULE["model.".len()..]);
        let wrapped = |top: Value| {
            values(checkpoint, &inside, |folder| {
                stored(|parts| {
                    let header = std::mem::take(&mut parts.header);
                    parts.header = header
                        .into_iter()
                        .map(|(name, tensor)| match name.strip_prefix("model.") {
                            Some(rest) => (format!("model.language_model.{rest}"), tensor),
                            None => (name, tensor),
                        })
                        .collect();
                })(folder);
                edit_json(&folder.join("config.json"), |config| {
                    let text = Value::Object(std::mem::take(config));
                    config.insert("model_type".to_owned(), json!("llava"));
                    config.insert("tie_word_embeddings".to_owned(), json!(false));
                    config.insert("text_config".to_owned(), text);
                    config.insert("quantization_config".to_owned(), top);
                });
            })
        };
        let plain = values(checkpoint, &format!("{MODULE}.weight"), |_| {});
        assert_eq!(wrapped(Value::Null), plain, "{checkpoint}");
        assert_eq!(wrapped(json!({})), plain, "{checkpoint}");
    }
}

#[test]
fn an_order_that_is_missing_does_not_matter_where_none_is_said() {
    for (checkpoint, part, said) in [
        ("gptq-act-order", "g_idx", json!(false)),
        ("compressed-act-order", "weight_g_idx", json!("weight")),
    ] {
        let temp = changed(checkpoint, |folder| {
            renamed(format!("{MODULE}.{part}"))(folder);
            edit_json(&folder.join("config.json"), |config| {
                let section = &mut config["quantization_config"];
                if part == "g_idx" {
                    section["desc_act"] = said;
                } else {
                    section["config_groups"]["group_0"]["weights"]["actorder"] = said;
                }
            });
        });
        let opened = Model::open(temp.path());
        assert!(opened.is_ok(), "{checkpoint}: {:?}", opened.err());
    }
}

#[test]
fn an_order_of_bytes_is_refused() {
    let order = format!("{MODULE}.weight_g_idx");
    let added = |parts: &mut Parts| replaced(parts, order.clone(), "I32", &[0; 4]);
    let error = refused("compressed-int8", stored(added));
    assert!(error.contains(&order), "{error}");
}

#[test]
fn the_scheme_of_a_module_counts_even_where_another_would_fit() {
    let module = "model.layers.1.self_attn.q_proj";
    let error = refused("compressed-pack", |folder| {
        renamed(format!("{module}.weight_zero_point"))(folder);
        edit_json(&folder.join("config.json"), |config| {
            let groups = &mut config["quantization_config"]["config_groups"];
            let mut other = groups["group_0"].clone();
            other["weights"]["symmetric"] = json!(true);
            groups["group_0"]["targets"] = json!(["re:.*_proj$"]);
            groups["group_1"] = other;
        });
    });
    assert!(error.contains("q_proj.weight_zero_point"), "{error}");
}

#[test]
fn matrices_that_are_stored_twice_are_refused() {
    for (checkpoint, plain, part) in [
        ("gptq-act-order", "q_proj.weight", "q_proj.qweight"),
        ("compressed-pack", "q_proj.weight", "q_proj.weight_packed"),
        (
            "fp8-blocks-experts",
            "o_proj.weight",
            "o_proj.weight_scale_inv",
        ),
        ("bitsandbytes-int8", "o_proj.weight", "o_proj.SCB"),
    ] {
        let place = "model.layers.1.self_attn.";
        let error = refused(
            checkpoint,
            stored(|parts| replaced(parts, format!("{place}{plain}"), "F32", &[0; 4])),
        );
        for name in [plain, part] {
            let name = format!("`{place}{name}`");
            assert!(error.contains(&name), "{checkpoint}: {error}");
        }
    }
}

#[test]
fn settings_of_single_modules_count_without_an_order() {
    let name = format!("{MODULE}.weight");
    let settings = |folder: &Path| {
        stored(|parts| {
            let header = std::mem::take(&mut parts.header).into_iter();
            let away = header.map(|(name, tensor)| (name.replace(".g_idx", ".away"), tensor));
            parts.header = away.collect();
        })(folder);
        edit_json(&folder.join("config.json"), |config| {
            let section = &mut config["quantization_config"];
            let own = json!({ "bits": section["bits"], "group_size": section["group_size"] });
            section["bits"] = json!(8);
            section["group_size"] = json!(128);
            section["dynamic"] = json!({ "+:.*proj$": own });
        });
    };
    let whole = values("gptq-2-bits", &name, |_| {});
    assert_eq!(values("gptq-2-bits", &name, settings), whole);
}

#[test]
fn a_scale_is_no_weight() {
    let weight = format!("{MODULE}.weight");
    let ones = values("fp8-tensor-e5m2", &weight, |folder| {
        let scale = format!("{weight}_scale");
        stored(|parts| replaced(parts, scale, "F8_E4M3", &[0x38]))(folder);
    });
    assert!(ones.iter().any(|value| *value > 100.0));
}

#[test]
fn packed_tensors_that_the_config_does_not_know_are_named() {
    for (checkpoint, part) in [("awq", "qweight"), ("compressed-pack", "weight_packed")] {
        let error = refused(checkpoint, |folder| {
            edit_json(&folder.join("config.json"), |config| {
                config.remove("quantization_config");
            });
        });
        assert!(error.contains("does not say how"), "{error}");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn keys_of_the_packing_that_nothing_reads_are_named() {
    for checkpoint in reference::all() {
        let model = Model::open(&checkpoint.folder).expect("opens");
        let unknown = &model.config_record().unknown_keys;
        let packing = unknown
            .iter()
            .find(|key| key.contains("quantization_config"));
        assert_eq!(packing, None, "{}", checkpoint.name);
    }
    let temp = changed("gptq-2-bits", configured("frobnicate", json!(1)));
    let model = Model::open(temp.path()).expect("opens");
    assert_eq!(
        model.config_record().unknown_keys,
        ["quantization_config.frobnicate"]
    );
}

#[test]
fn the_file_of_modelopt_is_named() {
    let error = refused("modelopt-nvfp4", |folder| {
        edit_json(&folder.join("hf_quant_config.json"), |config| {
            config["quantization"]["quant_algo"] = json!("W4A8_AWQ");
        });
    });
    assert!(
        error.contains("hf_quant_config.json") && error.contains("W4A8_AWQ"),
        "{error}"
    );
}

#[test]
fn old_names_of_settings_count() {
    let name = format!("{MODULE}.weight");
    let whole = values("awq", &name, |_| {});
    let old = values("awq", &name, |folder| {
        edit_json(&folder.join("config.json"), |config| {
            config["quantization_config"] =
                json!({ "quant_method": "awq", "w_bit": 4, "q_group_size": 32 });
        });
    });
    assert_eq!(old, whole);
}
