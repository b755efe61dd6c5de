//! Attention maps as pictures.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    backend::AttentionMaps,
    engine::{AttentionParts, Observer, Site},
    error::Result,
    model::spec::DecoderSpec,
    present::FileRecorder,
    report::{
        html::{Chart, MapLabels, MapSet},
        plot::{Heatmap, HeatmapGrid},
    },
};

/// Maps at the resolution of pictures.
#[derive(Debug)]
pub(crate) struct Maps {
    /// Whether they show logits, not probabilities.
    pub(super) show_logits: bool,
    /// Mean over heads, by layer.
    pub(super) means: BTreeMap<usize, Heatmap>,
    /// Layers with their heads.
    pub(super) heads: BTreeMap<usize, Vec<Heatmap>>,
    /// The layers that are drawn; none for all of them.
    layers: Option<BTreeSet<usize>>,
    /// Learned keys in front of the tokens, in the layers that have most of them.
    extra: usize,
}

/// Keeps what the pictures show of the maps on their way to the files.
pub(crate) struct MapRecorder {
    files: FileRecorder,
    maps: Maps,
}

impl MapRecorder {
    /// Pictures of logits or probabilities, of these layers or of all.
    pub(crate) fn new(
        files: FileRecorder,
        spec: &DecoderSpec,
        show_logits: bool,
        layers: Option<BTreeSet<usize>>,
    ) -> Self {
        let mut attention = spec.layers.iter().flat_map(|layer| &layer.attention);
        let extra = attention.any(|attention| attention.kv_bias.is_some());
        Self {
            files,
            maps: Maps {
                extra: usize::from(extra),
                show_logits,
                means: BTreeMap::new(),
                heads: BTreeMap::new(),
                layers,
            },
        }
    }

    /// Gives the files their names; the rest is for the pictures.
    pub(crate) fn finish(self) -> Result<Maps> {
        self.files.commit()?;
        Ok(self.maps)
    }
}

impl Observer for MapRecorder {
    fn tensor(
        &mut self,
        site: Site,
        layer: usize,
        sequence: usize,
        columns: usize,
        values: &[f32],
    ) -> Result<()> {
        self.files.tensor(site, layer, sequence, columns, values)
    }

    fn attention(&mut self, layer: usize, sequence: usize, maps: AttentionMaps) -> Result<()> {
        let chosen = self.maps.layers.as_ref();
        if chosen.is_some_and(|layers| !layers.contains(&layer)) {
            return self.files.attention(layer, sequence, maps);
        }
        let (mean, each) = match self.maps.show_logits {
            true => (&maps.logits_mean, &maps.logits),
            false => (&maps.probs_mean, &maps.probs),
        };
        let mean = mean.as_deref().unwrap_or_default();
        // One learned key may stand before the tokens.
        let rows = mean.len().isqrt();
        let shown = &mut self.maps;
        let columns = rows + shown.extra;
        let map =
            |title, values| Heatmap::new(title, &widened(values, rows, columns), rows, columns);
        let drawn = map(format!("Layer {layer}"), mean);
        shown.means.insert(layer, drawn);
        if let Some(each) = each {
            let heads = each.chunks(mean.len().max(1)).enumerate();
            let heads = heads.map(|(head, values)| map(format!("Head {head}"), values));
            shown.heads.insert(layer, heads.collect());
        }
        self.files.attention(layer, sequence, maps)
    }

    fn attention_parts(
        &mut self,
        layer: usize,
        sequence: usize,
        parts: AttentionParts<'_>,
    ) -> Result<()> {
        self.files.attention_parts(layer, sequence, parts)
    }
}

/// A map with blank columns in front, up to so many: the maps of all layers have the same keys.
fn widened(map: &[f32], rows: usize, columns: usize) -> Cow<'_, [f32]> {
    let missing = columns.saturating_sub(map.len() / rows.max(1));
    if missing == 0 {
        return Cow::Borrowed(map);
    }
    let rows = map.chunks((columns - missing).max(1));
    let blank = std::iter::repeat_n(f32::NAN, missing);
    rows.flat_map(|row| blank.clone().chain(row.iter().copied()))
        .collect()
}

