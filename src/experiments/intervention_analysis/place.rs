//! Where values are overwritten beside the published experiment: another tensor, other tokens, other
//! dimensions, other rules, heads that are switched off, and the controls of it all.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use serde::Serialize;

use crate::{
    data::mt19937::Mt19937,
    engine::{Session, Site},
    error::{Error, Result},
    model::spec::DecoderSpec,
};

/// Token positions of a window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Positions {
    /// Those with massive activations.
    #[default]
    Massive,
    /// The first.
    First,
    /// All.
    All,
    /// Those of tokens with this text, whatever space is around it.
    Token(String),
}

/// Columns of the tensor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Dimensions {
    /// The massive ones.
    #[default]
    Massive,
    /// These.
    Listed(BTreeSet<usize>),
    /// Others, drawn at random.
    Random {
        /// So many.
        count: usize,
        /// How often they are drawn.
        draws: usize,
    },
}

/// What departs from the published experiment; the default is nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Anywhere {
    /// The tensor.
    pub site: Site,
    /// The tokens.
    pub positions: Positions,
    /// The columns.
    pub dimensions: Dimensions,
    /// Also replace each value by that of another token.
    pub shuffle: bool,
    /// Also bound the magnitudes by these.
    pub clip: Vec<f32>,
    /// Also switch heads off: each group of (layer, head) is an intervention.
    pub heads: Vec<Vec<(usize, usize)>>,
    /// How often to zero as many dimensions, and as many tokens, drawn at random.
    pub controls: usize,
    /// Sequences that the means of another place come from.
    pub calibration: Vec<Vec<u32>>,
}

impl Default for Anywhere {
    fn default() -> Self {
        Self {
            site: Site::LayerOutput,
            positions: Positions::Massive,
            dimensions: Dimensions::Massive,
            shuffle: false,
            clip: Vec::new(),
            heads: Vec::new(),
            controls: 0,
            calibration: Vec::new(),
        }
    }
}

impl Positions {
    /// As a setting and in JSON.
    pub fn name(&self) -> String {
        match self {
            Self::Massive => "massive".to_owned(),
            Self::First => "first".to_owned(),
            Self::All => "all".to_owned(),
            Self::Token(text) => format!("token:{text}"),
        }
    }

    /// In a window; none where only its massive activations tell.
    pub(super) fn of(&self, session: &Session, window: &[u32]) -> Option<Vec<usize>> {
        match self {
            Self::Massive => None,
            Self::First => Some(vec![0]),
            Self::All => Some((0..window.len()).collect()),
            Self::Token(text) => {
                let holds = |id: u32| session.token(id).trim() == text.trim();
                Some((0..window.len()).filter(|p| holds(window[*p])).collect())
            }
        }
    }
}

impl Dimensions {
    /// As a setting and in JSON.
    pub fn name(&self) -> String {
        match self {
            Self::Massive => "massive".to_owned(),
            Self::Listed(listed) => {
                let listed: Vec<String> = listed.iter().map(usize::to_string).collect();
                listed.join(",")
            }
            Self::Random { count, draws: 1 } => format!("random:{count}"),
            Self::Random { count, draws } => format!("random:{count}:{draws}"),
        }
    }
}

impl Anywhere {
    /// Whether the tensor, the tokens and the dimensions are the published ones.
    pub fn at_published_place(&self) -> bool {
        self.site == Site::LayerOutput
            && self.positions == Positions::Massive
            && self.dimensions == Dimensions::Massive
    }

    /// Whether more is to be done than to write values into massive activations of layer outputs, which
    /// needs no knowledge of positions before the layer.
    pub(super) fn reaches_further(&self) -> bool {
        !self.at_published_place()
            || self.shuffle
            || !self.clip.is_empty()
            || !self.heads.is_empty()
    }

    /// Refuses what the model does not have.
    pub fn check(&self, spec: &DecoderSpec) -> Result<()> {
        let width = spec.hidden_size;
        if self.site == Site::Embedding && spec.streams() > 1 {
            return Err(Error::usage(
                "--site embedding",
                "this model has it in several residual streams, which the first layer receives as one tensor",
            )
            .remedy("choose --site layer_input --layers 0"));
        }
        if !spec.layers.iter().any(|layer| self.site.is_in(layer)) {
            return Err(Error::usage(
                format!("--site {}", self.site.name()),
                "no layer of this model has it",
            )
            .remedy("choose another, such as layer_output or mixer_output"));
        }
        for (layer, head) in self.heads.iter().flatten() {
            let flag = format!("--head {layer}:{head}");
            let Some(own) = spec.layers.get(*layer) else {
                return Err(Error::usage(
                    flag,
                    format!("the model has {} layers", spec.layers.len()),
                )
                .remedy("layers count from 0"));
            };
            let heads = own
                .attention
                .as_ref()
                .map_or(0, |attention| attention.heads);
            if *head >= heads {
                let has = match heads {
                    0 => format!("layer {layer} has no attention"),
                    heads => format!("layer {layer} has {heads} heads"),
                };
                return Err(Error::usage(flag, has).remedy("heads count from 0"));
            }
        }
        let of_stream = self.site.width(spec, self.first_with_site(spec)) == width;
        if self.dimensions == Dimensions::Massive && !(of_stream && self.site.is_of_stream(spec)) {
            return Err(Error::usage(
                format!("--site {}", self.site.name()),
                "its columns are not the dimensions of the residual stream",
            )
            .remedy("name some with --dimensions 0,5, or --dimensions random:2"));
        }
        Ok(())
    }

