//! What a run needs in memory, known before it starts, and what there is.
#![forbid(unsafe_code)]

use std::{fs, path::Path};

use super::waiting::Room;
use crate::{
    backend::{Backend, Precision, StatisticsRequest},
    error::Error,
    model::spec::{Attention, DecoderSpec, Layer, Linear, Mixer, Mlp},
};

/// Without a stated budget, the share of the free memory that a run takes.
const SHARE: f64 = 0.8;

/// The budget where the system does not tell what is free.
const UNKNOWN: u64 = 4_000_000_000;

/// What memory depends on, beside the model.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Wants {
    /// Tokens of a sequence.
    pub tokens: usize,
    /// Branches of each, at most.
    pub variants: usize,
    /// Whether somebody looks into the MLPs, which then compute a micro-batch at once.
    pub looks_inside: bool,
    /// Which values are listed, if any are.
    pub statistics: Option<StatisticsRequest>,
}

/// Memory of a run over sequences of one length, in bytes on each card; the mapped weights come from the page
/// cache and are not part of it. An upper estimate: sums over tensors that do not all live at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// The weights of the layers that are there at once, in the arithmetic's type, and the activations of one micro-batch.
    pub fixed: u64,
    /// Residual streams of one micro-batch and its variants.
    pub streams_of_batch: u64,
    /// Sequences in a micro-batch.
    pub batch: usize,
    /// Cards that share the micro-batches.
    pub cards: usize,
}

impl Footprint {
    /// For sequences of which `wants` tells, in micro-batches of about `batch_rows` rows, with the weights of
    /// `layers` layers at a time.
    pub fn of(
        precision: Precision,
        layers: usize,
        spec: &DecoderSpec,
        wants: Wants,
        batch_rows: usize,
    ) -> Self {
        let Wants {
            tokens, variants, ..
        } = wants;
        let (arithmetic, residual) = (
            precision.arithmetic().size() as u64,
            precision.residual().size() as u64,
        );
        let batch = (batch_rows / tokens.max(1)).max(1);
        let rows = (batch as u64).saturating_mul(tokens as u64);
        let weights = spec.layers.iter().map(weights_of).max().unwrap_or(0);
        let per_layer = spec.embedding.per_layer.as_ref();
        let weights = weights + per_layer.map_or(0, |own| (own.width * spec.hidden_size) as u64);
        let in_mlp = match wants.looks_inside {
            true => rows,
            false => rows.min(mlp_rows(batch_rows) as u64),
        };
        let inside = |layer| {
            let (beside, mlp) = inner_widths(layer);
            let beside = rows.saturating_mul(beside as u64);
            beside.saturating_add(in_mlp.saturating_mul(mlp as u64))
        };
        let inside = spec.layers.iter().map(inside).max().unwrap_or(0);
        let inputs = (INPUTS * spec.hidden_size) as u64;
        let token = inputs * arithmetic + for_stream(spec) as u64 * residual;
        let stream = spec.state_width() as u64 * residual
            + carried_width(spec) as u64 * residual
            + choice_bytes(spec, tokens);
        let streams = stream.saturating_mul(1 + variants as u64);
        Self {
            fixed: rows
                .saturating_mul(token)
                .saturating_add(inside.saturating_mul(arithmetic))
                .saturating_add(weights.saturating_mul(layers as u64 * arithmetic)),
            streams_of_batch: rows.saturating_mul(streams),
            batch,
            cards: 1,
        }
    }

    /// The same for a backend: with the weights that it has at once, and its lists of massive values.
    pub fn on<B: Backend>(
        backend: &B,
        spec: &DecoderSpec,
        wants: Wants,
        batch_rows: usize,
    ) -> Self {
        let layers = 1 + usize::from(backend.loads_ahead());
        let own = Self::of(backend.held(), layers, spec, wants, batch_rows);
        let rows = own.batch.saturating_mul(wants.tokens);
        let listed = wants.statistics.map_or(0, |request| {
            backend.list_bytes(rows, widest(spec), &request)
        });
        Self {
            fixed: own.fixed.saturating_add(listed as u64),
            ..own
        }
    }

