//! Hidden states of one sequence after one layer: where they point, and how many directions they have.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::{Request, eigenvalues, heads::Received};

/// What is kept of a sequence's hidden states.
#[derive(Debug, Clone)]
pub(super) struct States {
    /// Of each token.
    norms: Vec<f64>,
    /// Of each token's state with the first one's.
    cosines: Vec<f64>,
    /// Largest magnitude of the first token.
    pub(super) spike: f64,
    entropy: f64,
    anisotropy: f64,
    /// Of the most directions that there could be.
    rank: usize,
}

/// How far the hidden states of a layer are from spreading over all directions (arXiv 2510.06477), means
/// over sequences. With the singular values s_j of the states X `[T, D]` and `p_j = s_j^2 / |X|_F^2`:
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compression {
    /// `-sum p_j ln p_j`
    pub matrix_entropy: f64,
    /// The same over the logarithm of min(T, D); 0 for a single token.
    pub matrix_entropy_normalised: f64,
    /// The largest `p_j`.
    pub anisotropy: f64,
    /// Norm of the first token's state over the mean norm of all.
    pub first_norm_ratio: f64,
}

/// A token that points where the first one does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SecondarySink {
    /// Index of the sequence.
    pub sequence: usize,
    /// Token position in it.
    pub position: usize,
    /// Its text.
    pub token: String,
    /// The first layer after which it does.
    pub first_layer: usize,
    /// The last one.
    pub last_layer: usize,
    /// In how many layers.
    pub layers: usize,
    /// The norm of its state over the first token's, mean over those layers.
    pub norm_ratio: f64,
    /// What it receives of a head, mean over the heads of those layers that have attention; null if none
    /// has.
    pub mass: Option<f64>,
}

impl States {
    /// Of `[tokens, columns]` values.
    pub(super) fn of(values: &[f32], columns: usize) -> Self {
        let rows: Vec<&[f32]> = values.chunks_exact(columns.max(1)).collect();
        let tokens = rows.len();
        let mut gram = vec![0.0; tokens * tokens];
        gram.par_chunks_mut(tokens.max(1))
            .enumerate()
            .for_each(|(row, products)| {
                for (product, other) in products.iter_mut().zip(&rows[..=row]) {
                    *product = dot(rows[row], other);
                }
            });
        let norms: Vec<f64> = (0..tokens)
            .map(|row| gram[row * tokens + row].sqrt())
            .collect();
        let first = norms.first().copied().unwrap_or(0.0);
        let cosine = |row: usize| gram[row * tokens] / (first * norms[row]);
        let cosines = (0..tokens).map(cosine).collect();
        let total: f64 = norms.iter().map(|norm| norm * norm).sum();
        let shares = eigenvalues::of(gram, tokens)
            .into_iter()
            .map(|value| value / total);
        let shares: Vec<f64> = shares.filter(|share| *share > 0.0).collect();
        let spike = rows.first().map_or(0.0, |row| {
            row.iter().map(|value| value.abs()).fold(0.0, f32::max)
        });
        Self {
            norms,
            cosines,
            spike: f64::from(spike),
            entropy: -shares.iter().map(|share| share * share.ln()).sum::<f64>(),
            anisotropy: shares.iter().copied().fold(0.0, f64::max),
            rank: tokens.min(columns),
        }
    }
}

/// In float64, in lanes.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (a, b) = (a.chunks(LANES), b.chunks(LANES));
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(*a) * f64::from(*b);
        }
    }
    sums.iter().sum()
}

