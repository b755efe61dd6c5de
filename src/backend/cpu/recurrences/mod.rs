//! Recurrences over tokens, a sequence's head at a time on all cores.
#![forbid(unsafe_code)]

mod delta;

use super::{Cpu, Tensor};
use crate::{
    backend::{DeltaRequest, Recurrences, Rows},
    error::Result,
    interrupt,
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
        let inputs = delta::Inputs {
            q,
            k,
            v,
            decay,
            beta,
            request,
        };
        delta::run(&mut out, &inputs, sequences);
        interrupt::check()?;
        Ok(out)
    }
}