    /// The same where so many cards share the micro-batches, one at least.
    #[must_use]
    pub fn on_cards(self, cards: usize) -> Self {
        Self { cards, ..self }
    }

    /// For `sequences` sequences, on the card that has most of them.
    pub fn total(&self, sequences: usize) -> u64 {
        let batches = sequences.div_ceil(self.batch).div_ceil(self.cards) as u64;
        self.streams_of_batch
            .saturating_mul(batches)
            .saturating_add(self.fixed)
    }

    /// How many of the sequences to run at once, as many as the budget allows: whole micro-batches, so
    /// that every product has the shape, and every result the bits, that it has without a budget;
    /// parts of about equal size. None if not even one micro-batch fits.
    pub fn part(&self, sequences: usize, budget: u64) -> Option<usize> {
        let batches = sequences.div_ceil(self.batch).max(1);
        let most = budget.checked_sub(self.fixed)? / self.streams_of_batch.max(1);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let most = most.saturating_mul(self.cards).min(batches);
        let parts = (most > 0).then(|| batches.div_ceil(most))?;
        Some(batches.div_ceil(parts) * self.batch)
    }
}

/// How a run is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) footprint: Footprint,
    /// Rows of a micro-batch, as far as whole sequences allow.
    pub(super) rows: usize,
    /// Sequences that walk at once.
    pub(super) part: usize,
    /// For the streams that wait between layers, if not all of them stay on the device.
    pub(super) room: Option<Room>,
}

impl Fit {
    /// What it needs and how often the model is read, for people. `sequences` is how many there are, and
    /// how many of `tokens` tokens are as long together.
    pub(super) fn text(
        &self,
        (sequences, count_of_longest): (usize, usize),
        tokens: usize,
        variants: usize,
    ) -> String {
        let ragged = count_of_longest < sequences;
        let walks = match count_of_longest.div_ceil(self.part) {
            1 => "one walk through the model".to_owned(),
            walks if ragged => format!("about {walks} walks through the model"),
            walks => format!(
                "{walks} walks through the model, {} each",
                count(self.part, "sequence")
            ),
        };
        let needed = match self.room {
            None => human(self.footprint.total(self.part)),
            Some(room) => {
                let streams = self.footprint.total(self.part) - self.footprint.fixed;
                let away = human(streams.saturating_sub(room.device));
                let place = match room.host {
                    0 => "in a file",
                    _ => "on the host, or in a file what it has no room for",
                };
                let here = human(self.footprint.fixed.saturating_add(room.device));
                format!("{here}, of the streams {away} wait {place}")
            }
        };
        format!(
            "{} of {}{tokens} tokens{}: about {needed} of memory{}, {walks}",
            count(sequences, "sequence"),
            if ragged { "up to " } else { "" },
            variants_of_each(variants),
            match self
                .footprint
                .cards
                .min(self.part.div_ceil(self.footprint.batch))
            {
                0 | 1 => String::new(),
                cards => format!(" on each of {cards} cards"),
            },
        )
    }
}

/// Whether streams may wait elsewhere than on the device: those that carry nothing beside the residual stream.
pub(super) fn may_wait(spec: &DecoderSpec, tokens: usize) -> bool {
    carried_width(spec) == 0 && choice_bytes(spec, tokens) == 0
}

/// Bytes of the weights that one walk reads.
pub(super) fn walked_weights(precision: Precision, spec: &DecoderSpec) -> u64 {
    let size = |linear: &Linear| linear.in_features as u64 * linear.out_features as u64;
    let layers = spec.layers.iter().map(|layer| {
        let own: u64 = layer.linears().into_iter().map(size).sum();
        let experts = layer.experts().map_or(0, |experts| {
            let one: u64 = experts.expert.linears().into_iter().map(size).sum();
            one * experts.count as u64
        });
        own + experts
    });
    layers.sum::<u64>() * precision.arithmetic().size() as u64
}

