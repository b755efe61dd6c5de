//! Recurrences over tokens (`kernels/delta_rule.cu`, `kernels/state_space.cu`,
//! `kernels/selective_scan.cu`).
#![forbid(unsafe_code)]

use super::{
    Cuda, Tensor,
    attention::tiles::Tiles,
    constants::{
        RECURRENCE_COLUMNS, RECURRENCE_KERNELS, RECURRENCE_THREADS, SCAN_LONG, SCAN_NUMBERS,
        SCAN_SHORT, SCAN_THREADS,
    },
    device::Device,
    tensors::{int, suffix},
    vectors::Vector,
};
use crate::{
    backend::{DeltaRequest, Recurrences, Rows, SelectiveScanRequest, StateSpaceRequest},
    error::{Error, Result},
};

impl<D: Device> Recurrences for Cuda<D> {
    fn state_space(
        &self,
        x: &Tensor<D>,
        b: &Tensor<D>,
        c: &Tensor<D>,
        dt: &Tensor<D>,
        sequences: &[Rows],
        request: &StateSpaceRequest<'_, Vector<D>>,
    ) -> Result<Tensor<D>> {
        let width = narrowest("state space", &RECURRENCE_KERNELS.concat(), request.state)?;
        let out = self.tensor(x.rows, x.columns, x.dtype)?;
        let slices = request.head_dim.div_ceil(RECURRENCE_COLUMNS);
        let whole = Tiles::new(self, sequences, usize::MAX, |_, length| length)?;
        self.launch(
            &format!("state_space_{width}_{}", suffix(x.dtype)),
            [(request.heads * slices) as u32, whole.count],
            RECURRENCE_THREADS as u32,
            &[
                x.buffer.address().into(),
                b.buffer.address().into(),
                c.buffer.address().into(),
                dt.buffer.address().into(),
                request.a_log.address().into(),
                request.dt_bias.address().into(),
                request.d.address().into(),
                out.buffer.address().into(),
                whole.buffer.address().into(),
                int(request.heads)?.into(),
                int(request.head_dim)?.into(),
                int(request.groups)?.into(),
                int(request.state)?.into(),
                request.dt_limits.0.into(),
                request.dt_limits.1.into(),
            ],
        )?;
        Ok(out)
    }

    fn selective_scan(
        &self,
        x: &Tensor<D>,
        dt: &Tensor<D>,
        b: &Tensor<D>,
        c: &Tensor<D>,
        sequences: &[Rows],
        request: &SelectiveScanRequest<'_, Vector<D>>,
    ) -> Result<Tensor<D>> {
        let width = narrowest("selective scan", &[SCAN_SHORT, SCAN_LONG], request.state)?;
        let out = self.tensor(x.rows, x.columns, x.dtype)?;
        let channels = SCAN_THREADS * SCAN_NUMBERS / width;
        let whole = Tiles::new(self, sequences, usize::MAX, |_, length| length)?;
        self.launch(
            &format!("selective_scan_{width}_{}", suffix(x.dtype)),
            [x.columns.div_ceil(channels) as u32, whole.count],
            SCAN_THREADS as u32,
            &[
                x.buffer.address().into(),
                dt.buffer.address().into(),
                b.buffer.address().into(),
                c.buffer.address().into(),
                request.a_log.address().into(),
                request.dt_bias.address().into(),
                request.d.address().into(),
                out.buffer.address().into(),
                whole.buffer.address().into(),
                int(x.columns)?.into(),
                int(request.state)?.into(),
            ],
        )?;
        Ok(out)
    }

    fn delta_rule(
        &self,
        q: &Tensor<D>,
        k: &Tensor<D>,
        v: &Tensor<D>,
        decay: &Tensor<D>,
        beta: &Tensor<D>,
        sequences: &[Rows],
        request: &DeltaRequest<'_, Vector<D>>,
    ) -> Result<Tensor<D>> {
        let widths = RECURRENCE_KERNELS.concat();
        let width = narrowest("gated delta rule", &widths, request.key_dim)?;
        let out = self.tensor(v.rows, v.columns, v.dtype)?;
        let slices = request.value_dim.div_ceil(RECURRENCE_COLUMNS);
        let channels = if request.per_channel { "_channels" } else { "" };
        let whole = Tiles::new(self, sequences, usize::MAX, |_, length| length)?;
        self.launch(
            &format!("delta_rule{channels}_{width}_{}", suffix(v.dtype)),
            [(request.heads * slices) as u32, whole.count],
            RECURRENCE_THREADS as u32,
            &[
                q.buffer.address().into(),
                k.buffer.address().into(),
                v.buffer.address().into(),
                decay.buffer.address().into(),
                beta.buffer.address().into(),
                request.a_log.address().into(),
                request.dt_bias.address().into(),
                out.buffer.address().into(),
                whole.buffer.address().into(),
                int(request.key_heads)?.into(),
                int(request.heads)?.into(),
                int(request.key_dim)?.into(),
                int(request.value_dim)?.into(),
                request.beta_scale.into(),
            ],
        )?;
        Ok(out)
    }
}

/// The narrowest kernel, of these widths, whose states have room for `rows`.
fn narrowest(operation: &str, widths: &[usize], rows: usize) -> Result<usize> {
    let width = widths.iter().copied().find(|width| rows <= *width);
    width.ok_or_else(|| {
        let most = widths.iter().max().copied().unwrap_or(0);
        let reason = format!(
            "states of {rows} numbers are longer than the {most} that the CUDA kernels hold"
        );
        Error::new(operation, reason).remedy("use --device cpu for this model")
    })
}