    fn first_with_site(&self, spec: &DecoderSpec) -> usize {
        let mut layers = spec.layers.iter();
        layers.position(|layer| self.site.is_in(layer)).unwrap_or(0)
    }

    /// Columns that the tensors of all these layers have; they may differ in width.
    pub(super) fn narrowest(&self, spec: &DecoderSpec, layers: &[usize]) -> usize {
        let widths = layers.iter().map(|layer| self.site.width(spec, *layer));
        widths.min().unwrap_or(0)
    }

    /// Refuses layers without the site, and columns that it does not have there.
    pub(super) fn check_layers(&self, spec: &DecoderSpec, layers: &[usize]) -> Result<()> {
        for layer in layers {
            if !self.site.is_in(&spec.layers[*layer]) {
                return Err(Error::usage(
                    format!("--site {}", self.site.name()),
                    format!(
                        "layer {layer}, whose values are to be overwritten, has no such tensor"
                    ),
                )
                .remedy("name other --layers"));
            }
            let width = self.site.width(spec, *layer);
            let (most, flag) = match &self.dimensions {
                Dimensions::Massive => continue,
                Dimensions::Listed(listed) => (
                    listed.last().map_or(0, |last| last + 1),
                    self.dimensions.name(),
                ),
                Dimensions::Random { count, .. } => (*count, self.dimensions.name()),
            };
            if most > width {
                return Err(Error::usage(
                    format!("--dimensions {flag}"),
                    format!("{} of layer {layer} has {width} columns", self.site.name()),
                )
                .remedy(format!("use numbers from 0 to {}", width - 1)));
            }
        }
        Ok(())
    }
}

/// `count` of `0..width`, none of `not`, drawn at random without repetition, ascending; fewer where there
/// are not so many.
pub(super) fn drawn(width: usize, not: &[usize], count: usize, seed: u64) -> Vec<usize> {
    let mut left: Vec<usize> = (0..width).filter(|index| !not.contains(index)).collect();
    let mut random = Mt19937::new(seed);
    let mut drawn = Vec::new();
    while drawn.len() < count && !left.is_empty() {
        let index = random.interval(left.len() as u64 - 1) as usize;
        drawn.push(left.swap_remove(index));
    }
    drawn.sort_unstable();
    drawn
}

/// Where it was done, where that is not the published place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// The tensor.
    pub site: Site,
    /// The tokens.
    pub positions: String,
    /// The dimensions, as asked for.
    pub dimensions: String,
    /// Each draw, where random dimensions are drawn several times.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub draws: Vec<Draw>,
}

/// Dimensions that were drawn at random.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Draw {
    /// The intervention that zeroes them.
    pub intervention: String,
    /// Which.
    pub dimensions: Vec<usize>,
}

/// A matched control of `set_to_zero`: as many values, at other places.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Control {
    /// The intervention.
    pub intervention: String,
    /// What was drawn at random.
    pub random: Drawn,
    /// The dimensions that it zeroes.
    pub dimensions: Vec<usize>,
}

/// What of a control is drawn at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Drawn {
    /// The dimensions; the tokens are those of the effect.
    Dimensions,
    /// The tokens, in each window; the dimensions are those of the effect.
    Tokens,
}

#[cfg(test)]
mod tests {
    use super::drawn;

    #[test]
    fn draws_others_without_repetition() {
        let found = drawn(10, &[2, 7], 3, 5);
        assert_eq!(found.len(), 3);
        assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
        assert!(
            found
                .iter()
                .all(|index| *index < 10 && ![2, 7].contains(index))
        );
        assert_eq!(found, drawn(10, &[2, 7], 3, 5));
        assert_ne!(drawn(1000, &[], 3, 5), drawn(1000, &[], 3, 6));
        assert_eq!(drawn(3, &[1], 9, 5), [0, 2]);
    }
}
