//! The life of massive activations: what is added adds up in every wiring, and is what transformers adds.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use massact::Result;
use massact::backend::StatisticsRequest;
use massact::engine::{Observer, Plan, Session, Site, Source, Step};
use massact::experiments::Thresholds;
use massact::experiments::life::{self, ActivationLife, Choice, LayerSteps, Setup};
use massact::model::Model;
use massact::model::families::FAMILIES;
use massact::model::spec::Mlp;
use massact::progress::Progress;
use serde_json::Value;
use support::program::{checkpoint, massact, read_json, run};
use support::reference::{self, Checkpoint};

/// Sums of a few numbers in float32: rounding errors of the largest of them.
const ROUNDING: f64 = 4e-6;

fn setup(choice: Choice) -> Setup {
    Setup {
        thresholds: Thresholds {
            abs: 100.0,
            rel: 1000.0,
        },
        choice,
        most: 64,
        // All that a small checkpoint has.
        neurons: 10_000,
    }
}

fn session(checkpoint: &Checkpoint) -> Session {
    let model = Model::open(&checkpoint.folder).expect("opens");
    Session::on_cpu(model, Progress::silent())
}

/// The places that are followed: some tokens, and dimensions from all parts of the stream.
fn places(ids: &[u32], width: usize) -> Choice {
    Choice {
        positions: vec![0, ids.len() / 2, ids.len() - 1],
        tokens: Vec::new(),
        dimensions: vec![0, 3, width / 2, width - 1],
    }
}

/// Whole tensors by site and layer.
#[derive(Default)]
struct Raw(BTreeMap<(Site, usize), (usize, Vec<f32>)>);

impl Observer for Raw {
    fn tensor(
        &mut self,
        site: Site,
        layer: usize,
        _sequence: usize,
        columns: usize,
        values: &[f32],
    ) -> Result<()> {
        self.0.insert((site, layer), (columns, values.to_vec()));
        Ok(())
    }
}

impl Raw {
    fn at(&self, site: Site, layer: usize, life: &ActivationLife) -> Option<f32> {
        let (columns, values) = self.0.get(&(site, layer))?;
        values
            .get(life.position * columns + life.dimension)
            .copied()
    }
}

/// Every step of a layer's.
fn changes(layer: &LayerSteps) -> Vec<(Step, f64)> {
    let steps = Step::CHANGES.into_iter();
    let known = steps.filter_map(|step| Some((step, f64::from(layer.step(step)?))));
    known.collect()
}

