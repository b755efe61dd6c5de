//! Interventions at other places than the published one, against transformers with hooks; and controls.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use massact::engine::{Session, Site};
use massact::experiments::CorpusWalk;
use massact::experiments::Thresholds;
use massact::experiments::intervention_analysis::{
    self, Anywhere, Dimensions, EvaluationSet, InterventionAnalysis, Positions, PositionsFrom,
    Setup, WrittenLayers,
};
use massact::model::Model;
use massact::progress::Progress;
use serde_json::Value;
use support::program::{checkpoint, massact, read_json, run};

const THRESHOLDS: Thresholds = Thresholds {
    abs: 100.0,
    rel: 1000.0,
};

fn setup(layer: usize, anywhere: Anywhere) -> Setup {
    Setup {
        thresholds: THRESHOLDS,
        nsamples: 2,
        calibration_nsamples: 2,
        layers: WrittenLayers::Listed([layer].into()),
        positions_from: PositionsFrom::Own,
        constants: vec![3.0],
        noise: Vec::new(),
        reference: false,
        seed: 1,
        anywhere,
    }
}

fn session(name: &str) -> Session {
    let model = Model::open(&checkpoint(name)).expect("opens");
    Session::on_cpu(model, Progress::silent())
}

fn analyse(session: &Session, windows: &[Vec<u32>], setup: &Setup) -> InterventionAnalysis {
    let corpus = CorpusWalk::run(session, windows, THRESHOLDS, true).expect("walks");
    let set = EvaluationSet {
        name: "text".to_owned(),
        windows: windows.to_vec(),
    };
    let found = intervention_analysis::run(session, &corpus, &[set], &[], setup);
    found.expect("runs").result
}

/// By intervention: the windows' mean NLLs.
fn by_window(found: &InterventionAnalysis) -> BTreeMap<String, Vec<f64>> {
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for window in &found.nll_by_window["text"] {
        for (name, nll) in &window.nll {
            all.entry(name.clone()).or_default().push(*nll);
        }
    }
    all
}

fn near(what: &str, ours: &[f64], theirs: &Value) {
    let theirs: Vec<f64> = serde_json::from_value(theirs.clone()).expect("numbers");
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (ours, theirs) in ours.iter().zip(theirs) {
        let error = (ours - theirs).abs();
        assert!(error <= 1e-4 * theirs, "{what}: {ours} instead of {theirs}");
    }
}

#[test]
fn likelihoods_are_those_of_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sites_reference.json");
    let (mut compared, mut differ) = (0, 0);
    for (name, wanted) in read_json(&path).as_object().expect("checkpoints") {
        let session = session(name);
        let windows: Vec<Vec<u32>> =
            serde_json::from_value(wanted["windows"].clone()).expect("ids");
        let layer = wanted["layer"].as_u64().expect("a layer") as usize;
        let dimensions: Vec<usize> =
            serde_json::from_value(wanted["dimensions"].clone()).expect("numbers");
        for case in wanted["cases"].as_array().expect("cases") {
            let anywhere = Anywhere {
                site: Site::parse(case["site"].as_str().expect("a site")).expect("known"),
                positions: match case["positions"].as_str() {
                    Some("first") => Positions::First,
                    _ => Positions::All,
                },
                dimensions: Dimensions::Listed(dimensions.iter().copied().collect()),
                clip: vec![0.25],
                heads: vec![vec![(layer, 1)]],
                calibration: windows.clone(),
                ..Anywhere::default()
            };
            let found = by_window(&analyse(&session, &windows, &setup(layer, anywhere)));
            let what = format!("{name}, {} at {}", case["site"], case["positions"]);
            near(
                &format!("{what}, original"),
                &found["original"],
                &wanted["original"],
            );
            let head = format!("head_off_{layer}.1");
            near(&format!("{what}, {head}"), &found[&head], &wanted[&head]);
            for (change, theirs) in case["nll"].as_object().expect("interventions") {
                near(&format!("{what}, {change}"), &found[change], theirs);
                compared += 1;
                differ += usize::from(found[change] != found["original"]);
            }
        }
    }
    assert!(
        compared >= 200 && differ > compared * 2 / 3,
        "{differ} of {compared}"
    );
}

/// Tokens of layer 0 visit three experts and those of layer 1 two: what is drawn is in both.
#[test]
fn draws_are_of_columns_that_all_layers_have() {
    let session = session("hunyuan-moe");
    let windows = [vec![1, 5, 9, 2, 7, 3]];
    let anywhere = Anywhere {
        site: Site::ExpertInner,
        positions: Positions::All,
        dimensions: Dimensions::Random { count: 2, draws: 9 },
        controls: 9,
        calibration: windows.to_vec(),
        ..Anywhere::default()
    };
    let setup = Setup {
        layers: WrittenLayers::Listed([0, 1].into()),
        ..setup(0, anywhere)
    };
    let found = analyse(&session, &windows, &setup);
    let spec = &session.model().spec;
    let [wide, narrow] = [0, 1].map(|layer| Site::ExpertInner.width(spec, layer));
    assert!(narrow < wide, "{narrow}, {wide}");
    let controls = found.controls.expect("controls");
    let drawn = controls.iter().flat_map(|control| &control.dimensions);
    let drawn: Vec<usize> = drawn.copied().collect();
    assert_eq!(drawn.len(), 18);
    assert!(drawn.iter().all(|column| *column < narrow), "{drawn:?}");
}

