//! Recurrences over tokens, a sequence's head at a time on all cores.
#![forbid(unsafe_code)]

mod delta;

use super::{Cpu, Tensor};
use crate::{
    backend::{DeltaRequest, Recurrences, Rows},
    error::Result,
};

impl Recurrences for Cpu {
    fn delta_rule(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        decay: &Tensor,
        beta: &Tensor,
        sequences: &[Rows],
        request: &DeltaRequest<'_, Vec<f32>>,
    ) -> Result<Tensor> {
        let mut out = self.tensor(v.rows, v.columns);
        delta::run(&mut out, [q, k, v, decay, beta], sequences, request);
        Ok(out)
    }
}