#[test]
fn contributions_add_up_in_every_checkpoint() {
    let mut steps = BTreeSet::new();
    let mut sources = BTreeSet::new();
    let (mut checkpoints, mut beside, mut side_blocks) = (0, 0, 0);
    for checkpoint in reference::all() {
        if !FAMILIES
            .iter()
            .any(|family| family.model_type == checkpoint.model_type)
        {
            continue;
        }
        checkpoints += 1;
        let session = session(&checkpoint);
        let spec = &session.model().spec;
        if spec.streams() > 1 {
            let refused = life::run(&session, &[vec![1, 2]], &setup(places(&[1, 2], 4)));
            let told = refused.expect_err("parts of several streams").to_string();
            assert!(told.contains("several residual streams"), "{told}");
            continue;
        }
        let sequences = &checkpoint.reference.sequences;
        let ids = sequences[checkpoint.reference.attention_sequence]
            .token_ids
            .clone();
        let choice = places(&ids, spec.hidden_size);
        let found = life::run(&session, std::slice::from_ref(&ids), &setup(choice));
        let found = found
            .unwrap_or_else(|error| panic!("{}: {error}", checkpoint.name))
            .result;
        assert_eq!(found.activations.len(), 12, "{}", checkpoint.name);
        let raw = raw(&session, &ids);
        for life in &found.activations {
            assert_eq!(life.layers.len(), spec.layers.len());
            let mut before = life.embedding;
            for (index, layer) in life.layers.iter().enumerate() {
                let what = format!(
                    "{}, layer {index}, position {}, dimension {}: {layer:?}",
                    checkpoint.name, life.position, life.dimension
                );
                assert_eq!(layer.layer, index);
                assert_eq!(layer.input, before, "{what}");
                before = layer.output;
                let changes = changes(layer);
                steps.extend(changes.iter().map(|(step, _)| *step));
                let sum: f64 = changes.iter().map(|(_, value)| value).sum();
                let sizes = changes.iter().map(|(_, value)| value.abs());
                let size = sizes.fold(f64::from(layer.input.abs()), f64::max).max(1e-3);
                let error = f64::from(layer.input) + sum - f64::from(layer.output);
                assert!(error.abs() <= ROUNDING * size, "{error:e}: {what}");

                // Parts that a layer has and adds are told, and no others.
                let own = &spec.layers[index];
                let adds = own.side.is_none();
                let (attention, mlp) = (own.attention.is_some(), own.mlp.is_some());
                assert_eq!(layer.attention.is_some(), attention && adds, "{what}");
                assert_eq!(layer.mixer.is_some(), own.mixer.is_some(), "{what}");
                assert_eq!(layer.mlp.is_some(), mlp && adds, "{what}");
                side_blocks += usize::from(!adds);

                // What the sites show.
                let same = |site: Site, value: Option<f32>| {
                    let shown = raw.at(site, index, life);
                    assert_eq!(shown, value, "{}: {what}", site.name());
                };
                same(Site::LayerInput, Some(layer.input));
                same(Site::LayerOutput, Some(layer.output));
                if adds {
                    same(Site::MlpOutput, layer.mlp);
                }
                match (layer.attention, layer.mixer) {
                    (Some(attention), Some(mixer)) => {
                        beside += 1;
                        let both = raw.at(Site::MixerOutput, index, life).expect("a site");
                        let error = f64::from(both) - f64::from(attention) - f64::from(mixer);
                        assert!(error.abs() <= ROUNDING * size, "{error:e}: {what}");
                    }
                    (attention, mixer) => same(Site::MixerOutput, attention.or(mixer)),
                }
                inside(own, layer, &what);
                let listed = layer.neurons.iter().map(|neuron| neuron.source);
                sources.extend(listed.map(|source| match source {
                    Source::Expert(_) => Source::Expert(0),
                    other => other,
                }));
            }
        }
        for token in &found.tokens {
            let (columns, values) = &raw.0[&(Site::LayerOutput, spec.layers.len() - 1)];
            let row = &values[token.position * columns..][..*columns];
            let norm = row
                .iter()
                .map(|v| f64::from(*v).powi(2))
                .sum::<f64>()
                .sqrt();
            assert_eq!(token.norms.last(), Some(&norm), "{}", checkpoint.name);
        }
    }
    assert!(checkpoints > 150, "{checkpoints}");
    assert!(beside > 0, "no layer with attention and a mixer");
    assert!(side_blocks > 0, "no layer with a block beside the stream");
    assert_eq!(
        steps,
        BTreeSet::from(Step::CHANGES),
        "steps that no checkpoint has"
    );
    assert_eq!(sources.len(), 3, "{sources:?}");
}

fn raw(session: &Session, ids: &[u32]) -> Raw {
    let spec = &session.model().spec;
    let wanted = [
        Site::LayerInput,
        Site::MixerOutput,
        Site::MlpOutput,
        Site::LayerOutput,
    ];
    let plan = Plan {
        raw: wanted
            .into_iter()
            .filter(|site| site.exists_in(spec))
            .collect(),
        ..Plan::default()
    };
    let mut raw = Raw::default();
    session.run(&[ids.to_vec()], &plan, &mut raw).expect("runs");
    raw
}

/// Where nothing comes between the down projection and the stream, the neurons' products, of the experts
/// their weighted sums, are what the MLP adds.
fn inside(spec: &massact::model::spec::Layer, layer: &LayerSteps, what: &str) {
    let Some(mlp) = layer.mlp else {
        assert!(
            layer.neurons.is_empty() && layer.experts.is_empty(),
            "{what}"
        );
        return;
    };
    let mlp = f64::from(mlp);
    if spec.mlp_norms.output.is_some() || spec.residual_scale != 1.0 {
        return;
    }
    let size = |values: &mut dyn Iterator<Item = f32>| {
        values
            .map(|value| f64::from(value.abs()))
            .fold(mlp.abs(), f64::max)
            .max(1e-2)
    };
    match &spec.mlp {
        Some(Mlp::Gated(gated)) if gated.down.bias.is_none() => {
            let sum: f64 = layer.neurons.iter().map(|n| f64::from(n.product)).sum();
            let size = size(&mut layer.neurons.iter().map(|n| n.product));
            assert!((sum - mlp).abs() <= 2e-5 * size, "{sum} {mlp}: {what}");
            let top = &layer.neurons[0];
            let share = f64::from(top.product) / sum;
            if let Some(told) = top.share {
                assert!(
                    (told - share).abs() <= 1e-4 * share.abs().max(1.0),
                    "{what}"
                );
            }
        }
        Some(Mlp::Experts(_)) => {
            let sum: f64 = layer.experts.iter().map(|part| f64::from(part.added)).sum();
            let size = size(&mut layer.experts.iter().map(|part| part.added));
            assert!((sum - mlp).abs() <= 2e-5 * size, "{sum} {mlp}: {what}");
        }
        _ => {}
    }
}

