//! The learned key and value of attention KV bias, from the shapes they are stored in.
#![forbid(unsafe_code)]

use super::{Model, spec::Attention};
use crate::error::{Error, Result};

impl Model {
    /// The extra key `[heads * head_dim]` and value `[heads * value_dim]` of the query heads, where
    /// the attention has them.
    ///
    /// Stored are vectors of the key/value heads, which the query heads of a group then share as
    /// they share their keys, or vectors of the query heads.
    pub fn kv_bias(&self, attention: &Attention) -> Result<Option<[Vec<f32>; 2]>> {
        let Some(bias) = &attention.kv_bias else {
            return Ok(None);
        };
        Ok(Some([
            self.head_vectors(&bias.k, attention, attention.head_dim)?,
            self.head_vectors(&bias.v, attention, attention.value_dim)?,
        ]))
    }

    /// A vector of `width` values for every query head: the stored axes are the heads, the width,
    /// and any of length one before the last.
    fn head_vectors(&self, name: &str, attention: &Attention, width: usize) -> Result<Vec<f32>> {
        let (heads, kv_heads) = (attention.heads, attention.kv_heads);
        let tensor = self.weights.get(name)?;
        let stored = match tensor.shape.split_last() {
            Some((last, outer)) if *last == width && !outer.is_empty() => {
                let longer: Vec<usize> = outer.iter().copied().filter(|n| *n != 1).collect();
                match longer.as_slice() {
                    [] => 1,
                    [heads] => *heads,
                    _ => 0,
                }
            }
            _ => 0,
        };
        if stored != heads && stored != kv_heads {
            return Err(Error::new(
                format!("tensor `{name}`"),
                format!(
                    "it has shape {:?}, expected vectors of {width} values of the {heads} query heads or the {kv_heads} key/value heads, as [heads, 1, {width}]",
                    tensor.shape
                ),
            )
            .remedy("take weights and config.json from one model: these do not fit together"));
        }
        let values = tensor.elements.to_f32();
        if values.iter().any(|value| !value.is_finite()) {
            // An infinite key could have no weight in any softmax, and so not be noticed.
            return Err(Error::new(
                format!("tensor `{name}`"),
                "it has values that are infinite or not a number",
            )
            .remedy("the checkpoint is damaged or diverged in training; use another one"));
        }
        let vectors = values.chunks_exact(width);
        Ok(vectors
            .flat_map(|vector| std::iter::repeat_n(vector, heads / stored))
            .flatten()
            .copied()
            .collect())
    }
}
