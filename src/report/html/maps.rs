//! Attention maps small enough for a page.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;

use crate::report::plot::{Heatmap, Pooled};

/// Most cells that a page has of all means over heads together, and of all heads; two bytes each, a third
/// more in base64.
const MOST_CELLS: usize = 110_000;
/// The code of an entry that the mask hides.
const BLANK: u16 = u16::MAX;

/// The maps of a sequence: of each layer the mean over heads, and of some layers every head.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MapSet {
    /// What the values are: `logit` or `probability`.
    pub unit: String,
    /// Keys that are no tokens, in front.
    pub extra: usize,
    /// Tokens of the queries.
    pub row_labels: Vec<String>,
    /// Tokens of the keys.
    pub column_labels: Vec<String>,
    /// Keys that stand out.
    pub emphasised: Vec<usize>,
    /// First to last.
    pub layers: Vec<LayerOfMaps>,
}

/// The maps of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerOfMaps {
    /// 0-based index.
    pub layer: usize,
    /// Mean over heads.
    pub mean: PackedMap,
    /// Every head, where the run has them.
    pub heads: Vec<PackedMap>,
}

/// A map's cells as 16-bit steps. Causal attention leaves everything right of the diagonal blank: a row
/// holds the cells up to there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackedMap {
    /// The value of code 0.
    pub low: f32,
    /// The value between two codes.
    pub step: f32,
    /// Values along a side of a cell, which has the largest of them.
    pub bin: usize,
    /// Little-endian codes in base64, row by row; 65535 is blank.
    pub data: String,
}

/// What is written beside the maps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MapLabels {
    /// What the values are: `logit` or `probability`.
    pub unit: String,
    /// Tokens of the queries.
    pub rows: Vec<String>,
    /// Tokens of the keys; may begin with more than the queries have.
    pub columns: Vec<String>,
    /// Keys that stand out.
    pub emphasised: Vec<usize>,
}

impl MapSet {
    /// Of layers with their mean map and the maps of their heads; none without maps.
    pub fn new<'a>(
        labels: MapLabels,
        layers: impl Iterator<Item = (usize, &'a Heatmap, &'a [Heatmap])> + Clone,
    ) -> Option<Self> {
        let (_, first, _) = layers.clone().next()?;
        let extra = labels.columns.len().saturating_sub(labels.rows.len());
        let heads: usize = layers.clone().map(|(_, _, heads)| heads.len()).sum();
        let coarse = factor(first, heads, extra);
        let fine = factor(first, layers.clone().count(), extra);
        let layers = layers.map(|(layer, mean, heads)| LayerOfMaps {
            layer,
            mean: PackedMap::new(&mean.pooled(fine), extra),
            heads: heads
                .iter()
                .map(|map| PackedMap::new(&map.pooled(coarse), extra))
                .collect(),
        });
        Some(Self {
            unit: labels.unit,
            extra,
            layers: layers.collect(),
            row_labels: labels.rows,
            column_labels: labels.columns,
            emphasised: labels.emphasised,
        })
    }
}

impl PackedMap {
    /// Values that are not finite are blank.
    fn new(cells: &Pooled, extra: usize) -> Self {
        let finite = || {
            cells
                .values
                .iter()
                .copied()
                .filter(|value| value.is_finite())
        };
        let low = finite().fold(f32::INFINITY, f32::min);
        let high = finite().fold(f32::NEG_INFINITY, f32::max);
        if low > high {
            // Nothing but blanks.
            return Self::coded(0.0, 0.0, cells, extra);
        }
        // In double precision: the difference of two floats may be none.
        let step = (f64::from(high) - f64::from(low)) / f64::from(BLANK - 1);
        Self::coded(low, step as f32, cells, extra)
    }