/// Fails unless `ours` is within 1e-4 of `theirs`, in units of `scale` where that is larger.
fn near(what: &str, ours: f64, theirs: &Value, scale: f64) {
    let theirs = theirs
        .as_f64()
        .unwrap_or_else(|| panic!("{what}: no number"));
    let error = (ours - theirs).abs();
    assert!(
        error <= 1e-4 * theirs.abs().max(scale),
        "{what}: {ours} instead of {theirs}"
    );
}

#[test]
fn lives_are_those_of_transformers() {
    let path = format!("{}/tests/life_reference.json", env!("CARGO_MANIFEST_DIR"));
    let all = read_json(std::path::Path::new(&path));
    let mut massive = 0;
    for (name, wanted) in all.as_object().expect("checkpoints") {
        let model = Model::open(&checkpoint(name)).expect("opens");
        let session = Session::on_cpu(model, Progress::silent());
        let ids: Vec<u32> = serde_json::from_value(wanted["token_ids"].clone()).expect("ids");
        for wanted in wanted["lives"].as_array().expect("lives") {
            let number = |key: &str| wanted[key].as_u64().map(|value| value as usize);
            let place = |key: &str| number(key).expect("a number");
            let choice = Choice {
                positions: vec![place("position")],
                tokens: Vec::new(),
                dimensions: vec![place("dimension")],
            };
            let found = life::run(&session, std::slice::from_ref(&ids), &setup(choice));
            let found = found.expect("runs").result;
            let (life, token) = (&found.activations[0], &found.tokens[0]);
            let what = format!("{name}, {} {}", place("position"), place("dimension"));
            massive += usize::from(!life.massive_layers.is_empty());
            assert_eq!(life.rise.layer, place("rise"), "{what}");
            assert_eq!(
                life.fall.as_ref().map(|fall| fall.layer),
                number("fall"),
                "{what}"
            );
            assert_eq!(token.rise_layer, place("token_rise"), "{what}");
            assert_eq!(token.fall_layer, number("token_fall"), "{what}");
            let share = life.rise.mlp_share.expect("an MLP");
            near(&format!("{what}: share"), share, &wanted["mlp_share"], 0.1);
            let norms = wanted["norms"].as_array().expect("norms");
            near(
                &format!("{what}: norm"),
                token.embedding_norm,
                &norms[0],
                0.0,
            );
            for (ours, theirs) in token.norms.iter().zip(&norms[1..]) {
                near(&format!("{what}: norm"), *ours, theirs, 0.0);
            }
            for (layer, wanted) in life
                .layers
                .iter()
                .zip(wanted["layers"].as_array().expect("layers"))
            {
                layer_agrees(&format!("{what}, layer {}", layer.layer), layer, wanted);
            }
            if let Some(weight) = &life.super_weight
                && life.rise.mlp_share > Some(0.9)
            {
                let neuron = &wanted["layers"][life.rise.layer]["neuron"];
                assert_eq!(
                    Some(weight.neuron as u64),
                    neuron["neuron"].as_u64(),
                    "{what}"
                );
            }
        }
    }
    assert!(massive >= 20, "{massive} massive activations");
}

