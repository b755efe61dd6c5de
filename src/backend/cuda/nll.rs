//! Next-token likelihood without keeping the logits (`kernels/token_nll.cu`).
#![forbid(unsafe_code)]

use super::{Cuda, Tensor, device::Device, memory::Buffer, tensor::int};
use crate::{backend::HeadRequest, error::Result, interrupt, model::dtype::DType};

/// Logits on the device at a time: 256 MiB.
const LOGITS: usize = 64 << 20;

impl<D: Device> Cuda<D> {
    pub(super) fn negative_log_likelihood(
        &self,
        x: &Tensor<D>,
        head: &HeadRequest<'_, Buffer<D>>,
        targets: &[Option<u32>],
    ) -> Result<Vec<f32>> {
        let vocabulary = head.weight.out_features;
        let piece = (LOGITS / x.rows.max(1)).clamp(256, self.vocabulary_piece);
        let codes: Vec<i32> = targets
            .iter()
            .map(|target| target.map_or(Ok(-1), |token| int(token as usize)))
            .collect::<Result<_>>()?;
        let codes = self.list(&codes)?;
        let state = self.list(&vec![0f32; 3 * x.rows])?;
        for first in (0..vocabulary).step_by(piece) {
            interrupt::check()?;
            let last = (first + piece).min(vocabulary);
            let weight = self.resident_matrix(head.weight.outputs(first, last))?;
            let bias = head
                .bias
                .as_ref()
                .map(|bias| bias.address().offset(first * size_of::<f32>()));
            let logits = self.product(x, &weight, bias, DType::Float32)?;
            self.launch(
                "token_nll",
                [int(x.rows)?.cast_unsigned(), 1],
                256,
                &[
                    logits.buffer.address().into(),
                    codes.address().into(),
                    state.address().into(),
                    int(x.rows)?.into(),
                    int(last - first)?.into(),
                    int(first)?.into(),
                    head.scale.into(),
                    head.soft_cap.unwrap_or(0.0).into(),
                ],
            )?;
        }
        let state: Vec<f32> = self.fetch(&state, 3 * x.rows)?;
        let rows = state.chunks_exact(3).zip(targets);
        Ok(rows
            .map(|(row, target)| match target {
                Some(_) => row[0] + row[1].ln() - row[2],
                None => 0.0,
            })
            .collect())
    }
}