/// Not even one sequence fits.
pub(super) fn refusal(footprint: &Footprint, budget: u64, tokens: usize, variants: usize) -> Error {
    Error::new(
        format!(
            "memory for sequences of {tokens} tokens{}",
            variants_of_each(variants)
        ),
        format!(
            "at least {} are needed and {} may be used",
            human(footprint.total(1)),
            human(budget)
        ),
    )
    .remedy("raise --memory-budget or lower --context-length")
}

fn variants_of_each(variants: usize) -> String {
    match variants {
        0 => String::new(),
        variants => format!(" and {} of each", count(variants, "variant")),
    }
}

/// `1 sequence`, `3 sequences`
pub(super) fn count(number: usize, thing: &str) -> String {
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

/// The budget: as asked for, or a share of what is free.
pub fn budget(asked: Option<u64>, free: Option<u64>) -> u64 {
    let automatic = || match free {
        Some(bytes) => (bytes as f64 * SHARE) as u64,
        None => UNKNOWN,
    };
    asked.unwrap_or_else(automatic)
}

/// Memory that can be had without swapping: the system's, within the control group's limit. Linux
/// only.
pub fn available() -> Option<u64> {
    let system = system_available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let group = Path::new("/sys/fs/cgroup");
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let limited = || {
        let limit = read("memory.max")?.trim().parse().ok()?;
        let used = read("memory.current")?.trim().parse().ok()?;
        Some(group_available(limit, used, &read("memory.stat")?))
    };
    Some(limited().map_or(system, |group: u64| group.min(system)))
}

fn system_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// What a control group has left; its page cache, which it counts as used, can be dropped.
fn group_available(limit: u64, used: u64, stat: &str) -> u64 {
    let cache: u64 = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| matches!(*name, "inactive_file" | "active_file"))
        .filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok())
        .sum();
    limit.saturating_sub(used.saturating_sub(cache))
}

/// What a layer's two parts read.
const INPUTS: usize = 2;
/// What a layer's two parts add to the residual stream, or what its experts add up.
const OUTPUTS: usize = 2;

/// Rows that an MLP computes at once, if that is more than a micro-batch: enough for products to be
/// efficient, and less than a long sequence has.
const MLP_ROWS: usize = 8192;

/// Rows that an MLP computes at once, where micro-batches have about `batch_rows`. Only a sequence that is
/// longer than either is computed in parts.
pub(super) fn mlp_rows(batch_rows: usize) -> usize {
    batch_rows.max(MLP_ROWS)
}

/// Values that a token has in a layer, beside its residual stream: the most that a layer takes.
pub fn token_width(spec: &DecoderSpec) -> usize {
    let layers = spec.layers.iter();
    let inner = layers.map(|layer| {
        let (beside, mlp) = inner_widths(layer);
        beside + mlp
    });
    INPUTS * spec.hidden_size + for_stream(spec) + inner.max().unwrap_or(0)
}

/// Values of a token, in the residual stream's type, that a layer has beside the stream: outputs of its
/// parts, and, where there are several streams, those that they become.
fn for_stream(spec: &DecoderSpec) -> usize {
    let mixed = match spec.streams() {
        1 => 0,
        _ => spec.state_width() + spec.hidden_size,
    };
    OUTPUTS * spec.hidden_size + mixed
}

/// The keys that an indexer picked for a token, which it carries until the next one picks: a bit each.
fn choice_bytes(spec: &DecoderSpec, tokens: usize) -> u64 {
    let attention = spec.layers.iter().flat_map(|layer| &layer.attention);
    let picks = attention
        .filter_map(Attention::indexer)
        .any(|indexer| indexer.most < tokens);
    if picks {
        4 * tokens.div_ceil(32) as u64
    } else {
        0
    }
}

