//! Keeping a walk within the memory there is.
#![forbid(unsafe_code)]

use crate::{
    backend::Backend,
    engine::Footprint,
    error::{Error, Result},
    model::spec::DecoderSpec,
    progress::Progress,
};

/// How much memory the walks may take, beside the mapped weights.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Bytes.
    pub budget: u64,
    /// Where the estimates are told.
    pub progress: Progress,
}

impl Memory {
    /// Tells what a walk needs and returns how many of its sequences of `tokens` tokens to run at
    /// once; refuses what cannot fit.
    pub(super) fn part(
        &self,
        footprint: &Footprint,
        sequences: usize,
        tokens: usize,
        variants: usize,
    ) -> Result<usize> {
        let windows = format!("{} of {tokens} tokens", count(sequences, "window"));
        let with = variants_of_each(variants);
        let Some(part) = footprint.part(sequences, self.budget) else {
            return Err(self.refusal(footprint, tokens, variants));
        };
        let part = part.min(sequences.max(1));
        let walks = sequences.div_ceil(part);
        let reads = match walks {
            1 => "one walk through the model".to_owned(),
            walks => format!("{walks} walks through the model, {part} windows each"),
        };
        self.progress.notice(&format!(
            "{windows}{with}: about {} of memory, {reads}",
            human(footprint.total(part))
        ));
        Ok(part)
    }

    /// Refuses, before any text is read, windows of which not even one could run.
    pub fn check<B: Backend>(
        &self,
        backend: &B,
        spec: &DecoderSpec,
        tokens: usize,
        variants: usize,
    ) -> Result<()> {
        let footprint = Footprint::of(backend, spec, tokens, variants);
        match footprint.part(1, self.budget) {
            Some(_) => Ok(()),
            None => Err(self.refusal(&footprint, tokens, variants)),
        }
    }

    fn refusal(&self, footprint: &Footprint, tokens: usize, variants: usize) -> Error {
        let with = variants_of_each(variants);
        Error::new(
            format!("memory for windows of {tokens} tokens{with}"),
            format!(
                "at least {} are needed and {} may be used",
                human(footprint.total(1)),
                human(self.budget)
            ),
        )
        .remedy("raise --memory-budget or lower --context-length")
    }
}

fn variants_of_each(variants: usize) -> String {
    match variants {
        0 => String::new(),
        variants => format!(" and {} of each", count(variants, "variant")),
    }
}

fn count(number: usize, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// `1.2 GB`; decimal units.
pub fn human(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes < 1e6 {
        format!("{:.0} kB", (bytes / 1e3).ceil())
    } else if bytes < 1e9 {
        format!("{:.1} MB", bytes / 1e6)
    } else {
        format!("{:.1} GB", bytes / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 kB"),
            (1, "1 kB"),
            (1_500_000, "1.5 MB"),
            (5_368_709_120, "5.4 GB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn refuses_with_a_remedy() {
        let memory = Memory {
            budget: 1_000_000,
            progress: Progress::silent(),
        };
        let footprint = Footprint {
            fixed: 900_000,
            streams_of_batch: 200_000,
            batch: 1,
        };
        let error = memory.part(&footprint, 80, 4096, 2).expect_err("too large");
        assert_eq!(
            error.to_string(),
            "memory for windows of 4096 tokens and 2 variants of each: at least 1.1 MB are needed \
             and 1.0 MB may be used; raise --memory-budget or lower --context-length"
        );
    }
}
