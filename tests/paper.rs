//! Figures and tables as papers want them: what the flags for their looks do, and that they change no
//! number and no folder.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use massact::report::plot::palette;
use serde_json::Value;
use support::csv::cells;
use support::program::{Done, files, massact, only_run, read_json, run};
use support::tensors;

/// Runs a command on the built-in model; returns its folder.
#[track_caller]
fn folder(save_dir: &Path, arguments: &[&str]) -> PathBuf {
    command(save_dir, arguments).succeeded();
    only_run(save_dir)
}

fn command(save_dir: &Path, arguments: &[&str]) -> Done {
    let mut command = massact(arguments);
    run(command.arg("--save-dir").arg(save_dir).arg("--quiet"))
}

fn place() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn text(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

const SHORT: [&str; 4] = ["--context-length", "32", "--nsamples", "2"];

fn with<'a>(command: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [command, more].concat()
}

/// The records of a CSV whose cells have no quotes in them.
fn records(text: &str) -> Vec<Vec<String>> {
    let lines = text.split_terminator("\r\n");
    lines.map(cells).collect()
}

#[test]
fn a_label_is_shown_everywhere_and_names_no_folder() {
    let place = place();
    let plain = with(&["existence-validation"], &SHORT);
    let first = folder(place.path(), &plain);
    let numbers = read_json(&first.join("existence_validation.json"));
    assert!(text(&first, "report.html").contains("<h1>demo</h1>"));
    let labelled = with(&plain, &["--label", "My <model>"]);
    let second = folder(place.path(), &labelled);
    assert_eq!(first, second, "a label changes no number");
    assert_eq!(
        read_json(&second.join("existence_validation.json")),
        numbers
    );
    assert_eq!(
        read_json(&second.join("run.json"))["model"]["label"],
        "My <model>"
    );
    assert_eq!(read_json(&second.join("run.json"))["model"]["name"], "demo");
    for file in ["report.html", "top_activation_magnitude.svg"] {
        assert!(text(&second, file).contains("My &lt;model&gt;"), "{file}");
    }
    let shown = command(place.path(), &labelled).succeeded().stdout;
    assert!(
        shown.contains("My <model> has massive activations"),
        "{shown}"
    );
    let done = command(place.path(), &with(&plain, &["--label", " "]));
    assert_eq!(done.code, Some(2), "{}", done.stderr);
}

#[test]
fn every_table_comes_in_every_form() {
    let experiments: [(&[&str], &[&str]); 9] = [
        (&["existence-validation"], &["layers"]),
        (&["tokens-analysis"], &["magnitudes", "massive_dimensions"]),
        (&["top-activation-magnitude"], &["layers"]),
        (
            &["intervention-analysis", "--calibration-nsamples", "2"],
            &["perplexity", "evaluation", "means"],
        ),
        (&["self-attention"], &["heads", "layers"]),
        (&["figures"], &["layers"]),
        (&["capture", "--nll"], &["layers"]),
        (&["tvr", "--dry-run"], &["weights"]),
        (
            &["compare", "demo", "demo-unamplified"],
            &["compare", "layers", "changes"],
        ),
    ];
    for (experiment, tables) in experiments {
        let own = match experiment[0] {
            "tvr" | "self-attention" | "figures" => experiment.to_vec(),
            _ => with(experiment, &SHORT),
        };
        let place = place();
        let folder = folder(
            place.path(),
            &with(&own, &["--tables", "csv,latex,markdown"]),
        );
        let kinds = ["csv", "tex", "md"];
        let mut expected = BTreeSet::new();
        if experiment[0] == "compare" {
            // A line a value, for programs.
            expected.extend(["massive_changes.csv", "layer_changes.csv"].map(str::to_owned));
        }
        for kind in kinds {
            expected.extend(tables.iter().map(|table| format!("{table}.{kind}")));
        }
        let found: BTreeSet<String> = files(&folder)
            .into_iter()
            .filter(|name| kinds.iter().any(|kind| name.ends_with(&format!(".{kind}"))))
            .collect();
        assert_eq!(found, expected, "{experiment:?}");
        for table in tables {
            let csv = records(&text(&folder, &format!("{table}.csv")));
            assert!(csv.len() > 1, "{experiment:?} {table}");
            for record in &csv {
                assert_eq!(
                    record.len(),
                    csv[0].len(),
                    "{experiment:?} {table}: {record:?}"
                );
            }
            let markdown = text(&folder, &format!("{table}.md"));
            assert_eq!(
                markdown.lines().count(),
                csv.len() + 1,
                "{experiment:?} {table}"
            );
            let latex = text(&folder, &format!("{table}.tex"));
            let rows = latex.lines().filter(|line| line.ends_with("\\\\")).count();
            assert_eq!(rows, csv.len(), "{experiment:?} {table}");
            assert!(latex.ends_with("\\bottomrule\n\\end{tabular}\n"));
        }
    }
}