fn layer_agrees(what: &str, layer: &LayerSteps, wanted: &Value) {
    let parts = ["input", "attention", "mlp", "output"];
    let largest = parts.map(|key| wanted[key].as_f64().expect("a number").abs());
    let scale = largest.into_iter().fold(0.0, f64::max);
    let value = |step: Step| f64::from(layer.step(step).expect("a part"));
    near(
        &format!("{what}: input"),
        f64::from(layer.input),
        &wanted["input"],
        scale,
    );
    near(
        &format!("{what}: attention"),
        value(Step::Attention),
        &wanted["attention"],
        scale,
    );
    near(
        &format!("{what}: mlp"),
        value(Step::Mlp),
        &wanted["mlp"],
        scale,
    );
    near(
        &format!("{what}: output"),
        f64::from(layer.output),
        &wanted["output"],
        scale,
    );
    match &wanted["norm"] {
        Value::Null => assert_eq!(layer.step(Step::Norm), None, "{what}"),
        norm => near(&format!("{what}: norm"), value(Step::Norm), norm, scale),
    }
    let (neuron, theirs) = (&layer.neurons[0], &wanted["neuron"]);
    let product = theirs["product"].as_f64().expect("a number").abs();
    // Products that vanish have no order.
    if product > 1e-3 {
        assert_eq!(
            Some(neuron.neuron as u64),
            theirs["neuron"].as_u64(),
            "{what}: {neuron:?}"
        );
        near(
            &format!("{what}: weight"),
            f64::from(neuron.weight),
            &theirs["weight"],
            0.0,
        );
        let activation = f64::from(neuron.activation);
        near(
            &format!("{what}: activation"),
            activation,
            &theirs["activation"],
            0.0,
        );
        near(
            &format!("{what}: product"),
            f64::from(neuron.product),
            &theirs["product"],
            0.0,
        );
        let expert = match neuron.source {
            Source::Expert(expert) => Some(expert as u64),
            _ => None,
        };
        assert_eq!(expert, theirs["expert"].as_u64(), "{what}");
    }
    let Some(experts) = wanted["experts"].as_array() else {
        assert!(layer.experts.is_empty(), "{what}");
        return;
    };
    assert_eq!(layer.experts.len(), experts.len(), "{what}");
    for theirs in experts {
        let ours = layer.experts.iter().find(|part| {
            matches!(part.source, Source::Expert(expert) if Some(expert as u64) == theirs[0].as_u64())
        });
        let ours = ours.unwrap_or_else(|| panic!("{what}: no expert {}", theirs[0]));
        near(
            &format!("{what}: expert"),
            f64::from(ours.added),
            &theirs[1],
            scale,
        );
    }
}

/// Micro-batches of several sequences, and those that are followed in only some of them.
#[test]
fn sequences_do_not_mix() {
    let model = Model::open(&checkpoint("planted-llama")).expect("opens");
    let session = Session::on_cpu(model, Progress::silent());
    let reference = reference::all()
        .into_iter()
        .find(|one| one.name == "planted-llama");
    let sequences = reference.expect("there").reference.sequences.into_iter();
    let sequences: Vec<Vec<u32>> = sequences.map(|sequence| sequence.token_ids).collect();
    let all = life::run(&session, &sequences, &setup(Choice::default()))
        .expect("runs")
        .result;
    // The one without massive activations has no life.
    assert!(all.activations.iter().all(|life| life.sequence != 0));
    let mut lives = 0;
    for (index, ids) in sequences.iter().enumerate() {
        let one = life::run(
            &session,
            std::slice::from_ref(ids),
            &setup(Choice::default()),
        );
        for life in one.expect("runs").result.activations {
            let known = all.activations.iter().find(|other| {
                (other.sequence, other.position, other.dimension)
                    == (index, life.position, life.dimension)
            });
            let known = known.expect("followed among all");
            assert_eq!(known.rise.layer, life.rise.layer);
            assert_eq!(known.massive_layers, life.massive_layers);
            assert!((known.peak - life.peak).abs() <= 1e-4 * life.peak.abs());
            lives += 1;
        }
    }
    assert_eq!(lives, all.activations.len());
}

/// Nothing of it is computed unless it is asked for: the numbers of a run are the same bits with it.
#[test]
fn following_changes_nothing() {
    let model = Model::open(&checkpoint("mixtral")).expect("opens");
    let session = Session::on_cpu(model, Progress::silent());
    let ids: Vec<u32> = (3..23).collect();
    let likelihoods = |trace: Option<Vec<Vec<(usize, usize)>>>| {
        let statistics = StatisticsRequest {
            top_k: 3,
            abs_threshold: 100.0,
            rel_threshold: 1000.0,
            moments: false,
        };
        let plan = Plan {
            trace,
            nll: true,
            ..Plan::magnitudes(Site::LayerOutput, statistics)
        };
        let mut seen = Raw::default();
        let outcome = session
            .run(std::slice::from_ref(&ids), &plan, &mut seen)
            .expect("runs");
        outcome.token_nll
    };
    assert_eq!(
        likelihoods(None),
        likelihoods(Some(vec![vec![(0, 1), (7, 3)]]))
    );
}

