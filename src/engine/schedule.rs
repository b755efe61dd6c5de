//! The layer-major walk: one layer over all micro-batches, then the next.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, ops::Range, time::Instant};

use super::{
    batch::{Batch, batches},
    branch::BranchStream,
    cards::Cards,
    forward::{Forward, HeadStarted},
    input,
    layer::LayerWeights,
    memory,
    observer::{Branch, Observer},
    plan::{Outcome, Plan},
    probe::Probe,
    site::Site,
    stream::{Carried, Stream},
    waiting::{Room, Waiting, WaitingRoom},
};
use crate::{
    backend::{Backend, Statistics},
    error::Result,
    interrupt,
    model::Model,
    progress::{Bar, Progress},
};

/// What walks through the layers together.
pub(super) struct Part<'r> {
    /// All sequences of the run.
    pub(super) sequences: &'r [Vec<u32>],
    /// Those that walk.
    pub(super) range: Range<usize>,
    /// Rows of a micro-batch, as far as whole sequences allow.
    pub(super) batch_rows: usize,
    /// For streams that wait.
    pub(super) room: Room,
}

/// Runs all sequences in one walk on a backend that the caller has; experiments use a
/// [`Session`](super::Session) instead.
pub fn run<B: Backend>(
    backend: &B,
    model: &Model,
    sequences: &[Vec<u32>],
    plan: &Plan,
    observer: &mut dyn Observer,
    progress: Progress,
) -> Result<Outcome> {
    input::check(model, sequences, plan)?;
    let part = Part {
        sequences,
        range: 0..sequences.len(),
        batch_rows: backend.micro_batch_rows(memory::token_width(&model.spec)),
        room: Room::ALL,
    };
    let backends = std::slice::from_ref(backend);
    walk(backends, model, &part, plan, observer, progress)
}

/// One walk through the layers, on backends that compute in the same types; there is one at least.
pub(super) fn walk<B: Backend>(
    backends: &[B],
    model: &Model,
    part: &Part<'_>,
    plan: &Plan,
    observer: &mut dyn Observer,
    progress: Progress,
) -> Result<Outcome> {
    Walk::new(backends, model, part, plan, observer, progress)?.run()
}

/// A run under way.
struct Walk<'r, B: Backend> {
    cards: Cards<'r, B>,
    /// Of each card.
    forwards: Vec<Forward<'r, B>>,
    probe: Probe<'r, B>,
    /// The sequences' micro-batches and residual streams.
    streams: Vec<Waiting<B>>,
    branches: Vec<BranchStream<Waiting<B>>>,
    waiting_room: WaitingRoom<'r, B>,
    progress: Progress,
    started: Instant,
}

impl<'r, B: Backend> Walk<'r, B> {
    /// Embeds the sequences.
    fn new(
        backends: &'r [B],
        model: &'r Model,
        part: &Part<'r>,
        plan: &'r Plan,
        observer: &'r mut dyn Observer,
        progress: Progress,
    ) -> Result<Self> {
        let sequences = part.sequences;
        let started = Instant::now();
        let mlp_rows = memory::mlp_rows(part.batch_rows);
        let range = part.range.clone();
        let batches = batches(sequences, part.range.clone(), part.batch_rows);
        let cards = Cards::for_batches(backends, batches.len());
        let forward = Forward::new(cards.first(), model, plan, sequences, range, mlp_rows);
        let others = &cards.all()[1..];
        let others: Vec<_> = others.iter().map(|backend| forward.on(backend)).collect();
        let forwards: Vec<_> = [forward].into_iter().chain(others).collect();
        let mut probe = Probe::new(cards, &model.spec.layers, plan, observer, part.range.start);
        let width = model.spec.state_width();
        let mut waiting_room = WaitingRoom::new(cards, width, part.room);
        let (mut streams, mut branches) = (Vec::new(), Vec::new());
        for batch in batches {
            interrupt::check()?;
            let (backend, forward) = (cards.of(&batch), &forwards[cards.place(&batch)]);
            let hidden = forward.embed(&batch)?;
            probe.observe(Site::Embedding, 0, &batch, &hidden)?;
            let mut carried = Carried::new(forward.other_streams(&hidden)?);
            if model.spec.reads_embedding_again() {
                carried.embedding = Some(backend.duplicate(&hidden)?);
            }
            let hidden = forward.spread(hidden)?;
            let stream = Stream {
                batch,
                hidden,
                carried,
            };
            for branch in begin(backend, probe.observer(), &stream)? {
                branches.push(branch.with(|stream| waiting_room.leave(stream))?);
            }
            if !probe.observer().only_branches() {
                streams.push(waiting_room.leave(stream)?);
            }
        }
        Ok(Self {
            cards,
            forwards,
            probe,
            streams,
            branches,
            waiting_room,
            progress,
            started,
        })
    }