/// What a token carries to later layers: keys and values, its embedding, and the other residual streams.
fn carried_width(spec: &DecoderSpec) -> usize {
    let layers = spec.layers.iter().enumerate();
    let attention = layers.filter_map(|(index, layer)| Some((index, layer.attention.as_ref()?)));
    attention
        .filter(|(index, _)| spec.shares_keys_of(*index))
        .map(|(_, attention)| attention.kv_heads * (attention.head_dim + attention.value_dim))
        .chain(spec.reads_embedding_again().then_some(spec.hidden_size))
        .chain(
            spec.embedding
                .others
                .iter()
                .map(|others| others.begin.len() * spec.hidden_size),
        )
        .sum()
}

/// Columns of the widest tensor that somebody may look at.
fn widest(spec: &DecoderSpec) -> usize {
    let linears = spec.layers.iter().flat_map(Layer::linears);
    let widest = linears.map(|linear| linear.out_features).max();
    widest.unwrap_or(0).max(spec.state_width())
}

fn weights_of(layer: &Layer) -> u64 {
    let size = |linear: &Linear| linear.in_features as u64 * linear.out_features as u64;
    let all: u64 = layer.linears().into_iter().map(size).sum();
    // Experts are loaded one at a time.
    let expert: u64 = match layer.experts() {
        Some(experts) => experts.expert.linears().into_iter().map(size).sum(),
        None => 0,
    };
    all + expert
}

