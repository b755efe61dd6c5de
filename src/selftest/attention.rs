//! Attention in shapes that models have.

use super::inputs::noise;
use crate::{
    backend::{AttentionCapture, AttentionMaps, AttentionRequest, Backend, KvBias, Rows},
    error::Result,
    model::{dtype::DType, spec::Alibi},
};

/// Shape and options of an attention call.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    lengths: Vec<usize>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    value_dim: usize,
    options: Options,
    /// Queries see some keys that are chosen for them.
    chosen: bool,
    subset: Subset,
}

/// What changes scores, and which keys are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Options {
    None,
    /// A window of so many keys.
    Window(usize),
    /// A window of so many keys, chunks of two thirds of them, soft cap, ALiBi, sinks and KV bias.
    All(usize),
}

/// The keys whose part of the output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subset {
    /// Every third.
    Some,
    Empty,
    All,
}

/// Every width of heads, on a few tokens, and heads that share no keys.
pub(super) fn small() -> impl Iterator<Item = Attention> {
    let widths = [
        (16, 16),
        (64, 64),
        (80, 80),
        (96, 96),
        (128, 128),
        (160, 128),
        (192, 128),
        (256, 256),
        (512, 512),
    ];
    let shared = widths.into_iter().map(|(head_dim, value_dim)| Attention {
        lengths: vec![70, 1, 5],
        heads: 6,
        kv_heads: 2,
        head_dim,
        value_dim,
        options: match head_dim {
            16 | 80 => Options::All(40),
            _ => Options::None,
        },
        chosen: head_dim == 80 || head_dim == 192,
        subset: Subset::Some,
    });
    let own = |width, options, subset| Attention {
        lengths: vec![70, 5],
        heads: 3,
        kv_heads: 3,
        head_dim: width,
        value_dim: width,
        options,
        chosen: false,
        subset,
    };
    shared.chain([
        own(64, Options::All(40), Subset::All),
        own(128, Options::Window(40), Subset::Empty),
    ])
}

/// Many tiles; and for each width of the kernels for Hopper as many keys as take their rings around.
pub(super) fn large() -> impl Iterator<Item = Attention> {
    let many = [64, 128].into_iter().map(|width| Attention {
        lengths: vec![1000, 300],
        heads: 14,
        kv_heads: 2,
        head_dim: width,
        value_dim: width,
        options: Options::None,
        chosen: false,
        subset: Subset::Some,
    });
    let rings = [(64, 64), (96, 96), (128, 128), (192, 128), (256, 256)];
    let cases = [
        (6, 2, Options::None, Subset::Some),
        (3, 3, Options::All(450), Subset::All),
        (4, 4, Options::Window(200), Subset::Empty),
    ];
    let rings = rings.into_iter().flat_map(move |(head_dim, value_dim)| {
        cases.map(|(heads, kv_heads, options, subset)| Attention {
            lengths: vec![513, 129],
            heads,
            kv_heads,
            head_dim,
            value_dim,
            options,
            chosen: false,
            subset,
        })
    });
    many.chain(rings)
}

impl Attention {
    pub(super) fn name(&self) -> String {
        let Self {
            heads,
            kv_heads,
            head_dim,
            value_dim,
            ..
        } = self;
        let tokens = self.lengths[0];
        let options = match self.options {
            Options::None => "",
            Options::Window(_) => ", window",
            Options::All(_) => ", all options",
        };
        let chosen = if self.chosen { ", chosen keys" } else { "" };
        format!(
            "attention, {tokens} tokens, {heads} heads on {kv_heads} of {head_dim}/{value_dim}{options}{chosen}"
        )
    }

