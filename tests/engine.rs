//! The engine through its public interface: order and independence of sequences.

mod support;

use massact::backend::{AttentionCapture, AttentionMaps, StatisticsRequest, Tensors, cpu::Cpu};
use massact::engine::{
    self, Discard, Footprint, Observer, Outcome, Place, Plan, Session, Site, Wants,
};
use massact::model::{Model, dtype::DType, random};
use massact::progress::Progress;
use massact::{Result, model::demo};
use support::program::checkpoint;

/// Keeps everything that is captured.
#[derive(Default)]
struct Keep {
    tensors: Vec<(Site, usize, usize, Vec<f32>)>,
    maps: Vec<(usize, usize, AttentionMaps)>,
}

impl Observer for Keep {
    fn tensor(
        &mut self,
        site: Site,
        layer: usize,
        sequence: usize,
        columns: usize,
        values: &[f32],
    ) -> Result<()> {
        assert_eq!(values.len() % columns, 0);
        self.tensors.push((site, layer, sequence, values.to_vec()));
        Ok(())
    }

    fn attention(&mut self, layer: usize, sequence: usize, maps: AttentionMaps) -> Result<()> {
        self.maps.push((layer, sequence, maps));
        Ok(())
    }
}

fn wants(tokens: usize, variants: usize) -> Wants {
    Wants {
        tokens,
        variants,
        ..Wants::default()
    }
}

/// All that there is to see.
fn plan(model: &Model) -> Plan {
    let sites = Site::ALL.into_iter();
    let sites = sites.filter(|site| site.exists_in(&model.spec));
    Plan {
        statistics: StatisticsRequest {
            top_k: 5,
            abs_threshold: 1.0,
            rel_threshold: 2.0,
            moments: true,
        },
        sites: sites.collect(),
        raw: vec![Site::LayerOutput],
        attention: AttentionCapture {
            mean: false,
            heads: false,
            sink: true,
        },
        nll: true,
        last_logits: 16,
        ..Plan::default()
    }
}

fn run(model: &Model, sequences: &[Vec<u32>]) -> (Outcome, Keep) {
    let mut keep = Keep::default();
    let progress = Progress::silent();
    let outcome = engine::run(
        &Cpu::new(),
        model,
        sequences,
        &plan(model),
        &mut keep,
        progress,
    );
    (outcome.expect("runs"), keep)
}

fn sequences(lengths: &[usize], tokens: usize) -> Vec<Vec<u32>> {
    let mut state = 7u64;
    let mut next = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as u32 % tokens as u32
    };
    lengths
        .iter()
        .map(|length| (0..*length).map(|_| next()).collect())
        .collect()
}

fn near(what: &str, together: f32, alone: f32, scale: f32) {
    let close = (together - alone).abs() <= 1e-5 * scale.max(1e-3);
    assert!(close || together == alone, "{what}: {together} and {alone}");
}

