//! profile against numpy over transformers (tools/make_profiles.py), through the real program.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use support::csv;
use support::program::{checkpoint, massact, only_run, run};

const CHECKPOINTS: [&str; 6] = [
    "planted-llama",
    "planted-gpt2",
    "planted-gemma2",
    "planted-olmo2",
    "gpt-neox-parallel",
    "qwen3-moe",
];
/// Relative, as numbers of float32 tensors agree.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Truth {
    token_ids: Vec<u32>,
    sites: Vec<Value>,
}

fn truth(folder: &Path) -> Truth {
    let text = std::fs::read(folder.join("profile.json")).expect("tools/make_profiles.py");
    serde_json::from_slice(&text).expect("JSON")
}

/// Runs it in a folder of its own; the run's folder.
fn profiled(out: &Path, arguments: &[&str], threads: &str) -> PathBuf {
    let mut command = massact(["profile"]);
    command.args(arguments).arg("--save-dir").arg(out);
    run(command.env("RAYON_NUM_THREADS", threads)).succeeded();
    only_run(out)
}

fn read(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("profile.json")).expect("profile.json");
    serde_json::from_slice(&text).expect("JSON")
}

fn listed(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(",")
}

fn by_place(sites: &[Value]) -> BTreeMap<(String, u64), &Value> {
    let place = |site: &Value| {
        let name = site["site"].as_str().expect("a name").to_owned();
        (name, site["layer"].as_u64().expect("a layer"))
    };
    sites.iter().map(|site| (place(site), site)).collect()
}

#[track_caller]
fn near(ours: &Value, theirs: &Value, scale: f64, what: &str) {
    let (Some(a), Some(b)) = (ours.as_f64(), theirs.as_f64()) else {
        assert_eq!(ours, theirs, "{what}");
        return;
    };
    let off = (a - b).abs();
    assert!(
        off <= TOLERANCE * b.abs().max(scale),
        "{what}: {a} instead of {b}"
    );
}

#[test]
fn equals_numpy_over_transformers() {
    for name in CHECKPOINTS {
        let folder = checkpoint(name);
        let truth = truth(&folder);
        let out = tempfile::tempdir().expect("a folder");
        let ids = listed(&truth.token_ids);
        let model = folder.display().to_string();
        let arguments = ["--pretrained", &model, "--token-ids", &ids];
        let found = read(&profiled(out.path(), &arguments, "2"));
        let found = by_place(found["sites"].as_array().expect("sites"));
        let theirs = by_place(&truth.sites);
        assert!(theirs.len() > 10, "{name}");
        for (place, theirs) in theirs {
            let ours = found
                .get(&place)
                .unwrap_or_else(|| panic!("{name}: {place:?} is missing"));
            let rms = theirs["rms"].as_f64().expect("a number");
            for number in [
                "max",
                "rms",
                "std",
                "kurtosis",
                "median",
                "per_token_ratio",
                "float16_headroom",
                "int8_sqnr_db",
                "int8_sqnr_clipped_db",
            ] {
                // Of a kurtosis near 0 the digits before its 3 is subtracted.
                let scale = match number {
                    "kurtosis" => 3.0,
                    // A token's median is a sum of terms as large as its largest value, whose last bits are
                    // a larger share of it the larger the ratio is.
                    "per_token_ratio" => {
                        let ratio = theirs[number].as_f64().unwrap_or(0.0);
                        ratio * ratio * 2.0 * f64::from(f32::EPSILON) / TOLERANCE
                    }
                    // Of a ratio, which is 1 there.
                    "int8_sqnr_db" | "int8_sqnr_clipped_db" => 0.1,
                    _ => 0.0,
                };
                let what = format!("{name}: {place:?}: {number}");
                near(&ours[number], &theirs[number], scale, &what);
            }
            let what = format!("{name}: {place:?}");
            near(&ours["mean"], &theirs["mean"], rms, &what);
            for (quantile, value) in theirs["quantiles"].as_object().expect("quantiles") {
                near(&ours["quantiles"][quantile], value, 0.0, &what);
            }
            let top = theirs["top"].as_array().expect("entries");
            assert_eq!(ours["top"].as_array().map(Vec::len), Some(top.len()));
            for (index, entry) in top.iter().enumerate() {
                let own = &ours["top"][index];
                assert_eq!(own["position"], entry["position"], "{what}: {own}");
                assert_eq!(own["dimension"], entry["dimension"], "{what}: {own}");
                near(&own["value"], &entry["value"], 0.0, &what);
            }
            let sinks = ours["residual_sinks"].as_array().expect("dimensions");
            let mut sinks: Vec<&Value> = sinks.iter().map(|sink| &sink["dimension"]).collect();
            sinks.sort_by_key(|dimension| dimension.as_u64());
            let wanted = theirs["residual_sinks"].as_array().expect("dimensions");
            assert!(sinks.into_iter().eq(wanted), "{what}");
            let counts = ours["histogram"]["counts"].as_array().expect("counts");
            let total: u64 = counts.iter().filter_map(Value::as_u64).sum();
            assert_eq!(Some(total), ours["values"].as_u64(), "{what}");
        }
    }
}