impl Maps {
    /// The maps for the page, at a resolution that suits it.
    pub(super) fn explored(&self, labels: &Labels) -> Option<Chart> {
        let keys = self.means.values().next().map_or(0, Heatmap::columns);
        let unit = if self.show_logits {
            "logit"
        } else {
            "probability"
        };
        let beside = MapLabels {
            unit: unit.to_owned(),
            rows: labels.tokens.clone(),
            columns: labels.columns(keys),
            emphasised: labels.emphasised_columns(keys).into_iter().collect(),
        };
        let layers = self.means.iter().map(|(layer, mean)| {
            let heads = self.heads.get(layer).map_or(&[][..], Vec::as_slice);
            (*layer, mean, heads)
        });
        MapSet::new(beside, layers).map(Chart::Maps)
    }
}

/// What is written on the maps.
pub(super) struct Labels {
    pub(super) tokens: Vec<String>,
    /// Positions in bold red.
    pub(super) emphasised: BTreeSet<usize>,
    pub(super) show_logits: bool,
    /// Whether the caller named the emphasised tokens.
    pub(super) given: bool,
    /// Positions in bold: the keys that many heads attend to most.
    pub(super) bright: BTreeSet<usize>,
    /// Whether all maps of a picture have one scale.
    pub(super) shared_scale: bool,
}

/// What a picture shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum MapsOf {
    /// Layers, means over their heads.
    Means,
    /// Heads of a layer.
    Heads,
}

impl Labels {
    /// Keys in front that are no tokens.
    fn extra(&self, keys: usize) -> usize {
        keys.saturating_sub(self.tokens.len())
    }

    /// What stands under the keys.
    fn columns(&self, keys: usize) -> Vec<String> {
        let mut columns = vec!["extra_kv".to_owned(); self.extra(keys)];
        columns.extend(self.tokens.iter().cloned());
        columns
    }

    fn emphasised_columns(&self, keys: usize) -> BTreeSet<usize> {
        let extra = self.extra(keys);
        self.emphasised.iter().map(|key| key + extra).collect()
    }
}

/// A grid of maps as SVG.
pub(super) fn grid(
    title: String,
    labels: &Labels,
    of: MapsOf,
    maps: Vec<Heatmap>,
) -> Result<String> {
    let kind = if labels.show_logits {
        "logits (before the softmax)"
    } else {
        "probabilities"
    };
    let mut note = format!("attention {kind}; queries down, keys across");
    if !labels.emphasised.is_empty() {
        note.push_str(if labels.given {
            "; red: the followed tokens"
        } else {
            "; red: tokens with massive activations"
        });
    }
    if labels
        .bright
        .difference(&labels.emphasised)
        .next()
        .is_some()
    {
        note.push_str("; bold: keys that many heads attend to");
    }
    let keys = maps.first().map_or(0, Heatmap::columns);
    let grid = HeatmapGrid {
        title,
        note,
        maps,
        row_labels: labels.tokens.clone(),
        column_labels: labels.columns(keys),
        emphasised: labels.emphasised_columns(keys),
        bright: labels
            .bright
            .iter()
            .map(|key| key + labels.extra(keys))
            .collect(),
        bar_label: match (of, labels.show_logits) {
            (MapsOf::Means, true) => "mean logit",
            (MapsOf::Means, false) => "mean probability",
            (MapsOf::Heads, true) => "logit",
            (MapsOf::Heads, false) => "probability",
        }
        .to_owned(),
        shared: labels.shared_scale,
    };
    grid.to_svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_without_a_learned_key_have_a_blank_in_its_place() {
        let map = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(*widened(&map, 2, 2), map);
        let wide = widened(&map, 2, 3);
        assert!(wide[0].is_nan() && wide[3].is_nan() && wide.len() == 6);
        assert_eq!((&wide[1..3], &wide[4..]), (&map[..2], &map[2..]));
        assert!(widened(&[], 0, 1).is_empty());
    }
}