/// More rows than one micro-batch holds, sequences of all lengths: each has the numbers that it
/// has when it runs alone. Products of other shapes round differently, hence the tolerance.
fn ragged_as_alone(model: &Model, lengths: &[usize]) {
    let sequences = sequences(lengths, model.spec.vocab_size);
    let (together, kept) = run(model, &sequences);
    assert_eq!(together.token_nll.len(), sequences.len());
    assert_eq!(together.last_logits.len(), sequences.len());
    for (index, sequence) in sequences.iter().enumerate() {
        let (alone, kept_alone) = run(model, std::slice::from_ref(sequence));
        let at = format!("sequence {index} of {} tokens", sequence.len());
        assert_eq!(together.token_nll[index].len(), sequence.len() - 1, "{at}");
        for (ours, theirs) in together.token_nll[index].iter().zip(&alone.token_nll[0]) {
            near(&at, *ours, *theirs, 10.0);
        }
        for (ours, theirs) in together.last_logits[index]
            .iter()
            .zip(&alone.last_logits[0])
        {
            near(&at, *ours, *theirs, 10.0);
        }
        let sites = plan(model).sites.len();
        assert!(sites > 10 && together.statistics.len() == sites);
        for (site, layers) in &together.statistics {
            let layers_alone = &alone.statistics[site];
            assert_eq!(layers.len(), layers_alone.len(), "{site:?}");
            for (layer, found) in layers.iter().enumerate() {
                assert_eq!(found.len(), sequences.len(), "{site:?}");
                let (ours, theirs) = (&found[index], &layers_alone[layer][0]);
                let at = format!("{at}, {site:?} {layer}");
                near(&at, ours.max, theirs.max, theirs.max);
                near(&at, ours.median, theirs.median, theirs.median);
                let place = |found: &massact::backend::Entry| (found.position, found.dimension);
                assert_eq!(place(&ours.top[0]), place(&theirs.top[0]), "{at}");
            }
        }
        let raw = |kept: &Keep, wanted: usize| -> Vec<Vec<f32>> {
            let own = kept
                .tensors
                .iter()
                .filter(|(_, _, sequence, _)| *sequence == wanted);
            own.map(|(_, _, _, values)| values.clone()).collect()
        };
        let (ours, theirs) = (raw(&kept, index), raw(&kept_alone, 0));
        assert_eq!(ours.len(), model.spec.layers.len(), "{at}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours.len(), theirs.len(), "{at}");
            let scale = theirs.iter().fold(0f32, |max, value| max.max(value.abs()));
            for (ours, theirs) in ours.iter().zip(theirs) {
                near(&at, *ours, *theirs, scale);
            }
        }
        for (layer, sequence, maps) in &kept.maps {
            if *sequence == index {
                let alone = kept_alone.maps.iter().find(|(other, _, _)| other == layer);
                let ours = maps.sink_mass.as_ref().expect("asked for");
                let theirs = alone.and_then(|(_, _, maps)| maps.sink_mass.as_ref());
                for (ours, theirs) in ours.iter().zip(theirs.expect("asked for")) {
                    near(&at, *ours, *theirs, 1.0);
                }
            }
        }
    }
}

/// A micro-batch of the CPU holds 2,048 rows; these fill several, some to the last row. The
/// frequencies of dynamic scaling depend on the sequence's length, and each keeps its own.
#[test]
fn ragged_batches_give_the_numbers_of_single_runs() {
    let model = Model::open(&checkpoint("llama-rope-dynamic")).expect("opens");
    let lengths = [
        1024, 1, 959, 64, 65, 2, 48, 49, 1883, 2048, 3, 300, 2500, 257, 1791, 7,
    ];
    ragged_as_alone(&model, &lengths);
}

#[test]
fn ragged_batches_of_learned_positions() {
    let model = Model::open(&checkpoint("gpt2-f32")).expect("opens");
    ragged_as_alone(&model, &[3, 1, 64, 17, 2, 33, 64]);
}

/// Keys and values that later layers read again are part of every stream, variants' too: here those
/// of one layer with heads of 8 and one with heads of 12, beside a residual stream of 24. So is the embedding.
#[test]
fn what_streams_carry_takes_memory() {
    let model = Model::open(&checkpoint("gemma4")).expect("opens");
    let block = Model::open(&checkpoint("zamba2")).expect("opens");
    let of = |model: &Model, variants| {
        let precision = Tensors::precision(&Cpu::new());
        Footprint::of(precision, 1, &model.spec, wants(10, variants), 10).streams_of_batch
    };
    let floats = 10 * (24 + 2 * (8 + 8) + 2 * (12 + 12));
    assert_eq!([of(&model, 0), of(&model, 2)], [4 * floats, 3 * 4 * floats]);
    // The embedding, which blocks beside the stream read again.
    assert_eq!(of(&block, 0), 4 * 10 * (20 + 20));
}

#[test]
fn only_what_is_planned_is_there() {
    let model = demo::open(demo::NAME).expect("the demo");
    let plan = Plan {
        sites: vec![Site::Embedding],
        raw: Vec::new(),
        attention: AttentionCapture::default(),
        nll: false,
        last_logits: 0,
        ..plan(&model)
    };
    let mut keep = Keep::default();
    let ids = [vec![1, 2, 3]];
    let outcome = engine::run(
        &Cpu::new(),
        &model,
        &ids,
        &plan,
        &mut keep,
        Progress::silent(),
    );
    let outcome = outcome.expect("runs");
    assert_eq!(outcome.statistics.len(), 1);
    assert!(outcome.token_nll.is_empty() && outcome.last_logits.is_empty());
    assert!(keep.tensors.is_empty() && keep.maps.is_empty());
}