    pub(super) fn compute<B: Backend>(&self, b: &B, dtype: DType) -> Result<Vec<f32>> {
        let rows: usize = self.lengths.iter().sum();
        let mut end = 0;
        let sequences: Vec<_> = self
            .lengths
            .iter()
            .map(|length| {
                end += length;
                end - length..end
            })
            .collect();
        let tensor = |columns, seed| b.upload(rows, columns, noise(rows * columns, seed, dtype));
        let q = tensor(self.heads * self.head_dim, 1)?;
        let k = tensor(self.kv_heads * self.head_dim, 2)?;
        let v = tensor(self.kv_heads * self.value_dim, 3)?;
        let vector = |count, seed| b.vector(noise(count, seed, dtype));
        let (sinks, key) = (
            vector(self.heads, 4)?,
            vector(self.heads * self.head_dim, 5)?,
        );
        let value = vector(self.heads * self.value_dim, 6)?;
        let alibi = Alibi::new(self.heads);
        let subset: Vec<Vec<usize>> = self
            .lengths
            .iter()
            .map(|length| match self.subset {
                Subset::Some => (0..*length).step_by(3).collect(),
                Subset::Empty => Vec::new(),
                Subset::All => (0..*length).collect(),
            })
            .collect();
        let all = matches!(self.options, Options::All(_));
        let chosen = self
            .chosen
            .then(|| choose(b, rows, &sequences))
            .transpose()?;
        let request = AttentionRequest {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            value_dim: self.value_dim,
            scale: 4.0 / (self.head_dim as f32).sqrt(),
            window: match self.options {
                Options::None => None,
                Options::Window(keys) | Options::All(keys) => Some(keys),
            },
            chunk: match self.options {
                Options::All(keys) => Some(keys * 2 / 3),
                _ => None,
            },
            chosen: chosen.as_ref(),
            soft_cap: all.then_some(5.0),
            alibi: all.then_some(&alibi),
            sinks: all.then_some(&sinks),
            kv_bias: all.then_some(KvBias { k: &key, v: &value }),
            capture: AttentionCapture {
                mean: true,
                heads: self.lengths[0] < 100,
                sink: true,
            },
            subset: Some(&subset),
        };
        let found = b.attention(&q, &k, &v, &sequences, &request)?;
        let mut out = b.download(&found.context)?;
        if let Some(parts) = &found.parts {
            out.extend(b.download(&parts.subset)?);
            out.extend(b.download(&parts.rest)?);
        }
        out.extend(found.maps.into_iter().flat_map(maps));
        Ok(out)
    }
}

/// Some keys of each query. Numbers are so coarse that scores are exact and many are equal.
fn choose<B: Backend>(b: &B, rows: usize, sequences: &[Rows]) -> Result<B::KeyMask> {
    let (heads, width) = (3, 5);
    let coarse = |columns, seed| {
        let values = noise(rows * columns, seed, DType::Float32);
        let values = values.into_iter().map(|x| (x * 2.0).round() / 2.0);
        b.upload(rows, columns, values.collect())
    };
    let (q, k) = (coarse(heads * width, 7)?, coarse(width, 8)?);
    let all = b.choose_keys(&q, &k, &coarse(heads, 9)?, sequences, (sequences, 1), 9)?;
    b.gather_choices(&all, &(0..rows).collect::<Vec<_>>())
}

/// Attention of entries and tokens under a mask by which rows of entries see nothing but a sink.
pub(super) fn with_mask<B: Backend>(
    b: &B,
    mask: &B::KeyMask,
    sequences: &[Rows],
    dtype: DType,
) -> Result<Vec<f32>> {
    let (heads, width) = (2, 16);
    let rows = sequences.last().map_or(0, |rows| rows.end);
    let tensor = |columns, seed| b.upload(rows, columns, noise(rows * columns, seed, dtype));
    let sinks = b.vector(noise(heads, 4, dtype))?;
    let keys: Vec<Vec<usize>> = sequences
        .iter()
        .map(|rows| vec![0, rows.len() - 1])
        .collect();
    let request = AttentionRequest {
        scale: 1.0,
        chosen: Some(mask),
        sinks: Some(&sinks),
        capture: AttentionCapture {
            mean: true,
            heads: true,
            sink: true,
        },
        subset: Some(&keys),
        ..AttentionRequest::plain(heads, 1, width)
    };
    let k = tensor(width, 2)?;
    let found = b.attention(&tensor(heads * width, 1)?, &k, &k, sequences, &request)?;
    let mut out = b.download(&found.context)?;
    if let Some(parts) = &found.parts {
        out.extend(b.download(&parts.subset)?);
        out.extend(b.download(&parts.rest)?);
    }
    out.extend(found.maps.into_iter().flat_map(maps));
    Ok(out)
}

fn maps(maps: AttentionMaps) -> impl Iterator<Item = f32> {
    let all = [
        maps.probs_mean,
        maps.logits_mean,
        maps.probs,
        maps.logits,
        maps.sink_mass,
        maps.max_logit,
    ];
    all.into_iter().flatten().flatten()
}
