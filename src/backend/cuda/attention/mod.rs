//! Fused attention with capture: launches `kernels/attention_forward.cu` and, when maps or a
//! subset's part are wanted, `kernels/attention_capture.cu`, which looks at the probabilities again
//! given the softmax's denominators. Nothing of size T x T exists unless a map is asked for.
#![forbid(unsafe_code)]

mod arguments;
mod capture;
mod plan;
mod tiles;

use std::rc::Rc;

use self::{
    arguments::{Arguments, int},
    tiles::Tiles,
};
use super::{Address, Argument, Buffer, Device, Launch};
use crate::{
    backend::{AttentionOutput, AttentionRequest, Rows},
    error::{Error, Result},
    model::{dtype::DType, spec::Alibi},
};

/// Queries, keys and values of a batch, without gaps between rows.
#[derive(Debug, Clone, Copy)]
pub struct Inputs {
    /// Their element type.
    pub dtype: DType,
    /// Rows of each of the three.
    pub rows: usize,
    /// `[rows, heads * head_dim]`
    pub q: Address,
    /// `[rows, kv_heads * head_dim]`
    pub k: Address,
    /// `[rows, kv_heads * value_dim]`
    pub v: Address,
}

/// Runs attention within each sequence; what it returns has the inputs' type.
pub fn run<D: Device>(
    device: &Rc<D>,
    inputs: Inputs,
    sequences: &[Rows],
    request: &AttentionRequest<'_, Buffer<D>>,
) -> Result<AttentionOutput<Buffer<D>>> {
    let again = request.capture.any() || request.subset.is_some();
    let call = Call::new(device, inputs, sequences, request, again)?;
    let context = call.forward()?;
    let maps = if request.capture.any() {
        call.maps()?
    } else {
        Vec::new()
    };
    let subset = request.subset.map(|keys| call.subset(keys)).transpose()?;
    Ok(AttentionOutput {
        context,
        maps,
        subset,
    })
}

/// One call of attention.
struct Call<'a, D: Device> {
    device: &'a Rc<D>,
    inputs: Inputs,
    sequences: &'a [Rows],
    request: &'a AttentionRequest<'a, Buffer<D>>,
    plan: plan::Forward,
    /// `[heads]`, for ALiBi.
    slopes: Option<Buffer<D>>,
    /// `[heads, rows]`, if there is a second pass.
    log_sums: Option<Buffer<D>>,
    /// `[heads, rows]`, if there is a second pass and an extra key.
    extra_logits: Option<Buffer<D>>,
}

impl<'a, D: Device> Call<'a, D> {
    fn new(
        device: &'a Rc<D>,
        inputs: Inputs,
        sequences: &'a [Rows],
        request: &'a AttentionRequest<'a, Buffer<D>>,
        again: bool,
    ) -> Result<Self> {
        let (head_dim, value_dim) = (request.head_dim, request.value_dim);
        let unfit = |reason: String| {
            Error::new("attention", reason).remedy("use --device cpu for this model")
        };
        let plan = plan::Forward::new(inputs.dtype, head_dim, value_dim).ok_or_else(|| {
            unfit(format!(
                "heads of {head_dim} and {value_dim} values are wider than the 256 that the CUDA \
                 kernels hold"
            ))
        })?;
        let limit = device.limits().shared_bytes;
        let needed = plan.shared_bytes.max(plan::sink_shared_bytes(inputs.dtype));
        if needed > limit {
            return Err(unfit(format!(
                "heads of {head_dim} values take {needed} bytes of shared memory, the card has \
                 {limit}"
            )));
        }
        let slopes = request.alibi.map(|alibi| {
            let slopes: Vec<f32> = (0..request.heads).map(|head| alibi.slope(head)).collect();
            Buffer::with(device, bytemuck::cast_slice(&slopes))
        });
        let per_row = |wanted: bool| {
            let bytes = request.heads * inputs.rows * size_of::<f32>();
            wanted.then(|| Buffer::new(device, bytes)).transpose()
        };
        Ok(Self {
            device,
            inputs,
            sequences,
            request,
            plan,
            slopes: slopes.transpose()?,
            log_sums: per_row(again)?,
            extra_logits: per_row(again && request.kv_bias.is_some())?,
        })
    }

    fn forward(&self) -> Result<Buffer<D>> {
        let context = self.context()?;
        let queries = self.plan.queries;
        let tiles = Tiles::new(self.device, self.sequences, queries, |first, length| {
            let last = length.min(first + queries) - 1;
            last + 1 - self.request.visible(first).start
        })?;
        let arguments = Arguments {
            out: context.address(),
            ..self.arguments(&tiles)
        };
        self.launch(
            &self.plan.width.to_string(),
            [self.request.heads as u32, tiles.count],
            (self.plan.threads, self.plan.shared_bytes),
            &arguments.list(&[]),
        )?;
        Ok(context)
    }

    /// Room for `[rows, heads * value_dim]`.
    fn context(&self) -> Result<Buffer<D>> {
        let values = self.inputs.rows * self.request.heads * self.request.value_dim;
        Buffer::new(self.device, values * self.inputs.dtype.size())
    }

    /// What all kernels are told; the forward pass and the subset name their output.
    fn arguments(&self, tiles: &Tiles<D>) -> Arguments {
        let request = self.request;
        let address = |buffer: Option<&Buffer<D>>| buffer.map_or(Address::NULL, Buffer::address);
        let alibi = |part: fn(&Alibi) -> bool| request.alibi.is_some_and(part);
        let bytes = self.inputs.dtype.size();
        Arguments {
            q: self.inputs.q,
            k: self.inputs.k,
            v: self.inputs.v,
            tiles: tiles.buffer.address(),
            sinks: address(request.sinks),
            extra_key: address(request.kv_bias.as_ref().map(|bias| bias.k)),
            extra_value: address(request.kv_bias.as_ref().map(|bias| bias.v)),
            slopes: address(self.slopes.as_ref()),
            out: Address::NULL,
            log_sums: address(self.log_sums.as_ref()),
            extra_logits: address(self.extra_logits.as_ref()),
            rows: int(self.inputs.rows),
            heads: int(request.heads),
            kv_heads: int(request.kv_heads),
            head_dim: int(request.head_dim),
            value_dim: int(request.value_dim),
            window: request.window.map_or(i32::MAX, int),
            scale: request.scale,
            soft_cap: request.soft_cap.unwrap_or(0.0),
            alibi_factor: request.alibi.map_or(0.0, |alibi| alibi.factor),
            alibi_from_last: alibi(|alibi| alibi.from_last),
            alibi_bfloat16: alibi(|alibi| alibi.bfloat16),
            aligned: (request.head_dim * bytes).is_multiple_of(16)
                && (request.value_dim * bytes).is_multiple_of(16),
        }
    }

    /// Starts `attention_<what>_<type>`; a grid without blocks is nothing to do.
    fn launch(
        &self,
        what: &str,
        [x, y]: [u32; 2],
        (threads, shared_bytes): (u32, u32),
        arguments: &[Argument],
    ) -> Result<()> {
        if x == 0 || y == 0 {
            return Ok(());
        }
        let suffix = match self.inputs.dtype {
            DType::Float32 => "f32",
            DType::BFloat16 => "bf16",
            DType::Float16 => "f16",
        };
        self.device.launch(
            &Launch {
                kernel: &format!("attention_{what}_{suffix}"),
                grid: [x, y, 1],
                block: [threads, 1, 1],
                shared_bytes,
            },
            arguments,
        )
    }
}