/// With memory for a part of the sequences only, the model is read more often and nothing else
/// changes, to the bit.
#[test]
fn parts_give_the_bits_of_the_whole() {
    let open = |budget: Option<u64>| {
        let model = Model::open(&checkpoint("planted-llama")).expect("opens");
        let (place, progress) = (Place::cpu(), Progress::silent());
        Session::on(model, Cpu::new(), place, budget, Some(1 << 30), progress)
    };
    // Three micro-batches.
    let sequences = sequences(&[48; 100], 50);
    let plan = plan(open(None).model());
    let run = |budget| {
        let mut keep = Keep::default();
        let outcome = open(budget).run(&sequences, &plan, &mut keep);
        outcome.map(|outcome| (outcome, keep))
    };
    let (whole, kept) = run(None).expect("runs");
    assert_eq!(whole.walks, 1);
    // Less and less, until all three do not fit at once.
    let mut budget = 1 << 30;
    let (parts, kept_in_parts) = loop {
        budget -= budget / 10;
        let (outcome, keep) = run(Some(budget)).expect("runs");
        if outcome.walks > 1 {
            break (outcome, keep);
        }
    };
    assert!(parts.walks <= 3, "{} walks", parts.walks);
    assert_eq!(parts.statistics, whole.statistics);
    assert_eq!(parts.token_nll, whole.token_nll);
    assert_eq!(parts.last_logits, whole.last_logits);
    let mut tensors = kept_in_parts.tensors;
    tensors.sort_by_key(|(_, layer, sequence, _)| (*layer, *sequence));
    assert_eq!(tensors, kept.tensors);
    assert_eq!(kept_in_parts.maps.len(), kept.maps.len());
    // Micro-batches become smaller before a run is refused.
    let (small, _) = run(Some(budget / 8)).expect("runs in small micro-batches");
    assert!(small.walks > 3, "{} walks", small.walks);
    assert_eq!(small.token_nll.len(), sequences.len());
    let error = open(Some(1000)).run(&sequences, &plan, &mut Discard);
    let error = error.expect_err("too large").to_string();
    assert!(error.contains("1 kB may be used"), "{error}");
    assert!(error.contains("--memory-budget"), "{error}");
}

/// A Llama whose weights are noise.
fn noise(layers: usize, hidden: usize, inner: usize) -> Model {
    let config = serde_json::json!({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 50, "max_position_embeddings": 200_000,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true,
    });
    random::open(config.to_string().as_bytes()).expect("runs")
}

/// Whoever looks into an MLP has all rows computed at once, and everyone finds the same.
#[test]
fn a_long_sequence_passes_the_mlps_in_parts() {
    let model = noise(1, 16, 40);
    let sequences = sequences(&[8192 + 300], 50);
    let of = |sites: Vec<Site>| {
        let plan = Plan {
            sites,
            raw: vec![Site::LayerOutput],
            ..Plan::default()
        };
        let mut keep = Keep::default();
        let silent = Progress::silent();
        engine::run(&Cpu::new(), &model, &sequences, &plan, &mut keep, silent).expect("runs");
        keep.tensors.remove(0).3
    };
    let (parts, whole) = (
        of(vec![Site::LayerOutput]),
        of(vec![Site::LayerOutput, Site::Gate]),
    );
    let largest = whole.iter().fold(0f32, |most, value| most.max(value.abs()));
    assert_eq!(parts.len(), whole.len());
    for (index, (part, whole)) in parts.iter().zip(&whole).enumerate() {
        near(&format!("value {index}"), *part, *whole, largest);
    }
}

/// The estimate is linear in tokens beyond what an MLP computes at once, and does not know how many layers there
/// are; whoever looks inside pays for it.
#[test]
fn the_estimate_grows_with_tokens_and_not_with_layers() {
    let of = |layers: usize, tokens: usize, looks_inside: bool| {
        let wants = Wants {
            looks_inside,
            ..wants(tokens, 0)
        };
        let spec = noise(layers, 64, 512).spec;
        Footprint::of(DType::Float32.into(), 1, &spec, wants, 2048).total(1)
    };
    let step = of(2, 64_000, false) - of(2, 32_000, false);
    assert_eq!(of(2, 128_000, false) - of(2, 64_000, false), 2 * step);
    assert_eq!(of(8, 64_000, false), of(2, 64_000, false));
    assert!(of(2, 64_000, true) > 2 * of(2, 64_000, false));
}
