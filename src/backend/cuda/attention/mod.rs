//! Fused attention with capture: launches `kernels/attention_forward.cu`, or `kernels/attention_hopper.cu` on the cards
//! that it is for, and, when maps or the parts of a subset are wanted, `kernels/attention_capture.cu`, which looks at
//! the probabilities again given the softmax's denominators; on those cards, maps, what keys receive and parts come
//! from `kernels/attention_maps_hopper.cu`, `attention_sink_hopper.cu` and `attention_subset_hopper.cu`.
//! Nothing of size T x T exists unless a map is asked for.
#![forbid(unsafe_code)]

mod arguments;
mod capture;
mod hopper;
mod hopper_maps;
mod hopper_sink;
mod hopper_subset;
mod plan;
pub(super) mod tiles;

use self::{arguments::Arguments, tiles::Tiles};
use super::{
    Address, Argument, Buffer, Cuda, Device, KeyMask, Launch, Tensor, Vector,
    tensors::{int, suffix},
};
use crate::{
    backend::{Attention, AttentionOutput, AttentionRequest, Rows},
    error::{Error, Result},
    model::{dtype::DType, spec::Alibi},
};

impl<D: Device> Attention for Cuda<D> {
    fn attention(
        &self,
        q: &Tensor<D>,
        k: &Tensor<D>,
        v: &Tensor<D>,
        sequences: &[Rows],
        request: &AttentionRequest<'_, Vector<D>, KeyMask<D>>,
    ) -> Result<AttentionOutput<Tensor<D>>> {
        let inputs = Inputs {
            dtype: q.dtype,
            rows: q.rows,
            q: q.buffer.address(),
            k: k.buffer.address(),
            v: v.buffer.address(),
        };
        let again = request.capture.any() || request.subset.is_some();
        let call = Call::new(self, inputs, sequences, request, again)?;
        let context = call.forward()?;
        let maps = if request.capture.any() {
            call.maps()?
        } else {
            Vec::new()
        };
        let parts = request.subset.map(|keys| call.parts(keys)).transpose()?;
        Ok(AttentionOutput {
            context,
            maps,
            parts,
        })
    }
}

/// Queries, keys and values of a batch, without gaps between rows.
#[derive(Debug, Clone, Copy)]
struct Inputs {
    dtype: DType,
    /// Rows of each of the three.
    rows: usize,
    /// `[rows, heads * head_dim]`
    q: Address,
    /// `[rows, kv_heads * head_dim]`
    k: Address,
    /// `[rows, kv_heads * value_dim]`
    v: Address,
}

/// One call of attention.
struct Call<'a, D: Device> {
    cuda: &'a Cuda<D>,
    inputs: Inputs,
    sequences: &'a [Rows],
    request: &'a AttentionRequest<'a, Vector<D>, KeyMask<D>>,
    plan: plan::Forward,
    /// Instead of it, on the cards and for the heads that have one of their own.
    hopper: Option<hopper::Plan>,
    /// `[heads]`, for ALiBi.
    slopes: Option<Buffer<D>>,
    /// `[heads, rows]`, if there is a second pass.
    log_sums: Option<Buffer<D>>,
    /// `[heads, rows]`, if there is a second pass and an extra key.
    extra_logits: Option<Buffer<D>>,
}

impl<'a, D: Device> Call<'a, D> {
    fn new(
        cuda: &'a Cuda<D>,
        inputs: Inputs,
        sequences: &'a [Rows],
        request: &'a AttentionRequest<'a, Vector<D>, KeyMask<D>>,
        again: bool,
    ) -> Result<Self> {
        let (head_dim, value_dim) = (request.head_dim, request.value_dim);
        let unfit = |reason: String| {
            Error::new("attention", reason).remedy("use --device cpu for this model")
        };
        let limit = cuda.device.limits().shared_bytes;
        let plan = plan::Forward::new(inputs.dtype, head_dim, value_dim, limit).ok_or_else(|| {
            unfit(format!(
                "heads of {head_dim} and {value_dim} values are wider than the {} that the CUDA \
                 kernels hold",
                plan::WIDEST
            ))
        })?;
        let needed = plan.shared_bytes.max(plan::sink_shared_bytes(inputs.dtype));
        if needed > limit {
            return Err(unfit(format!(
                "heads of {head_dim} values take {needed} bytes of shared memory, the card has \
                 {limit}"
            )));
        }
        let hopper = hopper::Plan::new(
            cuda.device.limits(),
            inputs.dtype,
            (head_dim, value_dim),
            request.heads / request.kv_heads,
        );
        let slopes = request.alibi.map(|alibi| {
            let slopes: Vec<f32> = (0..request.heads).map(|head| alibi.slope(head)).collect();
            cuda.list(&slopes)
        });
        let per_row = |wanted: bool| {
            let bytes = request.heads * inputs.rows * size_of::<f32>();
            wanted.then(|| cuda.buffer(bytes)).transpose()
        };
        Ok(Self {
            cuda,
            inputs,
            sequences,
            request,
            plan,
            hopper: hopper.filter(|_| request.chosen.is_none()),
            slopes: slopes.transpose()?,
            log_sums: per_row(again)?,
            extra_logits: per_row(again && request.kv_bias.is_some())?,
        })
    }