/// At the published place the other way of evaluation gives the published one's numbers.
#[test]
fn both_ways_agree_at_the_published_place() {
    let session = session("planted-llama");
    let windows: Vec<Vec<u32>> = [5u32, 9, 40]
        .map(|first| {
            let others = (0..23).map(|i| 3 + (first + 7 * i) % 60);
            std::iter::once(1).chain(others).collect()
        })
        .to_vec();
    let of = |shuffle: bool| {
        let setup = Setup {
            layers: WrittenLayers::First,
            noise: vec![0.1],
            ..setup(
                0,
                Anywhere {
                    shuffle,
                    controls: 2,
                    ..Anywhere::default()
                },
            )
        };
        analyse(&session, &windows, &setup)
    };
    let (plain, shuffled) = (of(false), of(true));
    let (ours, other) = (by_window(&plain), by_window(&shuffled));
    assert!(ours.len() >= 8, "{:?}", ours.keys());
    for (name, nll) in &ours {
        assert_eq!(nll, &other[name], "{name}");
    }
    assert!(other.contains_key("shuffle") && !ours.contains_key("shuffle"));
    assert_ne!(other["shuffle"], other["original"]);
    assert_ne!(other["shuffle"], other["set_to_zero"]);
    // The controls: as many dimensions, none of the massive ones, and not the same twice.
    let controls = plain.controls.expect("controls");
    assert_eq!(controls.len(), 4);
    for control in &controls[..2] {
        assert_eq!(control.dimensions.len(), plain.dimensions.len());
        assert!(
            control
                .dimensions
                .iter()
                .all(|d| !plain.dimensions.contains(d))
        );
    }
    assert_ne!(controls[0].dimensions, controls[1].dimensions);
    for control in &controls {
        assert_ne!(
            ours[&control.intervention], ours["set_to_zero"],
            "{control:?}"
        );
        assert_eq!(plain.windows_treated[&control.intervention]["text"], 0);
    }
    assert!(plain.place.is_none());
}

fn command(more: &[&str]) -> support::program::Done {
    let folder = checkpoint("planted-llama");
    let text = folder.join("text.txt").display().to_string();
    let out = tempfile::tempdir().expect("a folder");
    let mut program = massact(["intervention-analysis", "--quiet", "--json", "--pretrained"]);
    program
        .arg(&folder)
        .args([
            "--text-file",
            &text,
            "--context-length",
            "16",
            "--nsamples",
            "4",
        ])
        .args([
            "--calibration-nsamples",
            "4",
            "--eval",
            &format!("text={text}"),
        ])
        .arg("--save-dir")
        .arg(out.path())
        .args(more);
    run(&mut program)
}

#[test]
fn the_published_experiment_says_nothing_of_the_rest() {
    let published = command(&[]).succeeded().json();
    for key in [
        "place",
        "site",
        "positions",
        "shuffle",
        "clip",
        "head",
        "controls",
    ] {
        assert_eq!(published.get(key), None, "{key}");
    }
    let more = command(&["--controls=1", "--head", "1:0"])
        .succeeded()
        .json();
    for (name, sets) in published["perplexity"].as_object().expect("interventions") {
        assert_eq!(&more["perplexity"][name], sets, "{name}");
    }
    assert_eq!(more["controls"].as_array().map(Vec::len), Some(2));
    assert!(more["perplexity"]["head_off_1.0"]["text"].is_number());
}

/// Each draw does what its dimensions do when they are named.
#[test]
fn random_dimensions_are_drawn_several_times() {
    let found = command(&["--dimensions", "random:2:3"]).succeeded().json();
    let draws = found["place"]["draws"].as_array().expect("draws");
    let names = ["set_to_zero", "set_to_zero_draw_2", "set_to_zero_draw_3"];
    assert_eq!(draws.len(), names.len());
    for (draw, name) in draws.iter().zip(names) {
        assert_eq!(draw["intervention"], name);
        let dimensions = draw["dimensions"].as_array().expect("dimensions");
        assert_eq!(dimensions.len(), 2);
        let massive = found["dimensions_union"].as_array().expect("dimensions");
        assert!(
            dimensions.iter().all(|own| !massive.contains(own)),
            "{draw}"
        );
        let listed: Vec<String> = dimensions.iter().map(ToString::to_string).collect();
        let named = command(&["--dimensions", &listed.join(",")])
            .succeeded()
            .json();
        let wanted = &named["perplexity"]["set_to_zero"];
        assert_eq!(&found["perplexity"][name], wanted, "{name}");
    }
    assert_ne!(draws[1]["dimensions"], draws[2]["dimensions"]);
    let once = command(&["--dimensions", "random:2"]).succeeded().json();
    assert_eq!(once["place"].get("draws"), None);
    assert_eq!(once["dimensions"], draws[0]["dimensions"]);
}

#[test]
fn places_that_are_not_there_are_refused() {
    for (more, told) in [
        (&["--site", "nowhere"][..], "there is no such site"),
        (
            &["--site", "router_logits"],
            "no layer of this model has it",
        ),
        (
            &["--site", "mlp_inner"],
            "are not the dimensions of the residual stream",
        ),
        (
            &["--site", "expert_output"],
            "no layer of this model has it",
        ),
        (&["--dimensions", "100000"], "columns"),
        (
            &["--positions", "second"],
            "expected massive, first, all or token:TEXT",
        ),
        (&["--head", "99:0"], "the model has"),
        (&["--head", "0:99"], "layer 0 has"),
        (
            &[
                "--abs-threshold",
                "1e9",
                "--positions",
                "first",
                "--dimensions",
                "1",
            ],
            "no layer has massive activations",
        ),
    ] {
        let failed = command(more);
        assert_eq!(failed.code, Some(2), "{more:?}: {}", failed.stderr);
        assert!(failed.stderr.contains(told), "{more:?}: {}", failed.stderr);
    }
}
