//! Mixtures of experts (`kernels/routing.cu`, `kernels/visitors.cu`): who visits whom is decided on the
//! device, and only how many visit each expert comes to the host, because products need their sizes.
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    device::{Address, Device},
    memory::Buffer,
    tensor::{int, suffix},
};
use crate::{
    error::{Error, Result},
    model::{
        dtype::DType,
        spec::{ExpertGroups, Routing, Score},
    },
};

/// Rows of a block, a warp each.
const WARPS: usize = 4;
/// Entries that a warp keeps in order.
const MOST: usize = 32;

/// The rows that visit each expert, on the device.
#[derive(Debug)]
pub struct Visitors<D: Device> {
    pub(super) counts: Vec<usize>,
    /// Rows, those of expert 0 first.
    rows: Buffer<D>,
    /// Their weights in the same order.
    weights: Buffer<D>,
}

impl<D: Device> Visitors<D> {
    /// Rows and weights of an expert's visitors, and how many they are.
    fn of(&self, expert: usize) -> (Address, Address, usize) {
        let start = self.counts[..expert].iter().sum::<usize>() * size_of::<u32>();
        let (rows, weights) = (self.rows.address(), self.weights.address());
        (
            rows.offset(start),
            weights.offset(start),
            self.counts[expert],
        )
    }
}

impl<D: Device> Cuda<D> {
    pub(super) fn choose_experts(
        &self,
        logits: &Tensor<D>,
        routing: &Routing,
        correction: Option<&Buffer<D>>,
    ) -> Result<Visitors<D>> {
        let (rows, experts) = (logits.rows, logits.columns);
        let visits = routing.top_k.min(experts);
        let groups = routing.groups.unwrap_or(ExpertGroups {
            count: 0,
            kept: 0,
            best: 0,
        });
        let (kept, best) = (groups.kept.min(groups.count), groups.best.min(experts));
        let shared = WARPS * 2 * experts * size_of::<f32>();
        let fits = [visits, kept, best].iter().all(|count| *count <= MOST);
        if !fits || shared > self.device.limits().shared_bytes as usize {
            return Err(Error::new(
                "experts",
                format!("{visits} of {experts} a token are more than the CUDA kernels choose"),
            )
            .remedy("use --device cpu for this model"));
        }
        let count = rows * visits;
        let words = |count: usize| Buffer::new(&self.device, count * size_of::<u32>());
        let (chosen, factors) = (words(count)?, words(count)?);
        self.launch_with(
            &format!("route_{}", suffix(logits.dtype)),
            [int(rows.div_ceil(WARPS))?.cast_unsigned(), 1],
            32 * WARPS as u32,
            shared as u32,
            &[
                logits.buffer.address().into(),
                correction.map(Buffer::address).into(),
                chosen.address().into(),
                factors.address().into(),
                int(rows)?.into(),
                int(experts)?.into(),
                i32::from(routing.score == Score::Sigmoid).into(),
                int(visits)?.into(),
                int(groups.count)?.into(),
                int(kept)?.into(),
                int(best)?.into(),
                i32::from(routing.renormalise).into(),
                routing.scale.into(),
            ],
        )?;
        let (visitors, weights, counts) = (words(count)?, words(count)?, words(experts)?);
        self.launch(
            "expert_visitors",
            [int(experts)?.cast_unsigned(), 1],
            1024,
            &[
                chosen.address().into(),
                factors.address().into(),
                visitors.address().into(),
                weights.address().into(),
                counts.address().into(),
                int(count)?.into(),
                int(visits)?.into(),
            ],
        )?;
        let counts: Vec<u32> = self.fetch(&counts, experts)?;
        Ok(Visitors {
            counts: counts.into_iter().map(|count| count as usize).collect(),
            rows: visitors,
            weights,
        })
    }

    pub(super) fn gather_of_expert(
        &self,
        x: &Tensor<D>,
        visitors: &Visitors<D>,
        expert: usize,
    ) -> Result<Tensor<D>> {
        let (rows, _, count) = visitors.of(expert);
        self.gather_listed(x, rows, count)
    }

    pub(super) fn add_of_expert(
        &self,
        out: &Tensor<D>,
        x: &Tensor<D>,
        visitors: &Visitors<D>,
        expert: usize,
    ) -> Result<()> {
        let (rows, weights, _) = visitors.of(expert);
        self.scatter_add(out, x, rows, weights)
    }

    pub(super) fn add_every_row(
        &self,
        out: &Tensor<D>,
        x: &Tensor<D>,
        factors: &Tensor<D>,
    ) -> Result<()> {
        let wide = self.in_type(factors, DType::Float32)?;
        let factors = wide.as_ref().unwrap_or(factors);
        self.scatter_add(out, x, Address::NULL, factors.buffer.address())
    }
}
