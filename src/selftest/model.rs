//! Whole models, layer by layer: the built-in demo, in which values are massive, and generated ones.

use super::{Check, Difference, Extent, difference, generated};
use crate::{
    backend::{AttentionCapture, AttentionMaps, Backend, StatisticsRequest, cpu::Cpu},
    engine::{self, Observer, Plan, Site},
    error::{Error, Kind, Result},
    model::{Model, demo, dtype::DType},
    progress::Progress,
};

/// Collects what a run shows.
#[derive(Default)]
struct Collected {
    /// `[layer][value]`
    hidden: Vec<Vec<f32>>,
    sink_mass: Vec<f32>,
}

impl Observer for Collected {
    fn tensor(&mut self, _: Site, layer: usize, _: usize, _: usize, values: &[f32]) -> Result<()> {
        self.hidden.resize_with(layer + 1, Vec::new);
        self.hidden[layer].extend(values);
        Ok(())
    }

    fn attention(&mut self, _: usize, _: usize, maps: AttentionMaps) -> Result<()> {
        self.sink_mass.extend(maps.sink_mass.unwrap_or_default());
        Ok(())
    }
}

struct Run {
    collected: Collected,
    nll: Vec<f32>,
    /// Positions and dimensions of the massive activations, by layer and sequence.
    massive: Vec<(usize, usize)>,
}

fn run<B: Backend>(backend: &B, model: &Model, sequences: &[Vec<u32>]) -> Result<Run> {
    let statistics = StatisticsRequest {
        top_k: 2,
        abs_threshold: 100.0,
        rel_threshold: 1000.0,
        moments: false,
    };
    let plan = Plan {
        raw: vec![Site::LayerOutput],
        attention: AttentionCapture {
            sink: true,
            ..AttentionCapture::default()
        },
        nll: true,
        ..Plan::magnitudes(Site::LayerOutput, statistics)
    };
    let mut collected = Collected::default();
    let outcome = engine::run(
        backend,
        model,
        sequences,
        &plan,
        &mut collected,
        Progress::new(true),
    )?;
    let found = outcome.statistics.values().flatten().flatten();
    Ok(Run {
        collected,
        nll: outcome.token_nll.concat(),
        massive: found
            .flat_map(|found| {
                found
                    .massive
                    .iter()
                    .map(|entry| (entry.position, entry.dimension))
            })
            .collect(),
    })
}

/// BOS and tokens drawn evenly; of two lengths.
fn sequences(model: &Model, extent: Extent) -> Vec<Vec<u32>> {
    let lengths: &[usize] = match extent {
        Extent::Full => &[256, 100],
        Extent::Quick => &[20],
    };
    let vocabulary = model.spec.vocab_size as u32;
    let mut state = 1u32;
    let mut token = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % vocabulary
    };
    lengths
        .iter()
        .map(|length| {
            std::iter::once(0)
                .chain((1..*length).map(|_| token()))
                .collect()
        })
        .collect()
}

/// What a run may differ by, relative to a layer's root mean square: measured for correct kernels,
/// about twice the largest value met. The demo has six layers, the others two; its massive activations
/// are 4,000 times the root mean square, and are compared relative to themselves.
fn allowed(name: &str, dtype: DType) -> f64 {
    match (name, dtype) {
        (demo::NAME, DType::Float32) => 2e-5,
        (demo::NAME, DType::BFloat16) => 0.2,
        (demo::NAME, DType::Float16) => 0.03,
        (_, DType::Float32) => 8e-6,
        (_, DType::BFloat16) => 0.08,
        (_, DType::Float16) => 0.012,
    }
}

/// The models.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    [demo::NAME].into_iter().chain(generated::NAMES)
}

/// Compares the backend with the CPU on one of [`all`].
pub(super) fn checks<B: Backend>(backend: &B, name: &str, extent: Extent) -> Result<Vec<Check>> {
    let precision = backend.precision();
    let dtype = precision.arithmetic();
    let allowed = allowed(name, dtype);
    let model = match name {
        demo::NAME => demo::open(name)?,
        _ => generated::open(name, extent, dtype)?,
    };
    let sequences = sequences(&model, extent);
    let wanted = run(&Cpu::new(), &model, &sequences)?;
    let check = |what: &str, allowed, found| {
        Check::of(format!("{name} model, {what}"), precision, allowed, found)
    };
    let got = match run(backend, &model, &sequences) {
        Ok(got) => got,
        Err(error) if error.kind() == Kind::Interrupted => return Err(error),
        Err(error) => return Ok(vec![check("run", 0.0, Err(error))]),
    };
    let mut checks = Vec::new();
    for (layer, wanted) in wanted.collected.hidden.iter().enumerate() {
        let squares: f64 = wanted.iter().map(|x| f64::from(*x).powi(2).min(1e4)).sum();
        let scale = (squares / wanted.len() as f64).sqrt();
        let found = got.collected.hidden.get(layer).map_or_else(
            || Err(Error::new("hidden states", "missing")),
            |got| Ok(difference(got, wanted, scale, allowed)),
        );
        checks.push(check(&format!("output of layer {layer}"), allowed, found));
    }
    let sink_mass = difference(
        &got.collected.sink_mass,
        &wanted.collected.sink_mass,
        1.0,
        allowed,
    );
    checks.push(check("attention received", allowed, Ok(sink_mass)));
    let nll = difference(&got.nll, &wanted.nll, 1.0, allowed);
    checks.push(check("likelihood", allowed, Ok(nll)));
    if wanted.massive.is_empty() {
        return Ok(checks);
    }
    let same = Difference::exact(got.massive == wanted.massive);
    checks.push(check("places of massive activations", 0.0, Ok(same)));
    Ok(checks)
}
