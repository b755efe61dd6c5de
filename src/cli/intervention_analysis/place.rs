//! Where and how to overwrite, beside the published experiment.

use clap::Args;
use serde::Serialize;

use crate::{
    engine::Site,
    experiments::intervention_analysis::{Anywhere, Dimensions, Positions},
};

/// What departs from the published experiment.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// Which tensor of the layers is overwritten.
    #[arg(long, value_name = "SITE", default_value = "layer_output", value_parser = site)]
    site: Site,
    /// At which tokens: those with massive activations, the first, all, or those with a text.
    #[arg(long, value_name = "massive|first|all|token:TEXT", default_value = "massive", value_parser = positions)]
    positions: Positions,
    /// In which dimensions: the massive ones, a list such as 0,5, or N others at random, drawn K times.
    #[arg(long, value_name = "massive|D,..|random:N[:K]", default_value = "massive", value_parser = dimensions)]
    dimensions: Dimensions,
    /// Also replace each value by that of another token of the window, drawn at random.
    #[arg(long)]
    shuffle: bool,
    /// Also bound the values' magnitudes by this, as intervention clip_VALUE. Repeatable.
    #[arg(long, value_name = "VALUE", value_parser = bound)]
    clip: Vec<f32>,
    /// Also switch attention heads off, layer and head from 0: `3:1`, or several together, `3:1,4:0`.
    /// Repeatable.
    #[arg(long, value_name = "L:H,..", value_parser = heads)]
    head: Vec<Heads>,
    /// Would any other values have done this? Also zero as many dimensions, and as many tokens, drawn at
    /// random, so many times.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "3", default_value_t = 0)]
    controls: usize,
}

/// What of it was given; nothing in the published experiment, whose settings it leaves as they are.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(in crate::cli) struct PlaceSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    site: Option<Site>,
    #[serde(skip_serializing_if = "Option::is_none")]
    positions: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shuffle: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    clip: Vec<f32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    head: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    controls: Option<usize>,
}

/// (layer, head) of heads that are switched off together.
#[derive(Debug, Clone, PartialEq)]
struct Heads(Vec<(usize, usize)>);

impl PlaceArgs {
    pub(super) fn anywhere(&self) -> Anywhere {
        Anywhere {
            site: self.site,
            positions: self.positions.clone(),
            dimensions: self.dimensions.clone(),
            shuffle: self.shuffle,
            clip: self.clip.clone(),
            heads: self.head.iter().map(|Heads(heads)| heads.clone()).collect(),
            controls: self.controls,
            calibration: Vec::new(),
        }
    }

    pub(super) fn settings(&self) -> PlaceSettings {
        let given = |name: String| (name != "massive").then_some(name);
        let heads = self.head.iter().map(|Heads(heads)| {
            let heads = heads.iter().map(|(layer, head)| format!("{layer}:{head}"));
            heads.collect::<Vec<_>>().join(",")
        });
        PlaceSettings {
            site: (self.site != Site::LayerOutput).then_some(self.site),
            positions: given(self.positions.name()),
            dimensions: given(self.dimensions.name()),
            shuffle: self.shuffle.then_some(true),
            clip: self.clip.clone(),
            head: heads.collect(),
            controls: (self.controls > 0).then_some(self.controls),
        }
    }

    /// Interventions that it adds.
    pub(super) fn variants(&self) -> usize {
        let draws = match self.dimensions {
            Dimensions::Random { draws, .. } => draws - 1,
            _ => 0,
        };
        usize::from(self.shuffle) + self.clip.len() + self.head.len() + 2 * self.controls + draws
    }
}

fn site(text: &str) -> Result<Site, String> {
    Site::parse(text).map_err(|error| error.to_string())
}

fn positions(text: &str) -> Result<Positions, String> {
    match (text, text.strip_prefix("token:")) {
        ("massive", _) => Ok(Positions::Massive),
        ("first", _) => Ok(Positions::First),
        ("all", _) => Ok(Positions::All),
        (_, Some(token)) if !token.is_empty() => Ok(Positions::Token(token.to_owned())),
        _ => Err("expected massive, first, all or token:TEXT".into()),
    }
}

/// Draws of random dimensions at most: each is one more variant of the walk.
const MOST_DRAWS: usize = 1000;

fn dimensions(text: &str) -> Result<Dimensions, String> {
    let refused = || {
        format!(
            "expected massive, dimensions such as 0,5, random:2, or random:2:5 (at most {MOST_DRAWS} draws)"
        )
    };
    if text == "massive" {
        return Ok(Dimensions::Massive);
    }
    if let Some(random) = text.strip_prefix("random:") {
        let (count, draws) = random.split_once(':').unwrap_or((random, "1"));
        let number = |text: &str| text.parse().ok().filter(|number: &usize| *number > 0);
        let draws = number(draws).filter(|draws| *draws <= MOST_DRAWS);
        let both = number(count).zip(draws);
        return both
            .map(|(count, draws)| Dimensions::Random { count, draws })
            .ok_or_else(refused);
    }
    let listed = text.split(',').map(|index| index.trim().parse());
    let listed = listed.collect::<Result<_, _>>();
    listed.map(Dimensions::Listed).map_err(|_| refused())
}

fn bound(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("expected a number of at least 0".into()),
    }
}

fn heads(text: &str) -> Result<Heads, String> {
    let pairs = text.split(',').map(|pair| {
        let (layer, head) = pair.trim().split_once(':')?;
        Some((layer.parse().ok()?, head.parse().ok()?))
    });
    let pairs: Option<Vec<(usize, usize)>> = pairs.collect();
    pairs
        .map(Heads)
        .ok_or_else(|| "expected layer and head such as 3:1, or several, 3:1,4:0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_places() {
        assert_eq!(positions("token: the"), Ok(Positions::Token(" the".into())));
        assert!(positions("token:").is_err() && positions("second").is_err());
        assert_eq!(dimensions("5, 0"), Ok(Dimensions::Listed([0, 5].into())));
        let random = |count, draws| Ok(Dimensions::Random { count, draws });
        assert_eq!(dimensions("random:2"), random(2, 1));
        assert_eq!(dimensions("random:2:5"), random(2, 5));
        assert!(dimensions("random:2:0").is_err() && dimensions("random:2:").is_err());
        assert!(
            dimensions("random:0").is_err() && dimensions("a").is_err() && dimensions("").is_err()
        );
        assert_eq!(heads("3:1, 4:0"), Ok(Heads(vec![(3, 1), (4, 0)])));
        assert!(heads("3").is_err() && heads("3:a").is_err());
        assert!(site("layer_output").is_ok() && site("nowhere").is_err());
    }
}
