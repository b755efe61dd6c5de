//! What the corpus leads to: layers, dimensions, means and interventions.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Anywhere, Control, Dimensions, Draw, Drawn, InterventionAnalysis, Mean, Place, Positions,
    PositionsFrom, Setup, Walks, WrittenLayers, further,
    interventions::{self, Intervention, Rule},
    place::drawn,
};
use crate::{
    engine::Session,
    error::{Error, Result},
    experiments::{
        corpus::{CorpusWalk, FirstMassive},
        tokens_analysis::{Detections, Summary},
    },
    model::spec::DecoderSpec,
};

/// What the corpus leads to.
pub(super) struct Preparation {
    summary: Summary,
    reference: Summary,
    dimensions: Vec<usize>,
    pub(super) layers: Vec<usize>,
    means: Vec<Mean>,
    pub(super) interventions: Vec<Intervention>,
    controls: Option<Vec<Control>>,
    draws: Vec<Draw>,
}

impl Preparation {
    pub(super) fn of(
        session: &Session,
        corpus: &CorpusWalk,
        setup: &Setup,
        walks: &mut Walks,
    ) -> Result<Self> {
        let mut plan = Self::published(corpus, setup);
        if !setup.anywhere.at_published_place() {
            plan.at_another_place(session, corpus, setup, walks)?;
        }
        plan.add(session, setup);
        Ok(plan)
    }

    /// The published experiment.
    fn published(corpus: &CorpusWalk, setup: &Setup) -> Self {
        let samples = Detections::collect(&corpus.layers(setup.nsamples));
        let (summary, reference) = (Summary::clean(&samples), Summary::reference(&samples));
        let dimensions = if setup.reference {
            reference.dimensions.clone()
        } else {
            summary.dimensions.clone()
        };
        let mut plan = Self {
            dimensions,
            layers: Vec::new(),
            means: Vec::new(),
            interventions: Vec::new(),
            controls: None,
            draws: Vec::new(),
            summary,
            reference,
        };
        let Some(first_layer) = plan.summary.first_layer else {
            return plan;
        };
        plan.layers = match &setup.layers {
            WrittenLayers::First => vec![first_layer],
            WrittenLayers::All => {
                let layers = samples.iter().flat_map(|sequence| &sequence.layers);
                let layers: BTreeSet<usize> = layers.map(|found| found.layer).collect();
                layers.into_iter().collect()
            }
            WrittenLayers::Listed(layers) => layers.iter().copied().collect(),
        };
        plan.interventions(corpus.first(setup.calibration_nsamples), setup);
        plan
    }

    fn interventions(&mut self, calibration: &[Option<FirstMassive>], setup: &Setup) {
        self.means = interventions::means(calibration, &self.dimensions);
        let mut means = interventions::set_to_means(calibration, &self.means);
        if setup.reference {
            interventions::in_order_of_appearance(calibration, &mut means);
        }
        self.write(means, setup);
    }

    /// Zero, means, constants and noise in the dimensions.
    fn write(&mut self, means: Vec<Intervention>, setup: &Setup) {
        let everywhere = |name, rule| Intervention::everywhere(name, &self.dimensions, rule);
        self.interventions = vec![everywhere("set_to_zero".to_owned(), Rule::Value(0.0))];
        self.interventions.extend(means);
        let constants = setup
            .constants
            .iter()
            .map(|value| everywhere(format!("set_to_{value}"), Rule::Value(f64::from(*value))));
        let noise = setup
            .noise
            .iter()
            .map(|deviation| everywhere(format!("noise_{deviation}"), Rule::Noise(*deviation)));
        for intervention in constants.chain(noise) {
            let doubled = |other: &Intervention| other.name == intervention.name;
            if !self.interventions.iter().any(doubled) {
                self.interventions.push(intervention);
            }
        }
    }

