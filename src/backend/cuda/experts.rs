//! Mixtures of experts (`kernels/route.cu`, `kernels/visitors.cu`): who visits whom is decided on the
//! device, and only how many visit each expert comes to the host, because products need their sizes.
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    constants::{
        ROUTE_MOST, ROUTE_WARPS, SCORE_SIGMOID, SCORE_SOFTMAX, SCORE_SPARSE, SCORE_SQRT_SOFTPLUS,
        VISITORS_THREADS,
    },
    device::{Address, Device},
    memory::Buffer,
    tensors::{int, suffix, threads},
    vectors::Vector,
};
use crate::{
    backend::Experts,
    error::{Error, Result},
    model::spec::{ExpertGroups, Routing, Score},
};

/// The rows that visit each expert, on the device.
#[derive(Debug)]
pub struct Visitors<D: Device> {
    counts: Vec<usize>,
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

impl<D: Device> Experts for Cuda<D> {
    fn route(
        &self,
        logits: &Tensor<D>,
        routing: &Routing,
        correction: Option<&Vector<D>>,
        given: Option<&[u32]>,
    ) -> Result<Visitors<D>> {
        let (rows, experts) = (logits.rows, logits.columns);
        let visits = routing.top_k.min(experts);
        let groups = routing.groups.unwrap_or(ExpertGroups {
            count: 0,
            kept: 0,
            best: 0,
        });
        let (kept, best) = (groups.kept.min(groups.count), groups.best.min(experts));
        let shared = ROUTE_WARPS * 2 * experts * size_of::<f32>();
        let fits = [visits, kept, best]
            .iter()
            .all(|count| *count <= ROUTE_MOST);
        if !fits || shared > self.device.limits().shared_bytes as usize {
            return Err(Error::new(
                "experts",
                format!("{visits} of {experts} a token are more than the CUDA kernels choose"),
            )
            .remedy("use --device cpu for this model"));
        }
        let (score, share) = match routing.score {
            Score::Softmax => (SCORE_SOFTMAX, 0.0),
            Score::Sigmoid => (SCORE_SIGMOID, 0.0),
            Score::SqrtSoftplus => (SCORE_SQRT_SOFTPLUS, 0.0),
            Score::Sparse(share) => (SCORE_SPARSE, share),
        };
        let count = rows * visits;
        let words = |count: usize| self.buffer(count * size_of::<u32>());
        let (chosen, factors) = (words(count)?, words(count)?);
        let given = given.map(|given| self.list(given)).transpose()?;
        self.launch_with(
            &format!("route_{}", suffix(logits.dtype)),
            [int(rows.div_ceil(ROUTE_WARPS))?.cast_unsigned(), 1],
            32 * ROUTE_WARPS as u32,
            shared as u32,
            &[
                logits.buffer.address().into(),
                correction.map(Vector::address).into(),
                given.as_ref().map(Buffer::address).into(),
                chosen.address().into(),
                factors.address().into(),
                int(rows)?.into(),
                int(experts)?.into(),
                int(score)?.into(),
                int(visits)?.into(),
                int(groups.count)?.into(),
                int(kept)?.into(),
                int(best)?.into(),
                i32::from(routing.renormalise).into(),
                routing.epsilon.into(),
                share.into(),
                routing.scale.into(),
            ],
        )?;
        let (visitors, weights, counts) = (words(count)?, words(count)?, words(experts)?);
        self.launch(
            "route_visitors",
            [int(experts)?.cast_unsigned(), 1],
            VISITORS_THREADS as u32,
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

    fn visits(&self, visitors: &Visitors<D>) -> Vec<usize> {
        visitors.counts.clone()
    }

    fn visiting_rows(&self, visitors: &Visitors<D>) -> Result<Vec<Vec<usize>>> {
        let all: Vec<u32> = self.fetch(&visitors.rows, visitors.counts.iter().sum())?;
        let mut all = all.into_iter().map(|row| row as usize);
        let counts = visitors.counts.iter();
        Ok(counts
            .map(|count| all.by_ref().take(*count).collect())
            .collect())
    }

    fn gather_visitors(
        &self,
        x: &Tensor<D>,
        visitors: &Visitors<D>,
        expert: usize,
    ) -> Result<Tensor<D>> {
        let (rows, _, count) = visitors.of(expert);
        self.gather("gather_visitors", x, rows, count)
    }

    fn weigh_visitors(
        &self,
        x: &mut Tensor<D>,
        visitors: &Visitors<D>,
        expert: usize,
    ) -> Result<()> {
        let (_, weights, _) = visitors.of(expert);
        self.scale_by(x, weights)
    }

    fn add_visitors(
        &self,
        out: &mut Tensor<D>,
        x: &Tensor<D>,
        visitors: &Visitors<D>,
        expert: usize,
        weighted: bool,
    ) -> Result<()> {
        debug_assert_eq!(out.dtype, x.dtype);
        let (rows, weights, _) = visitors.of(expert);
        self.launch(
            &format!("add_visitors_{}", suffix(x.dtype)),
            [int(x.rows)?.cast_unsigned(), 1],
            threads(x.columns),
            &[
                out.buffer.address().into(),
                x.buffer.address().into(),
                rows.into(),
                weighted.then_some(weights).into(),
                int(x.rows)?.into(),
                int(x.columns)?.into(),
            ],
        )
    }
}
