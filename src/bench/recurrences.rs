//! Recurrences over tokens, at the sizes that they have in a model.
#![forbid(unsafe_code)]

use std::hint::black_box;

use super::{Bench, Measurement, Work, clock::time, noise};
use crate::{
    backend::{Backend, DeltaRequest},
    error::Result,
};

/// The gated delta rule, in turns with one decay a head and one a key channel.
pub(super) fn delta_rule<B: Backend>(
    bench: &Bench<'_, B>,
    heads: usize,
    head_dim: usize,
) -> Result<[Measurement; 2]> {
    let backend = bench.backend;
    let columns = heads * head_dim;
    // Not the same values three times, as with attention.
    let mut values = noise(4 * bench.rows() * columns);
    let mut next = || {
        let own = values.split_off(values.len() - bench.rows() * columns);
        bench.part(columns, own)
    };
    let (q, k, v, channels) = (next()?, next()?, next()?, next()?);
    let single = bench.part(heads, noise(bench.rows() * heads))?;
    let a_log = backend.vector(noise(heads))?;
    let dt_bias = backend.vector(noise(columns))?;
    let rows = bench.sequences();
    let run = |decay, per_channel| {
        let request = DeltaRequest {
            key_heads: heads,
            heads,
            key_dim: head_dim,
            value_dim: head_dim,
            a_log: &a_log,
            dt_bias: &dt_bias,
            per_channel,
            beta_scale: 1.0,
        };
        let q = black_box(&q);
        let out = backend.delta_rule(q, &k, &v, decay, &single, &rows, &request)?;
        drop(black_box(out));
        Ok(())
    };
    let [one, each] = time(
        backend,
        bench.effort,
        [&mut || run(&single, false), &mut || run(&channels, true)],
    )?;
    let measurement = |name, times| {
        let sizes = vec![
            ("sequences", bench.sequences),
            ("tokens", bench.tokens),
            ("heads", heads),
            ("head_dim", head_dim),
        ];
        // What the definition multiplies and adds: the state is read, changed and read again.
        let work = Work::Flops(6 * bench.rows() * columns * head_dim);
        let dtype = backend.precision().arithmetic();
        bench.measurement(name, dtype, sizes, work, times)
    };
    Ok([
        measurement("delta_rule", one),
        measurement("delta_rule_per_channel", each),
    ])
}