    fn forward(&self) -> Result<Tensor<D>> {
        let context = self.context()?;
        let request = self.request;
        if let Some(plan) = &self.hopper {
            self.forward_on_hopper(plan, context.buffer.address())?;
            return Ok(context);
        }
        let tiles = self.query_tiles(self.plan.queries, request.heads / request.kv_heads)?;
        let arguments = Arguments {
            out: context.buffer.address(),
            ..self.arguments(&tiles)?
        };
        self.launch(
            &self.plan.name(),
            [blocks(request.heads, &tiles)?, 1, self.plan.parts as u32],
            (self.plan.threads, self.plan.shared_bytes),
            Argument::of(&arguments),
        )?;
        Ok(context)
    }

    /// Every sequence in tiles of so many positions, where so many blocks work on the queries of a tile that share keys.
    fn query_tiles(&self, queries: usize, sharing: usize) -> Result<Tiles<D>> {
        let request = self.request;
        let work = |first: usize, length: usize| {
            length.min(first + queries) - request.visible(first).start
        };
        let values = request.head_dim + request.value_dim;
        let heads = |length: usize| self.cached(length * values, request.kv_heads) * sharing;
        Tiles::by_sequence(self.cuda, self.sequences, queries, work, heads)
    }

    /// How many of so many heads to work on at a time, so that what all their blocks read, so many values a head, stays
    /// in the second-level cache.
    fn cached(&self, values: usize, heads: usize) -> usize {
        // Half of the cache, as the next ones begin before the last of these end.
        let cache = self.cuda.device.limits().cache_bytes / 2;
        let fitting = cache / (values * self.inputs.dtype.size()).max(1);
        fitting.clamp(1, heads)
    }

    /// Room for `[rows, heads * value_dim]`.
    fn context(&self) -> Result<Tensor<D>> {
        let columns = self.request.heads * self.request.value_dim;
        self.cuda
            .tensor(self.inputs.rows, columns, self.inputs.dtype)
    }

    /// What all kernels are told; the forward pass and that of the parts name their output.
    fn arguments(&self, tiles: &Tiles<D>) -> Result<Arguments> {
        let request = self.request;
        let address = |buffer: Option<&Buffer<D>>| buffer.map_or(Address::NULL, Buffer::address);
        let learned = |vector: Option<&Vector<D>>| vector.map_or(Address::NULL, Vector::address);
        let alibi = |part: fn(&Alibi) -> bool| i32::from(request.alibi.is_some_and(part));
        // A window or chunk beyond any row is as good as none.
        let within = |size: Option<usize>| {
            let size = size.and_then(|size| i32::try_from(size).ok());
            size.unwrap_or(i32::MAX)
        };
        let chosen = request.chosen.map(|mask| &mask.bits);
        let bytes = self.inputs.dtype.size();
        let aligned = (request.head_dim * bytes).is_multiple_of(16)
            && (request.value_dim * bytes).is_multiple_of(16);
        Ok(Arguments {
            q: self.inputs.q,
            k: self.inputs.k,
            v: self.inputs.v,
            tiles: tiles.buffer.address(),
            sinks: learned(request.sinks),
            extra_key: learned(request.kv_bias.as_ref().map(|bias| bias.k)),
            extra_value: learned(request.kv_bias.as_ref().map(|bias| bias.v)),
            slopes: address(self.slopes.as_ref()),
            out: Address::NULL,
            log_sums: address(self.log_sums.as_ref()),
            extra_logits: address(self.extra_logits.as_ref()),
            chosen: address(chosen.map(|bits| &bits.buffer)),
            sections: address(tiles.sections.as_ref()),
            rows: int(self.inputs.rows)?,
            heads: int(request.heads)?,
            kv_heads: int(request.kv_heads)?,
            head_dim: int(request.head_dim)?,
            value_dim: int(request.value_dim)?,
            window: within(request.window),
            chunk: within(request.chunk),
            words: int(chosen.map_or(0, |bits| bits.columns))?,
            scale: request.scale,
            soft_cap: request.soft_cap.unwrap_or(0.0),
            alibi_factor: request.alibi.map_or(0.0, |alibi| alibi.factor),
            alibi_from_last: alibi(|alibi| alibi.from_last),
            alibi_bfloat16: alibi(|alibi| alibi.bfloat16),
            aligned: i32::from(aligned),
        })
    }

    /// Starts `attention_<what>_<type>`; a grid without blocks is nothing to do.
    fn launch(
        &self,
        what: &str,
        grid: [u32; 3],
        (threads, shared_bytes): (usize, u32),
        arguments: Argument<'_>,
    ) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        let kernel = format!("attention_{what}_{}", suffix(self.inputs.dtype));
        self.cuda.device.launch(
            &Launch {
                kernel: &kernel,
                grid,
                block: [threads as u32, 1, 1],
                shared_bytes,
            },
            &[arguments],
        )
    }
}

/// Blocks of a grid of one axis, for so many heads or tiles of heads.
fn blocks<D: Device>(heads: usize, tiles: &Tiles<D>) -> Result<u32> {
    u32::try_from(heads * tiles.count as usize)
        .ok()
        .filter(|blocks| *blocks <= i32::MAX as u32)
        .ok_or_else(|| {
            Error::new("attention", "more tiles than a grid has")
                .remedy("use a shorter --context-length or fewer --nsamples")
        })
}