    fn run(mut self) -> Result<Outcome> {
        let (plan, model) = (self.forwards[0].plan, self.forwards[0].model);
        let layers = if plan.needs_layers() {
            model.spec.layers.len()
        } else {
            0
        };
        let last_original = self.probe.observer().last_original_layer();
        let bar = self.progress.walk((layers * self.streams.len()) as u64);
        let mut ahead = None;
        for index in 0..layers {
            if index + 1 < layers {
                model.weights.prefetch(&model.spec.layer_tensors(index + 1));
            }
            let weights = match ahead.take() {
                Some(weights) => weights,
                None => self.load(index)?,
            };
            if index + 1 < layers && self.cards.first().loads_ahead() {
                ahead = self.load_ahead(index + 1)?;
            }
            self.layer(index, &weights, &bar)?;
            drop(weights);
            model.weights.release(&model.spec.layer_tensors(index));
            if last_original == Some(index) {
                for stream in self.streams.drain(..) {
                    self.waiting_room.discard(stream);
                }
            }
            if self.streams.is_empty() && self.branches.is_empty() {
                break;
            }
            let left = layers - index - 1;
            let streams = self.streams.len() + self.branches.len();
            bar.set_length(bar.position() + (left * streams) as u64);
        }
        bar.finish_and_clear();
        self.finish()
    }