    fn coded(low: f32, step: f32, cells: &Pooled, extra: usize) -> Self {
        let code = |value: &f32| {
            if !value.is_finite() {
                return BLANK;
            }
            let steps = (f64::from(*value) - f64::from(low)) / f64::from(step);
            // A map of one value has no steps: 0 / 0 casts to 0.
            (steps.round() as u16).min(BLANK - 1)
        };
        let rows = cells.values.chunks(cells.columns.max(1)).enumerate();
        let codes = rows.flat_map(|(row, values)| values.iter().take(row + 1 + extra).map(code));
        let bytes: Vec<u8> = codes.flat_map(u16::to_le_bytes).collect();
        Self {
            low,
            step,
            bin: cells.bin,
            data: BASE64_STANDARD.encode(bytes),
        }
    }
}

/// How many cells along a side become one, so that `count` maps like `map` have few enough.
fn factor(map: &Heatmap, count: usize, extra: usize) -> usize {
    let (mut factor, mut cells) = (1, map.pooled(1));
    while count * kept(cells.rows, cells.columns, extra) > MOST_CELLS && cells.rows > 1 {
        factor += 1;
        cells = map.pooled(factor);
    }
    factor
}

/// Cells of a map that are kept.
fn kept(rows: usize, columns: usize, extra: usize) -> usize {
    (0..rows).map(|row| columns.min(row + 1 + extra)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[f32], rows: usize, columns: usize) -> Heatmap {
        Heatmap::new(String::new(), values, rows, columns)
    }

    fn unpacked(map: &PackedMap) -> Vec<Option<f32>> {
        let bytes = BASE64_STANDARD.decode(&map.data).expect("base64");
        let codes = bytes
            .chunks(2)
            .map(|two| u16::from_le_bytes([two[0], two[1]]));
        codes
            .map(|code| (code != BLANK).then(|| map.low + f32::from(code) * map.step))
            .collect()
    }

    #[test]
    fn keeps_what_the_mask_shows() {
        let nan = f32::NAN;
        let values = [-3.0, nan, nan, 0.5, 2.0, nan, nan, 1.0, 5.0];
        let labels = MapLabels {
            rows: vec!["a".into(), "b".into(), "c".into()],
            columns: vec!["a".into(), "b".into(), "c".into()],
            ..MapLabels::default()
        };
        let mean = map(&values, 3, 3);
        let set = MapSet::new(labels, [(4, &mean, &[] as &[Heatmap])].into_iter()).expect("maps");
        assert_eq!((set.layers[0].mean.bin, set.extra), (1, 0));
        let found = unpacked(&set.layers[0].mean);
        let expected = [Some(-3.0), Some(0.5), Some(2.0), None, Some(1.0), Some(5.0)];
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            match (found, expected) {
                (Some(found), Some(expected)) => {
                    assert!((found - expected).abs() <= set.layers[0].mean.step);
                }
                (found, expected) => assert_eq!(*found, expected),
            }
        }
    }

    #[test]
    fn many_maps_share_cells() {
        let tokens = 200;
        let values = vec![1.0; tokens * tokens];
        let heads = vec![map(&values, tokens, tokens); 30];
        let labels = MapLabels {
            rows: vec![String::new(); tokens],
            columns: vec![String::new(); tokens],
            ..MapLabels::default()
        };
        let layers = [(0, &heads[0], &heads[..])].into_iter();
        let set = MapSet::new(labels, layers).expect("maps");
        let layer = &set.layers[0];
        assert_eq!(layer.mean.bin, 1, "one map of 200 x 200 cells");
        assert_eq!(
            layer.heads[0].bin, 3,
            "30 maps of 67 x 67, half of it blank"
        );
        assert_eq!(unpacked(&layer.heads[0]).len(), 67 * 68 / 2);
        let bytes: usize = layer.heads.iter().map(|map| map.data.len()).sum();
        assert!(bytes < MOST_CELLS * 3, "{bytes}");
    }

    #[test]
    fn one_value_and_none() {
        let packed = |values: &[f32]| PackedMap::new(&map(values, 1, values.len()).pooled(1), 1);
        assert_eq!(unpacked(&packed(&[2.5])), [Some(2.5)]);
        assert_eq!(unpacked(&packed(&[f32::NAN])), [None]);
        assert_eq!(MapSet::new(MapLabels::default(), std::iter::empty()), None);
        // The largest difference of two floats.
        assert!(packed(&[f32::MIN, f32::MAX]).step.is_finite());
    }
}
