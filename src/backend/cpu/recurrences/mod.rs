//! Recurrences over tokens: sequences, and heads or columns of each, on all cores.
#![forbid(unsafe_code)]

mod columns;
mod delta;
mod selective_scan;
mod state_space;

use super::{Cpu, Tensor};
use crate::{
    backend::{DeltaRequest, Recurrences, Rows, SelectiveScanRequest, StateSpaceRequest},
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

    fn state_space(
        &self,
        x: &Tensor,
        b: &Tensor,
        c: &Tensor,
        dt: &Tensor,
        sequences: &[Rows],
        request: &StateSpaceRequest<'_, Vec<f32>>,
    ) -> Result<Tensor> {
        let mut out = self.tensor(x.rows, x.columns);
        state_space::run(
            &state_space::Input { x, b, c, dt },
            sequences,
            request,
            &mut out,
        );
        Ok(out)
    }

    fn selective_scan(
        &self,
        x: &Tensor,
        dt: &Tensor,
        b: &Tensor,
        c: &Tensor,
        sequences: &[Rows],
        request: &SelectiveScanRequest<'_, Vec<f32>>,
    ) -> Result<Tensor> {
        let mut out = self.tensor(x.rows, x.columns);
        selective_scan::run(
            &selective_scan::Input { x, dt, b, c },
            sequences,
            request,
            &mut out,
        );
        Ok(out)
    }
}