impl Compression {
    pub(super) fn mean(states: &[&States]) -> Self {
        let mean = |of: &dyn Fn(&States) -> f64| {
            states.iter().map(|state| of(state)).sum::<f64>() / states.len().max(1) as f64
        };
        Self {
            matrix_entropy: mean(&|state| state.entropy),
            matrix_entropy_normalised: mean(&|state| match state.rank {
                0 | 1 => 0.0,
                rank => state.entropy / (rank as f64).ln(),
            }),
            anisotropy: mean(&|state| state.anisotropy),
            first_norm_ratio: mean(&|state| {
                let all: f64 = state.norms.iter().sum();
                let first = state.norms.first().copied().unwrap_or(0.0);
                first * state.norms.len() as f64 / all
            }),
        }
    }
}

/// The secondary sinks, by sequence, then position.
pub(super) fn secondary(
    states: &BTreeMap<(usize, usize), States>,
    received: &BTreeMap<(usize, usize), Received>,
    request: &Request,
    token: &impl Fn(usize, usize) -> String,
) -> Vec<SecondarySink> {
    // By sequence and position, the layers.
    let mut places: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for ((layer, sequence), state) in states {
        for (position, cosine) in state.cosines.iter().enumerate().skip(1) {
            if cosine.abs() > request.cosine {
                places
                    .entry((*sequence, position))
                    .or_default()
                    .push(*layer);
            }
        }
    }
    let lasting = places
        .into_iter()
        .filter(|(_, layers)| layers.len() > request.more_than_layers);
    lasting
        .map(|((sequence, position), layers)| {
            let ratio = |layer: &usize| {
                let norms = &states[&(*layer, sequence)].norms;
                norms[position] / norms[0]
            };
            let masses: Vec<f64> = layers
                .iter()
                .filter_map(|layer| received.get(&(*layer, sequence)))
                .map(|received| received.of_token(position))
                .collect();
            SecondarySink {
                sequence,
                position,
                token: token(sequence, position),
                first_layer: layers[0],
                last_layer: layers[layers.len() - 1],
                layers: layers.len(),
                norm_ratio: layers.iter().map(ratio).sum::<f64>() / layers.len() as f64,
                mass: (!masses.is_empty())
                    .then(|| masses.iter().sum::<f64>() / masses.len() as f64),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions() {
        // Orthogonal states of equal norm spread over all directions.
        let spread = States::of(&[3.0, 0.0, 0.0, -3.0], 2);
        let found = Compression::mean(&[&spread]);
        assert!((found.matrix_entropy_normalised - 1.0).abs() < 1e-12);
        assert!((found.anisotropy - 0.5).abs() < 1e-12);
        assert_eq!(found.first_norm_ratio, 1.0);
        // States along one line have one.
        let line = States::of(&[9.0, 0.0, -3.0, 0.0], 2);
        let found = Compression::mean(&[&line]);
        assert!(found.matrix_entropy.abs() < 1e-9);
        assert!((found.anisotropy - 1.0).abs() < 1e-12);
        assert_eq!(found.first_norm_ratio, 1.5);
        assert_eq!(line.cosines, [1.0, -1.0]);
        assert_eq!(line.spike, 9.0);
    }

    #[test]
    fn secondary_sinks_last() {
        let along = States::of(&[9.0, 0.0, -3.0, 0.0], 2);
        let across = States::of(&[9.0, 0.0, 0.0, 1.0], 2);
        let mut states = BTreeMap::new();
        for layer in 0..8 {
            let state = if (2..7).contains(&layer) {
                &along
            } else {
                &across
            };
            states.insert((layer, 0), state.clone());
        }
        let request = Request {
            epsilon: 0.3,
            cosine: 0.9,
            more_than_layers: 4,
            closed_below: 0.1,
        };
        let token = |sequence: usize, position: usize| format!("{sequence} {position}");
        let found = secondary(&states, &BTreeMap::new(), &request, &token);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].first_layer, found[0].last_layer, found[0].layers),
            (2, 6, 5)
        );
        assert!((found[0].norm_ratio - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(found[0].mass, None);
        let request = Request {
            more_than_layers: 5,
            ..request
        };
        assert!(secondary(&states, &BTreeMap::new(), &request, &token).is_empty());
    }
}