    /// Layers, dimensions and means of a place that is not the published one.
    fn at_another_place(
        &mut self,
        session: &Session,
        corpus: &CorpusWalk,
        setup: &Setup,
        walks: &mut Walks,
    ) -> Result<()> {
        let (place, spec) = (&setup.anywhere, &session.model().spec);
        if !place.site.per_layer() {
            self.layers = vec![0];
        } else if let WrittenLayers::Listed(layers) = &setup.layers {
            self.layers = layers.iter().copied().collect();
        }
        if self.layers.is_empty() {
            return Err(Error::usage(
                "--layers",
                "no layer has massive activations in the corpus, so that none is the first",
            )
            .remedy("name the layers, such as --layers 3"));
        }
        place.check_layers(spec, &self.layers)?;
        let width = place.narrowest(spec, &self.layers);
        match &place.dimensions {
            Dimensions::Massive => {}
            Dimensions::Listed(listed) => self.dimensions = listed.iter().copied().collect(),
            Dimensions::Random { count, draws } => {
                self.draw(
                    width,
                    &self.spared(place, spec),
                    (*count, *draws),
                    setup.seed,
                );
            }
        }
        if self.dimensions.is_empty() {
            return Err(
                Error::usage("--dimensions massive", "nothing is massive in the corpus")
                    .remedy("name some, such as --dimensions 0,5, or --dimensions random:2"),
            );
        }
        let sequences = &place.calibration;
        let found = corpus.first(sequences.len());
        let positions = sequences.iter().enumerate().map(|(index, ids)| {
            place.positions.of(session, ids).unwrap_or_else(|| {
                let first = found.get(index).and_then(Option::as_ref);
                first
                    .map(|first| first.positions.clone())
                    .unwrap_or_default()
            })
        });
        let positions: Vec<Vec<usize>> = positions.collect();
        let read = (place.site, &self.layers[..], &self.dimensions[..]);
        self.means = further::means(session, sequences, &positions, read)?;
        walks.corpus += 1;
        let means = self.layers.iter().map(|layer| {
            let values = |starting: bool| {
                let own = self.means.iter();
                let own = own.filter(|mean| (mean.layer, mean.starting) == (*layer, starting));
                own.map(|mean| (mean.dimension, Rule::Value(mean.mean)))
                    .collect()
            };
            Intervention {
                name: format!("set_to_mean_{layer}"),
                starting: values(true),
                nonstarting: values(false),
                ..Intervention::default()
            }
        });
        let means = means.collect();
        self.write(means, setup);
        let others = self.draws.iter().skip(1).map(|draw| {
            let zero = Rule::Value(0.0);
            Intervention::everywhere(draw.intervention.clone(), &draw.dimensions, zero)
        });
        let others: Vec<Intervention> = others.collect();
        self.interventions.extend(others);
        Ok(())
    }

    /// Draws random dimensions. The first are those of all interventions; the others, with the seeds that
    /// follow, are set to zero.
    fn draw(&mut self, width: usize, spared: &[usize], (count, draws): (usize, usize), seed: u64) {
        let draws = (0..draws).map(|number| Draw {
            intervention: match number {
                0 => "set_to_zero".to_owned(),
                _ => format!("set_to_zero_draw_{}", number + 1),
            },
            dimensions: drawn(width, spared, count, seed.wrapping_add(number as u64)),
        });
        self.draws = draws.collect();
        let first = self.draws.first();
        self.dimensions = first.map_or_else(Vec::new, |draw| draw.dimensions.clone());
    }

    /// Dimensions that random ones must not be: massive ones, where columns are dimensions of the stream.
    fn spared(&self, place: &Anywhere, spec: &DecoderSpec) -> Vec<usize> {
        match place.site.is_of_stream(spec) {
            true => self.summary.dimensions.clone(),
            false => Vec::new(),
        }
    }

    /// Shuffled and clipped values, heads and controls.
    fn add(&mut self, session: &Session, setup: &Setup) {
        let place = &setup.anywhere;
        if place.controls > 0 {
            self.controls = Some(Vec::new());
        }
        let writes = !self.layers.is_empty() && !self.dimensions.is_empty();
        if writes {
            let everywhere = |name, rule| Intervention::everywhere(name, &self.dimensions, rule);
            let shuffle = place
                .shuffle
                .then(|| everywhere("shuffle".to_owned(), Rule::Shuffle));
            let clipped = place.clip.iter();
            let clipped = clipped.map(|most| everywhere(format!("clip_{most}"), Rule::Clip(*most)));
            let more: Vec<Intervention> = shuffle.into_iter().chain(clipped).collect();
            self.interventions.extend(more);
        }
        for heads in &place.heads {
            let names: Vec<String> = heads.iter().map(|(l, h)| format!("{l}.{h}")).collect();
            self.interventions.push(Intervention {
                name: format!("head_off_{}", names.join("_")),
                heads: heads.clone(),
                ..Intervention::default()
            });
        }
        if writes {
            self.control(place, session, setup.seed);
        }
    }

