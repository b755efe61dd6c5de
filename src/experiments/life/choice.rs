//! Which values of the residual stream are followed.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::{
    backend::Statistics,
    engine::Session,
    error::{Error, Result},
};

/// Narrows the massive activations, or names values that need not be massive: all that is empty narrows
/// nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// Token positions.
    pub positions: Vec<usize>,
    /// Texts of tokens, at whatever position; space around them does not count.
    pub tokens: Vec<String>,
    /// Indices in the hidden state. With positions or tokens beside them, these places are followed whether
    /// massive or not.
    pub dimensions: Vec<usize>,
}

/// A value that is followed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Followed {
    pub(super) sequence: usize,
    pub(super) position: usize,
    pub(super) dimension: usize,
    /// Its largest magnitude where it is massive; 0 of one that is followed whatever it is.
    largest: f32,
}

impl Choice {
    /// Refuses places that are not there.
    pub(super) fn check(&self, session: &Session, sequences: &[Vec<u32>]) -> Result<()> {
        let spec = &session.model().spec;
        if spec.streams() > 1 {
            return Err(Error::usage(
                "life",
                "the layers of this model mix several residual streams, to none of which parts are added as they are",
            )
            .remedy("`massact tokens-analysis` says where its massive activations are, and `massact capture --sites layer_output,attention_output,mlp_output` has the parts"));
        }
        let width = spec.hidden_size;
        if let Some(dimension) = self.dimensions.iter().find(|index| **index >= width) {
            return Err(Error::usage(
                format!("--dimension {dimension}"),
                format!("the hidden state has {width} dimensions"),
            )
            .remedy(format!("use numbers from 0 to {}", width - 1)));
        }
        let longest = sequences.iter().map(Vec::len).max().unwrap_or(0);
        if let Some(position) = self.positions.iter().find(|position| **position >= longest) {
            return Err(Error::usage(
                format!("--position {position}"),
                format!("the longest sequence has {longest} tokens"),
            )
            .remedy(format!(
                "use numbers from 0 to {}",
                longest.saturating_sub(1)
            )));
        }
        for token in &self.tokens {
            let mut ids = sequences.iter().flatten();
            if !ids.any(|id| same(&session.token(*id), token)) {
                return Err(Error::usage(
                    format!("--token {token:?}"),
                    "no token of the sequences has this text",
                )
                .remedy("choose one of the tokens that `massact life` lists, or a --position"));
            }
        }
        Ok(())
    }

    /// Whether it names positions of a sequence, by number or text.
    fn names_positions(&self) -> bool {
        !self.positions.is_empty() || !self.tokens.is_empty()
    }

    fn holds_position(&self, session: &Session, ids: &[u32], position: usize) -> bool {
        !self.names_positions()
            || self.positions.contains(&position)
            || self
                .tokens
                .iter()
                .any(|token| same(&session.token(ids[position]), token))
    }

    /// The values themselves, where positions and dimensions name them.
    pub(super) fn exact(&self, session: &Session, sequences: &[Vec<u32>]) -> Option<Vec<Followed>> {
        if !self.names_positions() || self.dimensions.is_empty() {
            return None;
        }
        let mut followed = Vec::new();
        for (sequence, ids) in sequences.iter().enumerate() {
            for position in 0..ids.len() {
                if self.holds_position(session, ids, position) {
                    followed.extend(self.dimensions.iter().map(|&dimension| Followed {
                        sequence,
                        position,
                        dimension,
                        largest: 0.0,
                    }));
                }
            }
        }
        Some(followed)
    }

    /// The massive activations that it leaves, the largest first; `statistics[layer][sequence]`.
    pub(super) fn among(
        &self,
        session: &Session,
        sequences: &[Vec<u32>],
        statistics: &[Vec<Statistics>],
    ) -> Vec<Followed> {
        let mut largest: BTreeMap<(usize, usize, usize), f32> = BTreeMap::new();
        for layer in statistics {
            for (sequence, found) in layer.iter().enumerate() {
                for entry in &found.massive {
                    let place = (sequence, entry.position, entry.dimension);
                    let value = largest.entry(place).or_default();
                    *value = value.max(entry.value.abs());
                }
            }
        }
        let mut followed: Vec<Followed> = largest
            .into_iter()
            .map(|((sequence, position, dimension), largest)| Followed {
                sequence,
                position,
                dimension,
                largest,
            })
            .filter(|value| {
                let ids = &sequences[value.sequence];
                (self.dimensions.is_empty() || self.dimensions.contains(&value.dimension))
                    && self.holds_position(session, ids, value.position)
            })
            .collect();
        followed.sort_by(|a, b| b.largest.total_cmp(&a.largest));
        followed
    }
}

/// Whether a token's text is the one that is asked for.
fn same(token: &str, asked: &str) -> bool {
    token == asked || token.trim() == asked.trim() && !asked.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn space_around_a_token_does_not_count() {
        assert!(same(" the", "the") && same("\n", "\n") && same(".", " ."));
        assert!(!same("\n", " ") && !same("then", "the"));
    }
}