/// Runs `life` on the planted Llama.
fn command(more: &[&str]) -> support::program::Done {
    let out = tempfile::tempdir().expect("a folder");
    let mut program = massact(["life", "--quiet", "--json", "--pretrained"]);
    program
        .arg(checkpoint("planted-llama"))
        .arg("--save-dir")
        .arg(out.path())
        .args(more);
    run(&mut program)
}

#[test]
fn the_command_narrows_and_names() {
    let text = checkpoint("planted-llama")
        .join("text.txt")
        .display()
        .to_string();
    let windows = [
        "--text-file",
        &text,
        "--context-length",
        "24",
        "--nsamples",
        "3",
    ];
    let all = command(&windows).succeeded().json();
    let lives = all["activations"].as_array().expect("lives").len();
    let left_out = all["left_out"].as_u64().expect("a number");
    assert_eq!(lives, 8);
    assert!(left_out > 0);
    let few = command(&[&windows[..], &["--dimension", "7", "--top-k", "100"]].concat());
    let few = few.succeeded().json();
    let few = few["activations"].as_array().expect("lives").clone();
    assert!(
        !few.is_empty() && few.iter().all(|life| life["dimension"] == 7),
        "{few:?}"
    );
    assert!(
        few.iter()
            .all(|life| life["massive_layers"] != serde_json::json!([]))
    );
    let ids = ["--token-ids", "3,4,5,6,7,8"];
    let exact = command(&[&ids[..], &["--position", "2,4", "--dimension", "1"]].concat());
    let exact = exact.succeeded().json();
    let exact: Vec<_> = exact["activations"]
        .as_array()
        .expect("lives")
        .iter()
        .map(|life| life["position"].as_u64())
        .collect();
    assert_eq!(
        BTreeSet::from_iter(exact),
        BTreeSet::from([Some(2), Some(4)])
    );
}

/// The planted activations enter through single weights: without them they are gone, and the values that the
/// weights made, no others.
#[test]
fn without_the_super_weights_nothing_enters() {
    let ids: Vec<String> = std::iter::once(1)
        .chain(3..22)
        .map(|id| id.to_string())
        .collect();
    let ids = ["--token-ids", &ids.join(",")];
    // Not planted-llama: what takes its activations away in a later layer has nothing to take away then.
    for name in ["planted-gpt2"] {
        let out = tempfile::tempdir().expect("a folder");
        let mut program = massact([
            "life",
            "--quiet",
            "--json",
            "--ablate-weight",
            "--pretrained",
        ]);
        program
            .arg(checkpoint(name))
            .arg("--save-dir")
            .arg(out.path())
            .args(ids);
        let found = run(&mut program).succeeded().json();
        let ablation = &found["ablation"];
        let lives = found["activations"].as_array().expect("lives");
        assert!(!lives.is_empty(), "{name}");
        let peaks = |when: &str| -> Vec<f64> {
            serde_json::from_value(ablation[when]["peaks"].clone()).expect("numbers")
        };
        for ((life, before), after) in lives.iter().zip(peaks("before")).zip(peaks("after")) {
            let peak = life["peak"].as_f64().expect("a number");
            assert!(
                (before - peak).abs() <= 1e-4 * peak.abs(),
                "{name}: {before} {peak}"
            );
            assert!(
                after.abs() < 0.05 * before.abs(),
                "{name}: {before} became {after}"
            );
        }
        let weights = ablation["weights"].as_array().expect("weights");
        assert!(
            !weights.is_empty() && weights.len() <= lives.len(),
            "{name}"
        );
        assert!(ablation["after"]["perplexity"].is_number(), "{name}");
        assert_ne!(
            ablation["after"]["sink_mass"], ablation["before"]["sink_mass"],
            "{name}"
        );
    }
}

#[test]
fn places_that_are_not_there_are_refused() {
    let ids = ["--token-ids", "3,4,5,6"];
    let width = Model::open(&checkpoint("planted-llama"))
        .expect("opens")
        .spec
        .hidden_size
        .to_string();
    for (more, told) in [
        (["--dimension", width.as_str()], "the hidden state has"),
        (["--position", "4"], "the longest sequence has 4 tokens"),
        (
            ["--token", "no such token"],
            "no token of the sequences has this text",
        ),
        (["--nsamples", "2"], "cannot be used with"),
    ] {
        let failed = command(&[&ids[..], &more].concat());
        assert_eq!(failed.code, Some(2), "{more:?}");
        assert!(failed.stderr.contains(told), "{more:?}: {}", failed.stderr);
    }
}