    /// As many values set to zero elsewhere: in other dimensions, and on other tokens.
    fn control(&mut self, place: &Anywhere, session: &Session, seed: u64) {
        let zero = |name: &str, dimensions: &[usize]| {
            Intervention::everywhere(name.to_owned(), dimensions, Rule::Value(0.0))
        };
        let spec = &session.model().spec;
        let width = place.narrowest(spec, &self.layers);
        let mut spared = self.spared(place, spec);
        spared.extend(&self.dimensions);
        let (mut interventions, mut controls) = (Vec::new(), Vec::new());
        // Behind the seeds of the draws.
        let seed = seed.wrapping_add(self.draws.len().saturating_sub(1) as u64);
        for number in 1..=place.controls {
            let seed = seed.wrapping_add(number as u64);
            let dimensions = drawn(width, &spared, self.dimensions.len(), seed);
            let name = format!("zero_random_dimensions_{number}");
            interventions.push(zero(&name, &dimensions));
            controls.push(Control {
                intervention: name,
                random: Drawn::Dimensions,
                dimensions,
            });
        }
        for number in 1..=place.controls {
            // Of all tokens there are no others.
            if place.positions == Positions::All {
                break;
            }
            let name = format!("zero_random_tokens_{number}");
            interventions.push(Intervention {
                elsewhere: Some(seed.wrapping_add(number as u64)),
                ..zero(&name, &self.dimensions)
            });
            controls.push(Control {
                intervention: name,
                random: Drawn::Tokens,
                dimensions: self.dimensions.clone(),
            });
        }
        self.interventions.extend(interventions);
        if let Some(all) = &mut self.controls {
            all.extend(controls);
        }
    }

    pub(super) fn result(&self, setup: &Setup, walks: Walks) -> InterventionAnalysis {
        let first_layer = self.summary.first_layer;
        let mut reference_differs = Vec::new();
        if self.summary.dimensions != self.reference.dimensions {
            reference_differs.push("dimensions");
        }
        if setup.layers != WrittenLayers::First && first_layer.is_some() {
            reference_differs.push("layers");
        }
        if setup.positions_from != PositionsFrom::Own && first_layer.is_some() {
            reference_differs.push("positions");
        }
        let measured: BTreeSet<usize> = self.means.iter().map(|mean| mean.dimension).collect();
        let missing = self.dimensions.iter().filter(|d| !measured.contains(d));
        InterventionAnalysis {
            first_layer,
            dimensions: self.dimensions.clone(),
            dimensions_union: self.summary.dimensions.clone(),
            dimensions_reference: self.reference.dimensions.clone(),
            reference_differs,
            layers_written: self.layers.clone(),
            interventions: Vec::new(),
            perplexity: BTreeMap::new(),
            nll: BTreeMap::new(),
            impact: BTreeMap::new(),
            ratios: BTreeMap::new(),
            ratios_treated: BTreeMap::new(),
            windows_treated: BTreeMap::new(),
            nll_by_window: BTreeMap::new(),
            missing_dimensions: missing.copied().collect(),
            means: self.means.clone(),
            evaluation: Vec::new(),
            tasks: Vec::new(),
            tasks_mean: BTreeMap::new(),
            walks,
            place: (!setup.anywhere.at_published_place()).then(|| Place {
                site: setup.anywhere.site,
                positions: setup.anywhere.positions.name(),
                dimensions: setup.anywhere.dimensions.name(),
                draws: match self.draws.as_slice() {
                    [_] => Vec::new(),
                    several => several.to_vec(),
                },
            }),
            controls: self.controls.clone(),
            log: Vec::new(),
        }
    }
}
