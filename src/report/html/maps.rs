//! Attention maps small enough for a page.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;

use crate::report::plot::Heatmap;

/// Most cells that a page has of all its maps together; two bytes each, a third more in base64.
const MOST_CELLS: usize = 220_000;
/// The code of an entry that the mask hides.
const BLANK: u16 = u16::MAX;

/// The maps of a sequence: of each layer the mean over heads, and of some layers every head.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MapSet {
    /// What the values are: `logit` or `probability`.
    pub unit: String,
    /// Cells down.
    pub rows: usize,
    /// Cells across.
    pub columns: usize,
    /// Keys that are no tokens, in front.
    pub extra: usize,
    /// Values along a side of a cell, which has the largest of them.
    pub bin: usize,
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
        let count: usize = layers.clone().map(|(_, _, heads)| 1 + heads.len()).sum();
        let extra = labels.columns.len().saturating_sub(labels.rows.len());
        let (mut factor, mut cells) = (1, first.pooled(1));
        while count * kept(cells.rows, cells.columns, extra) > MOST_CELLS && cells.rows > 1 {
            factor += 1;
            cells = first.pooled(factor);
        }
        let pack = |map: &Heatmap| {
            let cells = map.pooled(factor);
            PackedMap::new(&cells.values, cells.columns, extra)
        };
        let layers = layers.map(|(layer, mean, heads)| LayerOfMaps {
            layer,
            mean: pack(mean),
            heads: heads.iter().map(pack).collect(),
        });
        Some(Self {
            unit: labels.unit,
            rows: cells.rows,
            columns: cells.columns,
            extra,
            bin: cells.bin,
            layers: layers.collect(),
            row_labels: labels.rows,
            column_labels: labels.columns,
            emphasised: labels.emphasised,
        })
    }
}

impl PackedMap {
    /// Of `[rows, columns]` values; those that are not finite are blank.
    fn new(values: &[f32], columns: usize, extra: usize) -> Self {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let low = finite().fold(f32::INFINITY, f32::min);
        let high = finite().fold(f32::NEG_INFINITY, f32::max);
        if low > high {
            // Nothing but blanks.
            return Self::coded(0.0, 0.0, values, columns, extra);
        }
        // In double precision: the difference of two floats may be none.
        let step = (f64::from(high) - f64::from(low)) / f64::from(BLANK - 1);
        Self::coded(low, step as f32, values, columns, extra)
    }

    fn coded(low: f32, step: f32, values: &[f32], columns: usize, extra: usize) -> Self {
        let code = |value: &f32| {
            if !value.is_finite() {
                return BLANK;
            }
            let steps = (f64::from(*value) - f64::from(low)) / f64::from(step);
            // A map of one value has no steps: 0 / 0 casts to 0.
            (steps.round() as u16).min(BLANK - 1)
        };
        let rows = values.chunks(columns.max(1)).enumerate();
        let codes = rows.flat_map(|(row, values)| values.iter().take(row + 1 + extra).map(code));
        let bytes: Vec<u8> = codes.flat_map(u16::to_le_bytes).collect();
        Self {
            low,
            step,
            data: BASE64_STANDARD.encode(bytes),
        }
    }
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
        assert_eq!((set.rows, set.columns, set.bin, set.extra), (3, 3, 1, 0));
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
        assert_eq!(
            set.bin, 2,
            "31 maps of 100 x 100 cells, halves of them blank"
        );
        assert_eq!(set.rows, 100);
        let bytes: usize = set.layers[0].heads.iter().map(|map| map.data.len()).sum();
        assert!(bytes < MOST_CELLS * 3, "{bytes}");
    }

    #[test]
    fn one_value_and_none() {
        let one = PackedMap::new(&[2.5], 1, 0);
        assert_eq!(unpacked(&one), [Some(2.5)]);
        let none = PackedMap::new(&[f32::NAN], 1, 0);
        assert_eq!(unpacked(&none), [None]);
        assert_eq!(MapSet::new(MapLabels::default(), std::iter::empty()), None);
        // The largest difference of two floats.
        let far = PackedMap::new(&[f32::MIN, f32::MAX], 1, 0);
        assert!(far.step.is_finite());
    }
}
