//! What looking costs: walks that look at more and more beside a bare one, and what the device's copies and
//! products reach in the same minutes.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, hint::black_box};

use serde::Serialize;

use super::{
    Bench, STATISTICS,
    amount::{Amount, Load},
    clock::{Call, Times, time_all},
    noise,
    passes::token_ids,
};
use crate::{
    backend::{AttentionCapture, Backend, Change, Statistics, Target},
    engine::{self, Actions, Branch, Discard, Observer, Overwrite, Plan, Site, token_width},
    error::{Error, Result},
    model::{
        Model,
        spec::DecoderSpec,
        weights::{AssembledMatrix, WeightMatrix},
    },
    progress::Progress,
};

/// Maps are T x T a layer, so they are only asked for short sequences.
const MAP_TOKENS: usize = 1024;

/// What is copied to learn what copies reach: more than caches hold.
const COPIED: usize = 64 << 20;

/// What looking costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Looking {
    /// Measured in turns with the walks.
    pub ceilings: Ceilings,
    /// The bare walk first.
    pub walks: Vec<Walk>,
}

/// What the device reaches, in the median repetition.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceilings {
    /// Bytes read and written by a copy of a residual stream of 64 MiB at least.
    pub copied_bytes_per_second: f64,
    /// The model's largest projection of all tokens.
    pub product_flops_per_second: f64,
}

/// A walk through all layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Walk {
    /// What it looks at.
    pub looks_at: &'static str,
    /// Of the fastest repetition.
    pub best_seconds: f64,
    /// Of the median repetition, from which the other numbers follow.
    pub median_seconds: f64,
    /// Tokens of the sequences; those of variants do not count.
    pub tokens_per_second: f64,
    /// The time beyond the bare walk's, over the bare walk's.
    pub added_share: f64,
    /// The same, if what is done beside the bare walk went at the ceilings.
    pub least_added_share: f64,
    /// Multiplications and additions of products and attention.
    pub flops: f64,
    /// Bytes that must be read and written at least.
    pub bytes: f64,
    /// Over the median time.
    pub flops_per_second: f64,
    /// The same.
    pub bytes_per_second: f64,
    /// `flops_per_second` over the products' ceiling.
    pub of_product_ceiling: f64,
    /// `bytes_per_second` over the copies' ceiling.
    pub of_copy_ceiling: f64,
}

/// One walk: its name, what it observes, and what it does beyond the bare one.
struct Kind {
    looks_at: &'static str,
    plan: Plan,
    /// Whether variants of the sequences split off.
    intervenes: bool,
    added: Amount,
}

/// Times them all, in turns.
pub(super) fn looking<B: Backend>(bench: &Bench<'_, B>, model: &Model) -> Result<Looking> {
    let spec = &model.spec;
    bench.check_positions(spec)?;
    let rows = bench.backend.micro_batch_rows(token_width(spec));
    let load = Load {
        sequences: bench.sequences,
        tokens: bench.tokens,
        batches: bench.sequences.div_ceil((rows / bench.tokens).max(1)),
        precision: bench.backend.precision(),
    };
    let bare: Amount = spec
        .layers
        .iter()
        .map(|layer| load.layer(spec, layer))
        .sum();
    let kinds = kinds(spec, &load);
    let ids = token_ids(bench.sequences, bench.tokens, spec.vocab_size);
    let walk = |kind: &Kind| {
        let mut intervene = Intervene { layer: split(spec) };
        let observer: &mut dyn Observer = if kind.intervenes {
            &mut intervene
        } else {
            &mut Discard
        };
        let silent = Progress::silent();
        engine::run(bench.backend, model, &ids, &kind.plan, observer, silent).map(drop)
    };
    let copied = Copied::new(bench, spec.hidden_size)?;
    let product = Product::new(bench, spec)?;
    let mut calls: Vec<Box<Call<'_>>> = vec![
        Box::new(|| copied.run(bench.backend)),
        Box::new(|| product.run(bench.backend)),
    ];
    for kind in &kinds {
        calls.push(Box::new(|| walk(kind)));
    }
    let mut calls: Vec<&mut Call<'_>> = calls.iter_mut().map(AsMut::as_mut).collect();
    let times = time_all(bench.backend, bench.effort, &mut calls)?;
    let seconds = |times: &Times| times.median.as_secs_f64().max(1e-9);
    let (of_ceilings, of_walks) = times.split_at(2);
    let ceilings = Ceilings {
        copied_bytes_per_second: copied.bytes / seconds(&of_ceilings[0]),
        product_flops_per_second: product.flops / seconds(&of_ceilings[1]),
    };
    let bare_seconds = seconds(&of_walks[0]);
    let walks = kinds.iter().zip(of_walks).map(|(kind, times)| {
        let (all, median) = (bare + kind.added, seconds(times));
        let (flops, bytes) = (all.flops / median, all.bytes / median);
        let least = kind.added.flops / ceilings.product_flops_per_second
            + kind.added.bytes / ceilings.copied_bytes_per_second;
        Walk {
            looks_at: kind.looks_at,
            best_seconds: times.best.as_secs_f64(),
            median_seconds: median,
            tokens_per_second: bench.rows() as f64 / median,
            added_share: median / bare_seconds - 1.0,
            least_added_share: least / bare_seconds,
            flops: all.flops,
            bytes: all.bytes,
            flops_per_second: flops,
            bytes_per_second: bytes,
            of_product_ceiling: flops / ceilings.product_flops_per_second,
            of_copy_ceiling: bytes / ceilings.copied_bytes_per_second,
        }
    });
    Ok(Looking {
        ceilings,
        walks: walks.collect(),
    })
}