/// Values that a token has inside the parts of a layer: those that all tokens have at once, and those of an MLP
/// that takes some rows at a time.
fn inner_widths(layer: &Layer) -> (usize, usize) {
    let attention = layer.attention.as_ref().map_or(0, |attention| {
        let indexer = attention.indexer().map_or(0, |indexer| {
            (indexer.heads + 1) * indexer.head_dim + indexer.heads
        });
        let compressed = attention.compressed.as_ref().map_or(0, |compressed| {
            // With queries, keys and outputs of entries once more.
            let beside = 2 * (attention.heads + 1) * attention.head_dim;
            compressed.inner_width() + beside
        });
        (attention.heads + attention.kv_heads) * (attention.head_dim + attention.value_dim)
            + indexer
            + compressed
    });
    let mixer = layer.mixer.as_ref().map_or(0, Mixer::inner_width);
    let mlp = match &layer.mlp {
        Some(Mlp::Gated(mlp)) => 2 * mlp.up.out_features,
        Some(Mlp::Plain { up, .. } | Mlp::Xielu { up, .. }) => up.out_features,
        _ => 0,
    };
    let experts = match &layer.mlp {
        Some(Mlp::Experts(experts)) => {
            let shared = experts.shared.as_ref();
            let shared = shared.map_or(0, |shared| shared.mlp.up.out_features);
            2 * (experts.expert.up.out_features + shared)
        }
        // And what the two read and add up.
        Some(Mlp::SideBySide(both)) => {
            let inner = both.experts.expert.up.out_features + both.dense.up.out_features;
            2 * (inner + both.dense.up.in_features)
        }
        _ => 0,
    };
    let per_layer = layer.per_layer.as_ref();
    let per_layer = per_layer.map_or(0, |input| 3 * input.gate.out_features);
    // The stream beside the embedding and their norm, and what its MLP makes on its way back to the stream.
    let side = layer.side.as_ref();
    let side = side.map_or(0, |side| 2 * side.norm.width + 2 * side.out.out_features);
    // A middle, and the outputs once more.
    let linears = layer.linears().into_iter();
    let low_rank = linears.filter_map(|linear| linear.low_rank.as_ref());
    let low_rank = low_rank.map(|both| both[1].in_features + both[1].out_features);
    let low_rank = low_rank.max().unwrap_or(0);
    // What the streams become before they are replaced.
    let altup = layer.altup.as_ref().map_or(0, |altup| {
        altup.router.out_features * altup.router.in_features
    });
    let beside = attention + mixer + experts + per_layer + side + low_rank + altup;
    (beside, mlp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOOTPRINT: Footprint = Footprint {
        fixed: 1000,
        streams_of_batch: 100,
        batch: 4,
        cards: 1,
    };

    #[test]
    fn parts_are_whole_micro_batches_of_about_equal_size() {
        // 10 micro-batches.
        for (budget, expected) in [
            (u64::MAX, Some(40)),
            (2000, Some(40)),
            (1999, Some(20)),
            (1450, Some(16)),
            (1100, Some(4)),
            (1099, None),
            (999, None),
        ] {
            assert_eq!(FOOTPRINT.part(38, budget), expected, "{budget}");
            if let Some(part) = expected {
                assert!(FOOTPRINT.total(part.min(38)) <= budget);
            }
        }
    }

    /// The budget is each card's, and the first one has the most.
    #[test]
    fn cards_share_the_micro_batches() {
        for (cards, budget, expected) in [
            (2, 1500, Some(40)),
            (2, 1499, Some(20)),
            (3, 1400, Some(40)),
            (3, 1399, Some(20)),
            (3, 1199, Some(12)),
            (20, 1100, Some(40)),
            (20, 1099, None),
        ] {
            let shared = FOOTPRINT.on_cards(cards);
            assert_eq!(shared.part(38, budget), expected, "{cards}, {budget}");
            if let Some(part) = expected {
                assert!(shared.total(part.min(38)) <= budget);
            }
        }
    }

    #[test]
    fn a_part_of_nothing() {
        assert_eq!(FOOTPRINT.part(0, 2000), Some(4));
    }

    #[test]
    fn what_is_available() {
        let meminfo = "MemTotal:       24 kB\nMemFree: 1 kB\nMemAvailable:       12 kB\n";
        assert_eq!(system_available(meminfo), Some(12 * 1024));
        assert_eq!(system_available("MemTotal: 24 kB\n"), None);
        let stat = "anon 600\nactive_file 100\ninactive_file 200\nfile 300\n";
        assert_eq!(group_available(1000, 900, stat), 400);
        assert_eq!(group_available(500, 900, "anon 900\n"), 0);
    }

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
        let footprint = Footprint {
            fixed: 900_000,
            streams_of_batch: 200_000,
            batch: 1,
            cards: 1,
        };
        assert_eq!(
            refusal(&footprint, 1_000_000, 4096, 2).to_string(),
            "memory for sequences of 4096 tokens and 2 variants of each: at least 1.1 MB are needed \
             and 1.0 MB may be used; raise --memory-budget or lower --context-length"
        );
    }

    #[test]
    fn tells_parts() {
        let fit = Fit {
            footprint: FOOTPRINT,
            rows: 4,
            part: 4,
            room: None,
        };
        assert_eq!(
            fit.text((10, 10), 8, 0),
            "10 sequences of 8 tokens: about 2 kB of memory, 3 walks through the model, 4 sequences each"
        );
        assert_eq!(
            fit.text((30, 10), 8, 0),
            "30 sequences of up to 8 tokens: about 2 kB of memory, about 3 walks through the model"
        );
        let on_cards = |part, cards| Fit {
            footprint: FOOTPRINT.on_cards(cards),
            part,
            ..fit
        };
        assert_eq!(
            on_cards(10, 2).text((10, 10), 8, 0),
            "10 sequences of 8 tokens: about 2 kB of memory on each of 2 cards, one walk through the model"
        );
        // More cards than micro-batches.
        assert_eq!(
            on_cards(10, 8).text((10, 10), 8, 0),
            "10 sequences of 8 tokens: about 2 kB of memory on each of 3 cards, one walk through the model"
        );
    }
}
