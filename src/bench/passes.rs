//! Whole passes of a model, without and with the statistics of existence-validation.
#![forbid(unsafe_code)]

use super::{Bench, Measurement, STATISTICS, Work, clock::time};
use crate::{
    backend::Backend,
    engine::{self, Discard, Plan, Site},
    error::{Error, Result},
    model::{Model, spec::DecoderSpec},
    progress::Progress,
};

/// Times, in turns, a pass through all layers that observes nothing and one with the statistics of
/// every layer's output.
pub(super) fn passes<B: Backend>(bench: &Bench<'_, B>, model: &Model) -> Result<[Measurement; 2]> {
    let spec = &model.spec;
    bench.check_positions(spec)?;
    let ids = token_ids(bench.sequences, bench.tokens, spec.vocab_size);
    let run = |plan: &Plan| {
        let silent = Progress::silent();
        engine::run(bench.backend, model, &ids, plan, &mut Discard, silent).map(drop)
    };
    let bare = Plan {
        all_layers: true,
        ..Plan::default()
    };
    let observed = Plan::magnitudes(Site::LayerOutput, STATISTICS);
    let [bare, observed] = time(
        bench.backend,
        bench.effort,
        [&mut || run(&bare), &mut || run(&observed)],
    )?;
    let measurement = |name, times| {
        let sizes = vec![
            ("sequences", bench.sequences),
            ("tokens", bench.tokens),
            ("layers", spec.layers.len()),
            ("hidden", spec.hidden_size),
        ];
        let dtype = bench.backend.precision().arithmetic();
        bench.measurement(name, dtype, sizes, Work::Tokens(bench.rows()), times)
    };
    Ok([
        measurement("forward", bare),
        measurement("forward_with_statistics", observed),
    ])
}

impl<B: Backend> Bench<'_, B> {
    /// Refuses more tokens than the model has positions for.
    pub(super) fn check_positions(&self, spec: &DecoderSpec) -> Result<()> {
        match spec.longest() {
            Some((positions, bound)) if self.tokens > positions => {
                Err(Error::usage(format!("--tokens {}", self.tokens), bound)
                    .remedy(format!("use --tokens {positions} or less")))
            }
            _ => Ok(()),
        }
    }
}

/// Ids all over the vocabulary; the sequences differ.
pub(super) fn token_ids(sequences: usize, tokens: usize, vocabulary: usize) -> Vec<Vec<u32>> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // The upper bits are the random ones.
        ((u64::from(state) * vocabulary as u64) >> 32) as u32
    };
    (0..sequences)
        .map(|_| (0..tokens).map(|_| next()).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::token_ids;

    #[test]
    fn ids_are_in_the_vocabulary_and_all_over_it() {
        let ids = token_ids(3, 500, 50);
        assert!(ids.iter().all(|ids| ids.len() == 500));
        assert_ne!(ids[0], ids[1]);
        for wanted in 0..50 {
            assert!(ids.concat().contains(&wanted), "{wanted}");
        }
        assert!(ids.concat().iter().all(|id| *id < 50));
    }
}