/// The walks, the bare one first.
fn kinds(spec: &DecoderSpec, load: &Load) -> Vec<Kind> {
    let bare = || Plan {
        all_layers: true,
        ..Plan::default()
    };
    let kind = |looks_at, plan, added| Kind {
        looks_at,
        plan,
        intervenes: false,
        added,
    };
    let outputs = load.site(spec, Site::LayerOutput);
    let sites = Site::ALL.into_iter().filter(|site| site.exists_in(spec));
    let sites: Vec<Site> = sites.collect();
    let every = sites.iter().map(|site| load.site(spec, *site)).sum();
    let mut kinds = vec![
        kind("nothing", bare(), Amount::default()),
        kind(
            "statistics of layer outputs",
            Plan::magnitudes(Site::LayerOutput, STATISTICS),
            outputs,
        ),
        kind(
            "statistics of every site",
            Plan {
                statistics: STATISTICS,
                sites,
                ..Plan::default()
            },
            every,
        ),
    ];
    if spec.layers.iter().any(|layer| layer.attention.is_some()) {
        let captures = |sink, mean| Plan {
            attention: AttentionCapture {
                sink,
                mean,
                heads: false,
            },
            ..bare()
        };
        // Whoever keeps maps is told of overflow, for which the layers' outputs are read.
        let guarded = |map| load.captured(spec, map) + outputs;
        kinds.push(kind("attention sinks", captures(true, false), guarded(0.0)));
        if load.tokens <= MAP_TOKENS {
            // Mean probabilities and logits.
            kinds.push(kind("attention maps", captures(false, true), guarded(8.0)));
        }
    }
    let after = spec.layers.iter().skip(split(spec) + 1);
    let variants = after.map(|layer| load.layer(spec, layer)).sum::<Amount>();
    kinds.push(Kind {
        looks_at: "one intervention",
        plan: Plan {
            variants: 1,
            ..Plan::magnitudes(Site::LayerOutput, STATISTICS)
        },
        intervenes: true,
        added: outputs + variants,
    });
    kinds
}

/// The layer after which variants split off: an early one, as massive activations have it.
fn split(spec: &DecoderSpec) -> usize {
    1.min(spec.layers.len().saturating_sub(1))
}

/// Sets one value of every sequence to zero after a layer.
struct Intervene {
    layer: usize,
}

impl Observer for Intervene {
    fn acts_at(&self, layer: usize, _sequences: &[usize]) -> bool {
        layer == self.layer
    }

    fn actions(&mut self, layer: usize, _sequence: usize, _found: &Statistics) -> Result<Actions> {
        let zero = Overwrite {
            position: 0,
            dimension: 0,
            change: Change::Set(0.0),
        };
        let branch = Branch {
            variant: 0,
            overwrites: BTreeMap::from([(layer, vec![zero])]),
            edits: Vec::new(),
            heads_off: Vec::new(),
        };
        Ok(Actions {
            read: Vec::new(),
            branches: vec![branch],
        })
    }
}

/// A residual stream that is read and written.
struct Copied<B: Backend> {
    x: B::Tensor,
    bytes: f64,
}

impl<B: Backend> Copied<B> {
    fn new(bench: &Bench<'_, B>, width: usize) -> Result<Self> {
        let size = bench.backend.precision().residual().size();
        let rows = bench.rows().max(COPIED.div_ceil(width.max(1) * size));
        Ok(Self {
            x: bench.backend.upload(rows, width, noise(rows * width))?,
            bytes: (2 * rows * width * size) as f64,
        })
    }

    fn run(&self, backend: &B) -> Result<()> {
        backend.duplicate(black_box(&self.x)).map(drop)
    }
}

/// The largest projection of a model.
struct Product<B: Backend> {
    x: B::Tensor,
    weight: B::Matrix<'static>,
    flops: f64,
}

impl<B: Backend> Product<B> {
    fn new(bench: &Bench<'_, B>, spec: &DecoderSpec) -> Result<Self> {
        let size = |(inputs, outputs): &(usize, usize)| inputs * outputs;
        let of_layers = spec.layers.iter().flat_map(|layer| {
            let experts = layer.experts().into_iter();
            let experts = experts.flat_map(|experts| experts.expert.linears());
            let linears = layer.linears().into_iter().chain(experts);
            linears.map(|linear| (linear.in_features, linear.out_features))
        });
        let Some((inputs, outputs)) = of_layers.max_by_key(size) else {
            return Err(Error::usage("the model", "it has no layers"));
        };
        let weight = AssembledMatrix::from_f32(&noise(inputs * outputs), outputs, inputs);
        Ok(Self {
            x: bench.part(inputs, noise(bench.rows() * inputs))?,
            weight: bench.backend.matrix(WeightMatrix::Assembled(weight))?,
            flops: 2.0 * (bench.rows() * inputs * outputs) as f64,
        })
    }

    fn run(&self, backend: &B) -> Result<()> {
        let y = backend.linear(black_box(&self.x), &self.weight, None, Target::Part)?;
        drop(black_box(y));
        Ok(())
    }
}
