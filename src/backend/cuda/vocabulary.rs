//! The two ends of a model: rows of an embedding table (`kernels/embedding.cu`), and next-token
//! likelihood without keeping the logits (`kernels/token_nll.cu`).
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{
    Cuda, Tensor,
    constants::TOKEN_NLL_THREADS,
    device::Device,
    tensors::{int, suffix, threads},
    vectors::Vector,
};
use crate::{
    backend::{HeadRequest, Products, Vocabulary},
    error::Result,
    interrupt,
    model::{
        dtype::DType,
        weights::{AssembledMatrix, WeightMatrix},
    },
};

/// Logits on the device at a time: 256 MiB.
const LOGITS: usize = 64 << 20;

impl<D: Device> Vocabulary for Cuda<D> {
    /// Only the rows that occur go to the device, each once and as stored: a text has far fewer
    /// different tokens than tokens.
    fn embed(
        &self,
        table: &WeightMatrix<'_>,
        width: usize,
        rows: &[usize],
        factor: f32,
    ) -> Result<Tensor<D>> {
        let mut listed: BTreeMap<usize, u32> = rows.iter().map(|row| (*row, 0)).collect();
        let dtype = table.dtype();
        let mut bytes = Vec::with_capacity(listed.len() * width * dtype.size());
        let mut decoded = vec![0.0; width];
        for (place, (row, listed)) in listed.iter_mut().enumerate() {
            *listed = int(place)?.cast_unsigned();
            match table {
                WeightMatrix::Stored(view) if view.in_stride == 1 => {
                    bytes.extend_from_slice(view.outputs(*row, row + 1).elements.bytes);
                }
                _ => {
                    table.write_output(*row, &mut decoded);
                    let decoded = AssembledMatrix::stored_as(dtype, &decoded, 1, width);
                    bytes.extend_from_slice(decoded.view().elements.bytes);
                }
            }
        }
        let indices: Vec<u32> = rows.iter().map(|row| listed[row]).collect();
        let (stored, indices) = (self.stored(&bytes)?, self.list(&indices)?);
        let out = self.tensor(rows.len(), width, self.precision.residual())?;
        self.launch(
            &format!("embed_{}_{}", suffix(dtype), suffix(out.dtype)),
            [int(rows.len())?.cast_unsigned(), 1],
            threads(width),
            &[
                stored.address().into(),
                out.buffer.address().into(),
                indices.address().into(),
                int(rows.len())?.into(),
                int(width)?.into(),
                factor.into(),
            ],
        )?;
        Ok(out)
    }

    fn start_token_nll(
        &self,
        x: &Tensor<D>,
        head: &HeadRequest<'_, Vector<D>>,
        targets: &[Option<u32>],
    ) -> Result<Vector<D>> {
        let vocabulary = head.weight.out_features();
        let piece = (LOGITS / x.rows.max(1)).clamp(256, self.vocabulary_piece);
        let codes: Vec<i32> = targets
            .iter()
            .map(|target| target.map_or(Ok(-1), |token| int(token as usize)))
            .collect::<Result<_>>()?;
        let codes = self.list(&codes)?;
        let state = self.vector_of(&vec![0f32; 3 * x.rows])?;
        let bring = |first: usize| {
            let last = (first + piece).min(vocabulary);
            self.matrix(head.weight.outputs(first, last))
        };
        let mut coming = Some(bring(0)?);
        for first in (0..vocabulary).step_by(piece) {
            interrupt::check()?;
            let last = (first + piece).min(vocabulary);
            let Some(weight) = coming.take() else { break };
            if last < vocabulary {
                // While this piece computes.
                coming = Some(bring(last)?);
            }
            let bias = head
                .bias
                .as_ref()
                .map(|bias| bias.address().offset(first * size_of::<f32>()));
            let logits = self.product(x, &weight, bias, DType::Float32)?;
            self.launch(
                "token_nll",
                [int(x.rows)?.cast_unsigned(), 1],
                TOKEN_NLL_THREADS as u32,
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
        Ok(state)
    }

    fn read_token_nll(&self, started: &Vector<D>, targets: &[Option<u32>]) -> Result<Vec<f32>> {
        let state = started.read(self)?;
        let rows = state.chunks_exact(3).zip(targets);
        Ok(rows
            .map(|(row, target)| match target {
                Some(_) => row[0] + row[1].ln() - row[2],
                None => 0.0,
            })
            .collect())
    }
}
