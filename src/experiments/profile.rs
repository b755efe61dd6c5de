//! profile: the distribution of every tensor of the forward pass, in one walk.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::Serialize;

use super::Finding;
use crate::{
    backend::{
        BINS_PER_OCTAVE, CentralMoments, Entry, HISTOGRAM_BINS, LOWEST_EXPONENT, Profile,
        ProfileRequest, QUANTILES,
    },
    engine::{Discard, Plan, Session, Site},
    error::Result,
};

/// Value of the JSON's `schema` field.
pub const SCHEMA: &str = "massact/profile/1";

/// The largest number of float16.
const FLOAT16_MAX: f64 = 65504.0;
/// A dimension is a residual sink if it is large on more than this share of the tokens.
const MOST: f64 = 0.5;

/// What to look at.
#[derive(Debug, Clone)]
pub struct Request {
    /// Sites. Those that the model lacks are left out.
    pub sites: Vec<Site>,
    /// Entries of largest magnitude that are listed of each site and layer.
    pub top_k: usize,
}

/// Distributions over all sequences.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteProfiles {
    /// Sequences that were run.
    pub nsamples: usize,
    /// Their tokens.
    pub tokens: usize,
    /// How the histograms' bins lie.
    pub histogram_bins: HistogramBins,
    /// Sites in the order of the forward pass, each in the layers that have it.
    pub sites: Vec<SiteProfile>,
    /// Sites that were asked for and that no layer has.
    pub absent_sites: Vec<Site>,
}

/// The bins of |x|: bin i begins at `2^(lowest_exponent + i / per_octave) * (1 + (i % per_octave) /
/// per_octave)`, with the quotient rounded down.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistogramBins {
    /// How many.
    pub bins: usize,
    /// Bins to a factor of two.
    pub per_octave: usize,
    /// Exponent of the first bin's lower edge; what is smaller is in it, too, and what is larger than
    /// the last bin in that.
    pub lowest_exponent: i32,
}

/// The distribution of one tensor's values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteProfile {
    /// Which tensor.
    pub site: Site,
    /// Of which layer; 0 for a tensor of no layer.
    pub layer: usize,
    /// How many values.
    pub values: u64,
    /// max |x|
    pub max: f32,
    /// The largest values, descending magnitude.
    pub top: Vec<PlacedEntry>,
    /// Root mean square.
    pub rms: f64,
    /// Mean of x, signed.
    pub mean: f64,
    /// Standard deviation of x: the squares' sum is divided by the number of values.
    pub std: f64,
    /// Excess kurtosis of x; null where all values are equal.
    pub kurtosis: Option<f64>,
    /// Median of |x|, lower middle: the mean over sequences.
    pub median: f64,
    /// Quantiles of |x|, each the mean over sequences.
    pub quantiles: BTreeMap<String, f64>,
    /// The largest over tokens of max |x| over the token's lower median of |x|; null where every
    /// token's median is 0.
    pub per_token_ratio: Option<f64>,
    /// The token that has it.
    pub per_token_ratio_at: Option<TokenPlace>,
    /// Dimensions that are large on most tokens, those on most of them first.
    pub residual_sinks: Vec<ResidualSink>,
    /// The largest float16 over max |x|; null if all values are 0.
    pub float16_headroom: Option<f64>,
    /// Signal over noise of eight bits with one scale, in decibels; null without noise.
    pub int8_sqnr_db: Option<f64>,
    /// The same, clipped at the quantile 0.999.
    pub int8_sqnr_clipped_db: Option<f64>,
    /// The bins that are not empty.
    pub histogram: Histogram,
}

/// A value and where it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlacedEntry {
    /// Index of the sequence.
    pub sequence: usize,
    /// Token position in it.
    pub position: usize,
    /// Text of the token.
    pub token: String,
    /// Index in the row.
    pub dimension: usize,
    /// Signed value.
    pub value: f32,
}

/// A token of the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenPlace {
    /// Index of the sequence.
    pub sequence: usize,
    /// Token position in it.
    pub position: usize,
    /// Its text.
    pub token: String,
}

/// A dimension that is large on most tokens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResidualSink {
    /// Index in the row.
    pub dimension: usize,
    /// Share of the tokens on which it is.
    pub share: f64,
}