    /// Puts a layer on every card: its files are read for the first one, and the others find them in the
    /// system's cache.
    fn load(&self, index: usize) -> Result<Vec<LayerWeights<'r, B>>> {
        let cards = self.cards.all().iter();
        cards
            .map(|backend| LayerWeights::load(backend, self.forwards[0].model, index))
            .collect()
    }

    /// The next layer, whose weights come while this one computes; none where there is no memory for
    /// both, and it is loaded in its turn.
    fn load_ahead(&self, index: usize) -> Result<Option<Vec<LayerWeights<'r, B>>>> {
        match self.load(index) {
            Err(error) if error.is_out_of_memory() => Ok(None),
            loaded => loaded.map(Some),
        }
    }

    /// One layer over all streams, and what the observer does after it.
    fn layer(&mut self, index: usize, weights: &[LayerWeights<'r, B>], bar: &Bar) -> Result<()> {
        // First the branches that are there already: new ones have passed this layer.
        for branch in std::mem::take(&mut self.branches) {
            interrupt::check()?;
            let mut branch = branch.with(|stream| self.waiting_room.fetch(stream))?;
            self.compute(index, weights, &mut branch.stream)?;
            branch.overwrite(self.cards.of(&branch.stream.batch), index)?;
            let branch = branch.with(|stream| self.waiting_room.leave(stream))?;
            self.branches.push(branch);
            bar.inc(1);
        }
        let mut waiting = std::mem::take(&mut self.streams).into_iter();
        while waiting.len() > 0 {
            // One for each card: all compute before anything waits for one of them.
            let mut streams = Vec::new();
            for stream in waiting.by_ref().take(self.cards.count()) {
                interrupt::check()?;
                let mut stream = self.waiting_room.fetch(stream)?;
                self.compute(index, weights, &mut stream)?;
                streams.push(stream);
            }
            for stream in streams {
                self.look(index, &stream)?;
                self.streams.push(self.waiting_room.leave(stream)?);
                bar.inc(1);
            }
        }
        Ok(())
    }

    /// One micro-batch's pass through a layer.
    fn compute(
        &mut self,
        index: usize,
        weights: &[LayerWeights<'r, B>],
        stream: &mut Stream<B>,
    ) -> Result<()> {
        let place = self.cards.place(&stream.batch);
        weights[place].run(&self.forwards[place], index, stream, &mut self.probe)
    }

    /// What the observer does after a layer with a micro-batch that has passed it.
    fn look(&mut self, index: usize, stream: &Stream<B>) -> Result<()> {
        let (backend, batch) = (self.cards.of(&stream.batch), &stream.batch);
        self.probe.guard(index, batch, &stream.hidden)?;
        if !self.probe.observer().acts_at(index, &batch.sequences) {
            return Ok(());
        }
        let found = self.probe.read_of(Site::LayerOutput, index, batch)?;
        let observer = self.probe.observer();
        for branches in act(backend, observer, index, stream, &found)? {
            let mut branch = BranchStream::split(backend, stream, branches)?;
            branch.overwrite(backend, index)?;
            let branch = branch.with(|stream| self.waiting_room.leave(stream))?;
            self.branches.push(branch);
        }
        Ok(())
    }

    /// Final norm and head, and what was measured.
    fn finish(mut self) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let plan = self.forwards[0].plan;
        let head = if plan.needs_final_norm() {
            self.head(&mut outcome)
        } else {
            let branches = std::mem::take(&mut self.branches);
            let ends = branches.into_iter().flat_map(|branch| branch.finish().1);
            outcome.branches.extend(ends);
            Ok(())
        };
        interrupt::check()?;
        // Before the head's own error: what overflowed in a layer is reported with that layer.
        let found = self.probe.finish()?;
        head?;
        outcome.statistics = found.statistics;
        outcome.profiles = found.profiles;
        outcome.timings.statistics = found.time;
        outcome.spilled = self.waiting_room.spilled();
        outcome.timings.forward = self.started.elapsed().saturating_sub(found.time);
        Ok(outcome)
    }

    fn head(&mut self, outcome: &mut Outcome) -> Result<()> {
        let streams = std::mem::take(&mut self.streams);
        let branches = std::mem::take(&mut self.branches);
        let total = streams.len() + branches.len();
        let bar = self.progress.steps("head", total as u64);
        // As in a layer: all cards compute before anything waits for one of them.
        let mut waiting = streams.into_iter();
        while waiting.len() > 0 {
            let group = waiting.by_ref().take(self.cards.count());
            let started: Vec<_> = group
                .map(|stream| self.start_head(stream, &bar))
                .collect::<Result<_>>()?;
            for (batch, started) in started {
                let result = self.forward(&batch).read_head(&batch, started)?;
                outcome.token_nll.extend(result.token_nll);
                outcome.last_logits.extend(result.last_logits);
            }
        }
        // Of one card the branches follow each other, and what is left of them until they are read is small.
        let started = branches.into_iter().map(|branch| {
            let (stream, branches) = branch.finish();
            Ok((self.start_head(stream, &bar)?, branches))
        });
        let started: Vec<_> = started.collect::<Result<_>>()?;
        for ((batch, started), mut branches) in started {
            let result = self.forward(&batch).read_head(&batch, started)?;
            for (branch, nll) in branches.iter_mut().zip(result.token_nll) {
                branch.token_nll = nll;
            }
            outcome.branches.extend(branches);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// What runs a micro-batch.
    fn forward(&self, batch: &Batch) -> &Forward<'r, B> {
        &self.forwards[self.cards.place(batch)]
    }

    /// Starts the head of a stream.
    fn start_head(&mut self, stream: Waiting<B>, bar: &Bar) -> Result<(Batch, HeadStarted<B>)> {
        interrupt::check()?;
        let Stream {
            batch,
            hidden,
            carried,
        } = self.waiting_room.fetch(stream)?;
        let forward = &self.forwards[self.cards.place(&batch)];
        let hidden = forward.joined(hidden, carried.others)?;
        let started = forward.start_head(&batch, hidden, &mut self.probe)?;
        bar.inc(1);
        Ok((batch, started))
    }
}

/// Splits off what leaves a micro-batch before the first layer: one stream a variant.
fn begin<B: Backend>(
    backend: &B,
    acting: &mut dyn Observer,
    original: &Stream<B>,
) -> Result<Vec<BranchStream<Stream<B>>>> {
    let mut by_variant: BTreeMap<usize, Vec<(usize, Branch)>> = BTreeMap::new();
    for (place, sequence) in original.batch.sequences.iter().enumerate() {
        for branch in acting.first_branches(*sequence)? {
            let branches = by_variant.entry(branch.variant).or_default();
            branches.push((place, branch));
        }
    }
    let split = by_variant.into_values().map(|branches| {
        let mut branch = BranchStream::split(backend, original, branches)?;
        let Stream {
            batch,
            hidden,
            carried,
        } = &mut branch.stream;
        for embedding in [hidden].into_iter().chain(&mut carried.embedding) {
            batch.edit(backend, (Site::Embedding, 0), embedding)?;
        }
        Ok(branch)
    });
    split.collect()
}

/// Asks the observer about each sequence of a micro-batch, reads what it wants to see, and says what is to be
/// split off: the branches of each variant with the places of their sequences.
fn act<B: Backend>(
    backend: &B,
    acting: &mut dyn Observer,
    layer: usize,
    original: &Stream<B>,
    found: &[Statistics],
) -> Result<Vec<Vec<(usize, Branch)>>> {
    let batch = &original.batch;
    let mut by_variant: BTreeMap<usize, Vec<(usize, Branch)>> = BTreeMap::new();
    for (place, (sequence, found)) in batch.sequences.iter().zip(found).enumerate() {
        let actions = acting.actions(layer, *sequence, found)?;
        if !actions.read.is_empty() {
            let first = batch.rows[place].start;
            let cells: Vec<(usize, usize)> = actions
                .read
                .iter()
                .map(|&(position, dimension)| (first + position, dimension))
                .collect();
            acting.values(
                layer,
                *sequence,
                &backend.values_at(&original.hidden, &cells)?,
            );
        }
        for branch in actions.branches {
            let branches = by_variant.entry(branch.variant).or_default();
            branches.push((place, branch));
        }
    }
    Ok(by_variant.into_values().collect())
}