/// The numbers are the JSON's, to the last digit, under the JSON's names.
#[test]
fn csv_has_the_jsons_numbers_and_names() {
    let place = place();
    let folder = folder(
        place.path(),
        &with(
            &["existence-validation", "--tables", "csv,csv"],
            &["--context-length", "40", "--nsamples", "3"],
        ),
    );
    let json = read_json(&folder.join("existence_validation.json"));
    let csv = records(&text(&folder, "layers.csv"));
    let layers = json["layers"].as_array().expect("layers");
    assert_eq!(csv.len(), layers.len() + 1);
    for (record, layer) in csv[1..].iter().zip(layers) {
        for (name, cell) in csv[0].iter().zip(record) {
            let value = match name.as_str() {
                "token" | "position" | "dimension" | "value" => &layer["top"][0][name],
                "published_top1_mean" => &Value::Null,
                _ => &layer[name],
            };
            match value {
                Value::Number(number) => {
                    assert_eq!(cell.parse::<f64>().ok(), number.as_f64(), "{name}");
                }
                Value::String(text) => assert_eq!(cell, text),
                Value::Bool(is) => assert_eq!(*cell, is.to_string()),
                _ => assert_eq!(cell, "", "{name}"),
            }
        }
    }
    assert!(!files(&folder).iter().any(|name| name.ends_with(".tex")));
}

#[test]
fn figures_come_in_the_formats_asked_for() {
    let place = place();
    let plain = with(&["existence-validation"], &SHORT);
    let of = |folder: &Path| -> Vec<String> {
        let names = files(folder).into_iter();
        names
            .filter(|name| name.starts_with("top_activation"))
            .collect()
    };
    let all = folder(place.path(), &plain);
    let names = ["pdf", "png", "svg"].map(|end| format!("top_activation_magnitude.{end}"));
    assert_eq!(of(&all), names);
    let pdf = std::fs::read(all.join(&names[0])).expect("written");
    assert!(pdf.starts_with(b"%PDF-1.7") && pdf.len() > 5_000);
    assert!(!files(&all).iter().any(|name| name.ends_with(".csv")));
    let one = folder(place.path(), &with(&plain, &["--figure-format", "pdf"]));
    assert_eq!(one, all, "formats change no number");
    assert_eq!(of(&one), names[..1]);
    // The same figure, drawn again.
    assert!(std::fs::read(one.join(&names[0])).expect("written") == pdf);
    assert!(text(&one, "report.html").contains("<svg"));
}

#[test]
fn only_the_chosen_layers_are_drawn() {
    let place = place();
    let sentence = ["self-attention", "--layers", "1,3-4"];
    let some = folder(place.path(), &sentence);
    let maps = tensors::read(&some.join("attention.safetensors"));
    let layers: BTreeSet<&str> = maps
        .keys()
        .filter_map(|name| name.split('.').nth(1))
        .collect();
    assert_eq!(layers, BTreeSet::from(["1", "3", "4"]));
    let svg = text(&some, "self_attention.svg");
    for (layer, drawn) in [
        (0, false),
        (1, true),
        (2, false),
        (3, true),
        (4, true),
        (5, false),
    ] {
        assert_eq!(svg.contains(&format!(">Layer {layer}<")), drawn, "{layer}");
    }
    // The numbers are of all layers.
    let json = read_json(&some.join("self_attention.json"));
    assert_eq!(json["layers"].as_array().map(Vec::len), Some(6));
    let settings = &read_json(&some.join("run.json"))["settings"];
    assert_eq!(settings["layers"], serde_json::json!([1, 3, 4]));

    let elsewhere = self::place();
    let all = folder(elsewhere.path(), &["self-attention"]);
    assert_ne!(all.file_name(), some.file_name(), "other files");
    let whole = tensors::read(&all.join("attention.safetensors"));
    assert_eq!(
        maps["layer.3.logits_mean"].values.len(),
        whole["layer.3.logits_mean"].values.len()
    );
    for (ours, theirs) in maps["layer.3.logits_mean"]
        .values
        .iter()
        .zip(&whole["layer.3.logits_mean"].values)
    {
        assert_eq!(ours.to_bits(), theirs.to_bits());
    }

    let elsewhere = self::place();
    let figures = [
        "figures",
        "--which",
        "output-feature-tokenwise",
        "--layers",
        "2",
    ];
    let drawn = folder(elsewhere.path(), &figures);
    let svg = text(&drawn, "output_feature_tokenwise.svg");
    assert!(svg.contains(">Layer 2<") && !svg.contains(">Layer 1<"));
    // The plot of layer 2 has the tall spikes of layer 2, not of the first that was drawn.
    let found = read_json(&drawn.join("figures.json"));
    assert!(
        !found["layers"][2]["massive"]
            .as_array()
            .expect("a list")
            .is_empty()
    );
    assert!(svg.contains("fill=\"#c00000\""));

    let done = command(elsewhere.path(), &["self-attention", "--layers", "2,6"]);
    assert_eq!(done.code, Some(2));
    let told = "--layers 6: the model has 6 layers; use layers from 0 to 5";
    assert!(done.stderr.contains(told), "{}", done.stderr);
}