/// A part of the bins; the others are empty.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// The first that is not empty.
    pub first_bin: usize,
    /// Values in it and those that follow.
    pub counts: Vec<u64>,
}

/// Runs the experiment.
pub fn run(
    session: &Session,
    sequences: &[Vec<u32>],
    request: &Request,
) -> Result<Finding<SiteProfiles>> {
    let spec = &session.model().spec;
    let (present, absent_sites): (Vec<Site>, Vec<Site>) = Site::ALL
        .into_iter()
        .filter(|site| request.sites.contains(site))
        .partition(|site| site.exists_in(spec));
    let plan = Plan {
        profiled: present,
        profile: ProfileRequest {
            top_k: request.top_k,
        },
        ..Plan::default()
    };
    let outcome = session.run(sequences, &plan, &mut Discard)?;
    let token = |sequence: usize, position: usize| session.token(sequences[sequence][position]);
    let mut sites = Vec::new();
    for (site, layers) in &outcome.profiles {
        for (layer, found) in layers.iter().enumerate() {
            if !found.is_empty() {
                sites.push(summary(*site, layer, found, request.top_k, &token));
            }
        }
    }
    Ok(Finding {
        result: SiteProfiles {
            nsamples: sequences.len(),
            tokens: sequences.iter().map(Vec::len).sum(),
            histogram_bins: HistogramBins {
                bins: HISTOGRAM_BINS,
                per_octave: BINS_PER_OCTAVE,
                lowest_exponent: LOWEST_EXPONENT,
            },
            sites,
            absent_sites,
        },
        timings: outcome.timings,
    })
}

/// One site of one layer over its sequences.
fn summary(
    site: Site,
    layer: usize,
    found: &[Profile],
    top_k: usize,
    token: &impl Fn(usize, usize) -> String,
) -> SiteProfile {
    let moments = found
        .iter()
        .fold(CentralMoments::default(), |all, one| all.and(&one.moments));
    let mean =
        |part: &dyn Fn(&Profile) -> f64| found.iter().map(part).sum::<f64>() / found.len() as f64;
    let max = found.iter().map(|one| one.max).fold(0.0, f32::max);
    let (per_token_ratio, per_token_ratio_at) = largest_ratio(found, token).unzip();
    let squares = moments.squares();
    let clipped: Option<Vec<f64>> = found.iter().map(|one| one.int8_clipped_error).collect();
    let quantiles = QUANTILES.iter().enumerate();
    SiteProfile {
        site,
        layer,
        values: moments.count as u64,
        max,
        top: top(found, top_k, token),
        rms: moments.rms(),
        mean: moments.mean,
        std: moments.std(),
        kurtosis: moments.excess_kurtosis(),
        median: mean(&|one| f64::from(one.median)),
        quantiles: quantiles
            .map(|(index, quantile)| (quantile.to_string(), mean(&|one| one.quantiles[index])))
            .collect(),
        per_token_ratio,
        per_token_ratio_at,
        residual_sinks: residual_sinks(found),
        float16_headroom: (max > 0.0).then(|| FLOAT16_MAX / f64::from(max)),
        int8_sqnr_db: decibels(squares, found.iter().map(|one| one.int8_error).sum()),
        int8_sqnr_clipped_db: clipped.and_then(|errors| decibels(squares, errors.iter().sum())),
        histogram: histogram(found),
    }
}

/// Signal over noise.
fn decibels(signal: f64, noise: f64) -> Option<f64> {
    (signal > 0.0 && noise > 0.0).then(|| 10.0 * (signal / noise).log10())
}

fn top(
    found: &[Profile],
    top_k: usize,
    token: &impl Fn(usize, usize) -> String,
) -> Vec<PlacedEntry> {
    let mut all: Vec<(usize, Entry)> = found
        .iter()
        .enumerate()
        .flat_map(|(sequence, one)| one.top.iter().map(move |entry| (sequence, *entry)))
        .collect();
    // Stable: of equal magnitudes the earlier sequence's first.
    all.sort_by(|a, b| b.1.value.abs().total_cmp(&a.1.value.abs()));
    all.truncate(top_k);
    let placed = all.into_iter().map(|(sequence, entry)| PlacedEntry {
        sequence,
        position: entry.position,
        token: token(sequence, entry.position),
        dimension: entry.dimension,
        value: entry.value,
    });
    placed.collect()
}