#[test]
fn threads_change_no_byte_and_the_tables_say_the_same() {
    let model = checkpoint("planted-llama").display().to_string();
    let text = checkpoint("planted-llama").join("text.txt");
    let text = text.display().to_string();
    let arguments = ["--pretrained", &model, "--text-file", &text];
    let arguments = [
        &arguments[..],
        &["--context-length", "16", "--nsamples", "3"],
    ]
    .concat();
    let outs = ["1", "3"].map(|threads| {
        let out = tempfile::tempdir().expect("a folder");
        let folder = profiled(out.path(), &arguments, threads);
        (out, folder)
    });
    for file in ["profile.json", "profile.csv", "profile.parquet"] {
        let [one, three] = outs
            .each_ref()
            .map(|(_, folder)| std::fs::read(folder.join(file)).expect(file));
        assert!(one == three, "{file}");
    }
    let found = read(&outs[0].1);
    assert_eq!(found["nsamples"], 3);
    let sites = by_place(found["sites"].as_array().expect("sites"));
    let table = std::fs::read_to_string(outs[0].1.join("profile.csv")).expect("profile.csv");
    let mut lines = table.lines();
    assert_eq!(
        lines.next(),
        Some("model,revision,layer,site,statistic,value")
    );
    let mut seen = 0;
    for line in lines {
        let cells = csv::cells(line);
        let [_, _, layer, site, statistic, value] = cells.as_slice() else {
            panic!("{line}");
        };
        let layer = layer.parse().expect("a layer");
        let site = sites[&(site.clone(), layer)];
        let ours = match statistic.strip_prefix("quantile_") {
            Some(quantile) => &site["quantiles"][quantile],
            None => &site[statistic],
        };
        if statistic == "residual_sinks" {
            continue;
        }
        assert_eq!(ours.as_f64(), value.parse().ok(), "{line}");
        seen += 1;
    }
    assert_eq!(seen, sites.len() * 16, "statistics");
}

/// What is asked for, and nothing else; a site that no layer has is named.
#[test]
fn sites_on_request() {
    let model = checkpoint("planted-llama").display().to_string();
    let out = tempfile::tempdir().expect("a folder");
    let arguments = ["--pretrained", &model, "--token-ids", "3,4,5"];
    let arguments = [&arguments[..], &["--sites", "layer_input,router_logits"]].concat();
    let found = read(&profiled(out.path(), &arguments, "2"));
    let sites = found["sites"].as_array().expect("sites");
    assert!(sites.iter().all(|site| site["site"] == "layer_input"));
    assert_eq!(found["absent_sites"], serde_json::json!(["router_logits"]));
    // The same tensors are measured once, and are the layers' outputs before.
    let out = tempfile::tempdir().expect("a folder");
    let all = read(&profiled(
        out.path(),
        &["--pretrained", &model, "--token-ids", "3,4,5"],
        "2",
    ));
    let all = by_place(all["sites"].as_array().expect("sites"));
    for site in sites {
        let layer = site["layer"].as_u64().expect("a layer");
        assert_eq!(site, all[&("layer_input".to_owned(), layer)]);
        if let Some(before) = layer.checked_sub(1) {
            let mut before = all[&("layer_output".to_owned(), before)].clone();
            before["site"] = site["site"].clone();
            before["layer"] = site["layer"].clone();
            assert_eq!(*site, before);
        }
    }
}

/// A tensor that was shown before under another name is the one that this name has by itself: whatever mixes
/// the tokens, with parts one after the other and side by side, with a gate in the MLP and without.
#[test]
fn what_was_shown_before_is_the_same_tensor() {
    for name in [
        "gpt-neox-parallel",
        "planted-gpt2",
        "planted-lfm2",
        "falcon-h1",
        "gemma3n",
        "falcon-mamba",
        "zamba2",
    ] {
        let model = checkpoint(name).display().to_string();
        let of = |more: &[&str]| {
            let out = tempfile::tempdir().expect("a folder");
            let arguments = ["--pretrained", &model, "--token-ids", "3,4,5,6,7"];
            read(&profiled(out.path(), &[&arguments[..], more].concat(), "2"))
        };
        let all = of(&[]);
        let all = by_place(all["sites"].as_array().expect("sites"));
        for site in ["layer_input", "mixer_output", "residual_mid", "mlp_inner"] {
            if !all.keys().any(|(name, _)| name == site) {
                continue;
            }
            let alone = of(&["--sites", site]);
            let alone = by_place(alone["sites"].as_array().expect("sites"));
            let among: BTreeMap<_, _> = all.iter().filter(|(place, _)| place.0 == site).collect();
            assert_eq!(among.len(), alone.len(), "{name}: {site}");
            for (place, found) in &alone {
                assert_eq!(all[place], *found, "{name}: {place:?}");
            }
        }
    }
}