#[test]
fn the_scale_follows_the_values_unless_it_is_said() {
    let place = place();
    let plain = with(&["existence-validation"], &SHORT);
    let name = "top_activation_magnitude.svg";
    let auto = folder(place.path(), &plain);
    assert!(
        text(&auto, name).contains(">10⁴<"),
        "median and top-1 span decades"
    );
    let linear = folder(place.path(), &with(&plain, &["--scale", "linear"]));
    assert_eq!(linear, auto, "a scale changes no number");
    assert!(!text(&linear, name).contains("10⁴") && text(&linear, name).contains(">0<"));
    // Queries are of one order; the site is in the picture.
    let elsewhere = self::place();
    let queries = with(
        &["top-activation-magnitude", "--module-name", "v"],
        &["--scale", "log"],
    );
    let folder = folder(elsewhere.path(), &with(&queries, &SHORT));
    let svg = text(&folder, name);
    assert!(svg.contains(">demo: values (v)<"), "{svg}");
    assert!(svg.contains(">top-1 values<") && svg.contains(">median values<"));
    assert!(!svg.contains("hidden states"), "{svg}");
}

#[test]
fn one_colour_scale_for_all_maps() {
    let bars = |more: &[&str]| {
        let place = place();
        let folder = folder(place.path(), &with(&["self-attention"], more));
        let svg = text(&folder, "self_attention.svg");
        (
            svg.matches("<image").count(),
            svg.matches(">mean logit<").count(),
        )
    };
    // A picture and a bar a map, or one bar.
    assert_eq!(bars(&[]), (12, 6));
    assert_eq!(bars(&["--shared-scale"]), (7, 1));
}

/// A reader finds a checkpoint by its colour, in every figure.
#[test]
fn a_checkpoint_keeps_its_colour_and_its_row() {
    let place = place();
    let arguments = with(&["compare", "demo-unamplified", "demo", "/nowhere"], &SHORT);
    let done = command(place.path(), &arguments);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let folder = only_run(place.path());
    // The line before a name in the legend has its colour.
    let color = |name: &str, label: &str| {
        let svg = text(&folder, name);
        let before = svg.split(&format!(">{label}<")).next().expect("a part");
        let at = before.rfind("stroke=\"#").expect("a key");
        before[at + 8..at + 15].to_owned()
    };
    let figures: Vec<String> = files(&folder)
        .into_iter()
        .filter(|name| name.ends_with(".svg") && !name.contains('/'))
        .filter(|name| name != "perplexity_ratio.svg")
        .collect();
    assert!(figures.len() > 4, "{figures:?}");
    for name in &figures {
        // The first checkpoint's change against itself is not drawn.
        if !name.ends_with("_change_by_layer.svg") {
            assert_eq!(color(name, "demo-unamplified"), palette::BLUE, "{name}");
        }
        assert_eq!(color(name, "demo"), palette::VERMILION, "{name}");
    }
    for (place, color) in [
        ("1-demo-unamplified", palette::BLUE),
        ("2-demo", palette::VERMILION),
    ] {
        let svg = text(&folder, &format!("{place}/top_activation_magnitude.svg"));
        assert!(svg.contains(color), "{place}");
    }
    // Without massive activations there is nothing to overwrite: the row says so.
    let svg = text(&folder, "perplexity_ratio.svg");
    assert!(svg.contains(">demo-unamplified<"), "{svg}");
    assert!(svg.contains("nothing massive to overwrite"), "{svg}");
    assert!(svg.contains(">failed<"), "{svg}");
    assert!(svg.contains(palette::VERMILION) && !svg.contains(palette::BLUE));
}

/// Colours that two projections share tell nothing.
#[test]
fn every_projection_has_a_colour_of_its_own() {
    let place = place();
    let folder = folder(place.path(), &["tvr", "--dry-run"]);
    let svg = text(&folder, "weight_std.svg");
    let json = read_json(&folder.join("tvr.json"));
    let projections: BTreeSet<&str> = json["weights"]
        .as_array()
        .expect("weights")
        .iter()
        .filter_map(|weight| weight["projection"].as_str())
        .collect();
    assert!(projections.len() >= 7, "{projections:?}");
    let colors = palette::SERIES.iter().filter(|color| {
        let line = format!("stroke=\"{color}\" stroke-width=\"2\"");
        svg.contains(&line)
    });
    assert_eq!(colors.count(), projections.len());
}