/// The largest ratio of a token, the first one of equals.
fn largest_ratio(
    found: &[Profile],
    token: &impl Fn(usize, usize) -> String,
) -> Option<(f64, TokenPlace)> {
    let mut largest: Option<(f64, usize, usize)> = None;
    for (sequence, one) in found.iter().enumerate() {
        if let Some((ratio, position)) = one.token_ratio
            && largest.is_none_or(|(most, ..)| ratio > most)
        {
            largest = Some((ratio, sequence, position));
        }
    }
    largest.map(|(ratio, sequence, position)| {
        let place = TokenPlace {
            sequence,
            position,
            token: token(sequence, position),
        };
        (ratio, place)
    })
}

fn residual_sinks(found: &[Profile]) -> Vec<ResidualSink> {
    let rows: usize = found.iter().map(|one| one.rows).sum();
    let mut tokens: BTreeMap<u32, u64> = BTreeMap::new();
    for (dimension, count) in found.iter().flat_map(|one| &one.large) {
        *tokens.entry(*dimension).or_default() += u64::from(*count);
    }
    let mut sinks: Vec<ResidualSink> = tokens
        .into_iter()
        .map(|(dimension, count)| ResidualSink {
            dimension: dimension as usize,
            share: count as f64 / rows as f64,
        })
        .filter(|sink| sink.share > MOST)
        .collect();
    sinks.sort_by(|a, b| b.share.total_cmp(&a.share));
    sinks
}

fn histogram(found: &[Profile]) -> Histogram {
    let mut counts = vec![0u64; HISTOGRAM_BINS];
    for one in found {
        for (all, count) in counts.iter_mut().zip(&one.histogram) {
            *all += u64::from(*count);
        }
    }
    let used = |count: &u64| *count > 0;
    let first_bin = counts.iter().position(used).unwrap_or(0);
    let end = counts.iter().rposition(used).map_or(0, |last| last + 1);
    Histogram {
        first_bin,
        counts: counts.get(first_bin..end).unwrap_or_default().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(value: f32, position: usize, ratio: f64) -> Profile {
        let mut histogram = vec![0; HISTOGRAM_BINS];
        histogram[256] = 3;
        Profile {
            rows: 4,
            moments: CentralMoments::of_sums(2, 0.0, [2.0, 4.0, 8.0, 16.0]),
            max: value.abs(),
            top: vec![Entry {
                position,
                dimension: 1,
                value,
            }],
            median: 1.0,
            quantiles: [1.0; QUANTILES.len()],
            histogram,
            token_ratio: Some((ratio, position)),
            large: vec![(1, 4), (2, 2)],
            int8_error: 0.02,
            int8_clipped_error: None,
            non_finite: 0,
        }
    }

    #[test]
    fn several_sequences() {
        let found = [profile(3.0, 0, 5.0), profile(-7.0, 2, 5.0)];
        let token = |sequence: usize, position: usize| format!("{sequence}.{position}");
        let summary = summary(Site::Q, 3, &found, 1, &token);
        assert_eq!(summary.max, 7.0);
        assert_eq!(summary.values, 4);
        assert_eq!(summary.top[0].token, "1.2");
        assert_eq!(summary.top[0].value, -7.0);
        assert_eq!(summary.per_token_ratio, Some(5.0));
        assert_eq!(
            summary
                .per_token_ratio_at
                .map(|place| place.token)
                .as_deref(),
            Some("0.0")
        );
        // Dimension 2 is large on half of the tokens, which is not most.
        let sinks: Vec<usize> = summary.residual_sinks.iter().map(|s| s.dimension).collect();
        assert_eq!(sinks, [1]);
        assert_eq!(summary.residual_sinks[0].share, 1.0);
        assert_eq!(summary.float16_headroom, Some(65504.0 / 7.0));
        // Squares 8 over errors 0.04.
        let decibels = summary.int8_sqnr_db.expect("noise");
        assert!((decibels - 10.0 * 200f64.log10()).abs() < 1e-9);
        assert_eq!(summary.int8_sqnr_clipped_db, None);
        assert_eq!(summary.histogram.first_bin, 256);
        assert_eq!(summary.histogram.counts, [6]);
        assert_eq!(summary.quantiles["0.999"], 1.0);
    }
}
