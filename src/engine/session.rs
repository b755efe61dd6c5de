//! The one door to the engine: a model on a device, within a budget of memory.
//!
//! What computes is hidden here, so that experiments are plain functions, compiled once. The session
//! also decides how many sequences walk through the model at once, and in which micro-batches: a run
//! that does not fit is split, and one that runs out of memory goes on in smaller parts.
#![forbid(unsafe_code)]

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fmt,
    ops::Range,
    time::Instant,
};

use super::{
    absent,
    batch::part_end,
    device::{Device, Place, Types},
    input,
    memory::{self, Fit, Footprint, Wants},
    observer::Observer,
    plan::{Outcome, Plan},
    schedule::{self, Part},
    waiting::Room,
};
use crate::{
    backend::{Backend, Precision, StoredTensors, cpu::Cpu, cuda::Cuda},
    error::{Error, Result},
    model::Model,
    progress::{self, Progress},
};

/// A model that is ready to run. Every walk through its layers is one call of [`Session::run`].
pub struct Session {
    model: Model,
    runner: Box<dyn Runner>,
    place: Place,
    /// Bytes that there are for everything; none where the system does not tell.
    free: Option<u64>,
    /// Bytes that streams and activations may take.
    budget: u64,
    /// Walks through the model that are done, and how many there will be.
    walks: Cell<Walks>,
    progress: Cell<Progress>,
    /// Rows of a micro-batch, and sequences at once, that the device was found to have memory for.
    most: Cell<(usize, usize)>,
    /// The estimate that was told last.
    told: RefCell<String>,
    /// What was told of sites that layers lack.
    lacking: RefCell<BTreeSet<String>>,
}

/// How far the walks through a model are.
#[derive(Debug, Clone, Copy, Default)]
struct Walks {
    done: usize,
    expected: usize,
    /// Whether several were said to come.
    again: bool,
    /// When the first began.
    since: Option<Instant>,
}

/// A backend, whichever it is.
trait Runner {
    fn walk(
        &self,
        model: &Model,
        part: &Part<'_>,
        plan: &Plan,
        observer: &mut dyn Observer,
        progress: Progress,
    ) -> Result<Outcome>;
    fn footprint(&self, model: &Model, wants: Wants, rows: usize) -> Footprint;
    fn batch_rows(&self, width: usize) -> usize;
    fn precision(&self) -> Precision;
    fn keep_weights(&self, bytes: usize);
    fn arithmetic(&self) -> &dyn StoredTensors;
}

/// Backends of one kind, a card each; they compute in the same types, and there is one at least.
struct Several<B>(Vec<B>);

impl<B> Several<B> {
    fn first(&self) -> &B {
        &self.0[0]
    }
}

impl<B: Backend> Runner for Several<B> {
    fn walk(
        &self,
        model: &Model,
        part: &Part<'_>,
        plan: &Plan,
        observer: &mut dyn Observer,
        progress: Progress,
    ) -> Result<Outcome> {
        schedule::walk(&self.0, model, part, plan, observer, progress)
    }

    fn footprint(&self, model: &Model, wants: Wants, rows: usize) -> Footprint {
        // Those that have been found to need more need the most.
        let of = |backend| Footprint::on(backend, &model.spec, wants, rows);
        let most = self.0.iter().map(of).max_by_key(|most| most.fixed);
        let most = most.unwrap_or_else(|| of(self.first()));
        most.on_cards(self.0.len())
    }

    fn batch_rows(&self, width: usize) -> usize {
        // Cards of one kind have as much memory, and less is free on some.
        let rows = self.0.iter().map(|backend| backend.micro_batch_rows(width));
        rows.min().unwrap_or(1)
    }

    fn precision(&self) -> Precision {
        self.first().precision()
    }

    fn keep_weights(&self, bytes: usize) {
        for backend in &self.0 {
            backend.keep_weights(bytes);
        }
    }

    fn arithmetic(&self) -> &dyn StoredTensors {
        self.first()
    }
}

impl Session {
    /// The model on a device that is open. `budget` is what residual streams and one layer may take,
    /// in bytes; without one it is a share of what is free there.
    pub fn open(
        model: Model,
        device: &Device,
        types: Types,
        budget: Option<u64>,
        progress: Progress,
    ) -> Result<Self> {
        let precision = device.precision(types, &model)?;
        Ok(match device {
            Device::Cpu => {
                let free = memory::available();
                let cpu = Cpu::computing_in(precision);
                Self::on(model, cpu, Place::cpu(), budget, free, progress)
            }
            Device::Cuda(drivers) => {
                let drivers = drivers.iter();
                let cards: Vec<_> = drivers
                    .map(|driver| Cuda::sharing(driver.clone(), precision))
                    .collect();
                let free = cards.iter().map(|card| card.memory_bytes() as u64).min();
                Self::on_cards(model, cards, device.place(), budget, free, progress)
            }
        })
    }

    /// The model on the CPU.
    pub fn on_cpu(model: Model, progress: Progress) -> Self {
        let free = memory::available();
        Self::on(model, Cpu::new(), Place::cpu(), None, free, progress)
    }

    /// The model on a backend, of which `free` bytes can be had.
    pub fn on<B: Backend + 'static>(
        model: Model,
        backend: B,
        place: Place,
        budget: Option<u64>,
        free: Option<u64>,
        progress: Progress,
    ) -> Self {
        Self::on_cards(model, vec![backend], place, budget, free, progress)
    }

    /// The model on several cards that compute in the same types, one backend each and one at least. Of each,
    /// `free` bytes can be had, and the budget is for each of them.
    pub fn on_cards<B: Backend + 'static>(
        model: Model,
        cards: Vec<B>,
        place: Place,
        budget: Option<u64>,
        free: Option<u64>,
        progress: Progress,
    ) -> Self {
        Self {
            model,
            runner: Box::new(Several(cards)),
            place,
            free,
            budget: memory::budget(budget, free),
            walks: Cell::default(),
            most: Cell::new((usize::MAX, usize::MAX)),
            progress: Cell::new(progress),
            told: RefCell::default(),
            lacking: RefCell::default(),
        }
    }

    /// The decoder.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Where it computes.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where progress is shown.
    pub fn progress(&self) -> Progress {
        self.progress.get()
    }

    /// From now on shows progress there.
    pub fn show_in(&self, progress: Progress) {
        self.progress.set(progress);
    }

    /// The type of the arithmetic, as run.json says it.
    pub fn arithmetic(&self) -> String {
        self.place.arithmetic(self.runner.precision())
    }

    /// Types and device in one phrase: `bfloat16 on NVIDIA H100, float32 stream`.
    pub fn computed_in(&self) -> String {
        self.place.computed_in(self.runner.precision())
    }

    /// What measures and rescales stored tensors here.
    pub fn weights(&self) -> &dyn StoredTensors {
        self.runner.arithmetic()
    }

    /// The text of a token; without a tokenizer, its id.
    pub fn token(&self, id: u32) -> String {
        self.model.token(id)
    }

    /// Refuses, before any text is read, sequences of which not even one could run.
    pub fn check_memory(&self, tokens: usize, variants: usize) -> Result<()> {
        let wants = Wants {
            tokens,
            variants,
            ..Wants::default()
        };
        self.fit(1, wants).map(drop)
    }

    /// Says that so many walks are to come, as far as is known: if more than one, a card keeps as much of
    /// the weights as the streams leave room for.
    pub fn expect_walks(&self, count: usize) {
        let mut walks = self.walks.get();
        walks.expected = walks.expected.max(walks.done + count);
        walks.again |= count > 1;
        self.walks.set(walks);
    }

    /// Runs the model over the sequences and returns what the plan asks for. What is too large to
    /// return goes to the observer, which may also act.
    pub fn run(
        &self,
        sequences: &[Vec<u32>],
        plan: &Plan,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        input::check(&self.model, sequences, plan)?;
        self.tell_lacking(plan);
        let tokens = sequences.iter().map(Vec::len).max().unwrap_or(0);
        let wants = Wants {
            tokens,
            variants: plan.variants,
            looks_inside: plan.looks_inside(),
            statistics: Some(plan.statistics),
        };
        // As many of the longest have as many tokens.
        let rows: usize = sequences.iter().map(Vec::len).sum();
        let count = rows.div_ceil(tokens.max(1));
        let mut fit = self.fit(count, wants)?;
        self.tell(&fit, (sequences.len(), count), tokens, plan.variants);
        // Each part is a walk of its own.
        let parts = count.div_ceil(fit.part.max(1));
        self.keep_weights(&fit, count);
        let mut outcome = Outcome::default();
        let mut next = 0;
        self.expect_walks(1);
        self.expect_parts(parts);
        while next < sequences.len() {
            let most = fit.part.saturating_mul(tokens);
            let range = next..part_end(sequences, next, fit.rows, most);
            match self.walk(sequences, range.clone(), &fit, plan, observer) {
                Ok(found) => {
                    outcome.append(found);
                    next = range.end;
                }
                Err(error) if error.is_out_of_memory() => {
                    fit = self.smaller(&fit, wants, error)?;
                    self.keep_weights(&fit, count);
                }
                Err(error) if error.is_worth_repeating() => {
                    let more = format!("{error}: once more, with room for all");
                    self.progress.get().notice(&more);
                    fit = self.fit(count, wants)?;
                    self.keep_weights(&fit, count);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(outcome)
    }

    /// Says that the next run is of so many parts.
    fn expect_parts(&self, parts: usize) {
        let mut walks = self.walks.get();
        walks.expected += parts.saturating_sub(1);
        self.walks.set(walks);
    }

    /// Where the model walks again, keeps the weights that there is room for beside the streams.
    fn keep_weights(&self, fit: &Fit, sequences: usize) {
        let again = self.walks.get().again || fit.part < sequences;
        let left = self.free.unwrap_or(0);
        let left = left.saturating_sub(fit.footprint.total(fit.part));
        let bytes = if again { left } else { 0 };
        self.runner
            .keep_weights(usize::try_from(bytes).unwrap_or(usize::MAX));
    }

    fn walk(
        &self,
        sequences: &[Vec<u32>],
        range: Range<usize>,
        fit: &Fit,
        plan: &Plan,
        observer: &mut dyn Observer,
    ) -> Result<Outcome> {
        let part = Part {
            sequences,
            range,
            batch_rows: fit.rows,
            room: fit.room.unwrap_or(Room::ALL),
        };
        let mut walks = self.walks.get();
        let since = *walks.since.get_or_insert_with(Instant::now);
        let progress = self.progress.get().of_walk(progress::Part {
            done: walks.done,
            of: walks.expected,
            since,
        });
        let model = &self.model;
        let mut outcome = self.runner.walk(model, &part, plan, observer, progress)?;
        outcome.walks = 1;
        walks.done += 1;
        self.walks.set(walks);
        Ok(outcome)
    }

    /// How many sequences walk at once, and in which micro-batches: those that the device is
    /// efficient at, or smaller ones where not even one of those fits.
    fn fit(&self, sequences: usize, wants: Wants) -> Result<Fit> {
        let Wants {
            tokens, variants, ..
        } = wants;
        let width = memory::token_width(&self.model.spec);
        let all = sequences.saturating_mul(tokens).max(1);
        let (most_rows, most_sequences) = self.most.get();
        let mut rows = self.runner.batch_rows(width).min(all).min(most_rows);
        loop {
            let footprint = self.footprint(wants, rows);
            let fit = |part: usize, room| Fit {
                footprint,
                rows,
                part: part.min(sequences.max(1)).min(most_sequences),
                room,
            };
            let part = footprint.part(sequences, self.budget);
            if let Some(part) = part {
                let room = (part < sequences)
                    .then(|| self.instead_of_parts(&fit(part, None), sequences, wants));
                return Ok(match room.flatten() {
                    Some(room) => fit(sequences, Some(room)),
                    None => fit(part, None),
                });
            }
            if footprint.batch == 1 {
                if let Some(room) = self.room(&footprint, wants) {
                    let of_sequence = self.on_host(footprint.streams_of_batch);
                    let part = (room.host / of_sequence.max(1)).max(1);
                    return Ok(fit(usize::try_from(part).unwrap_or(usize::MAX), Some(room)));
                }
                return Err(memory::refusal(&footprint, self.budget, tokens, variants));
            }
            rows = footprint.batch / 2 * tokens;
        }
    }

    /// Room for streams that wait, where the device holds those that are computed and not all others.
    fn room(&self, footprint: &Footprint, wants: Wants) -> Option<Room> {
        if !memory::may_wait(&self.model.spec, wants.tokens) {
            return None;
        }
        let one = footprint.streams_of_batch / (1 + wants.variants as u64);
        // A stream, and a branch that is split off it.
        let computed = one.saturating_mul(1 + wants.variants.min(1) as u64);
        let device = self.budget.checked_sub(footprint.fixed)?;
        let device = device.checked_sub(computed)?;
        // The CPU's memory is the host's, of which the budget is a share already.
        let on_card = self.place.card.is_some();
        let host = if on_card {
            memory::budget(None, memory::available())
        } else {
            0
        };
        Some(Room { device, host })
    }

    /// The room with which one walk moves fewer bytes than the walks of `fit` do, which read the weights again
    /// and again: streams that wait on the host go there and come back in every layer.
    fn instead_of_parts(&self, fit: &Fit, sequences: usize, wants: Wants) -> Option<Room> {
        let room = self.room(&fit.footprint, wants)?;
        let spec = &self.model.spec;
        let streams = fit.footprint.total(sequences) - fit.footprint.fixed;
        let away = self.on_host(streams.saturating_sub(room.device));
        // Of all cards together.
        let away = away.saturating_mul(fit.footprint.cards as u64);
        let moved = away.saturating_mul(2 * spec.layers.len() as u64);
        let again = sequences.div_ceil(fit.part) as u64 - 1;
        let weights = memory::walked_weights(self.runner.precision(), spec);
        (away <= room.host && moved < again.saturating_mul(weights)).then_some(room)
    }

    /// Bytes on the host of streams that take so many on the device.
    fn on_host(&self, streams: u64) -> u64 {
        let size = self.runner.precision().residual().size() as u64;
        streams / size * size_of::<f32>() as u64
    }

    /// What to go on with after the device ran out of memory: half the micro-batch, and when that is
    /// one sequence, half as many sequences at once.
    fn smaller(&self, fit: &Fit, wants: Wants, error: Error) -> Result<Fit> {
        let tokens = wants.tokens;
        let batch = fit.footprint.batch.min(fit.part);
        let smaller = if batch > 1 {
            let rows = batch / 2 * tokens;
            self.most.set((rows, self.most.get().1));
            Fit {
                footprint: self.footprint(wants, rows),
                rows,
                part: fit.part,
                room: fit.room,
            }
        } else if let Some(room) = fit.room.filter(|room| room.device > 0) {
            Fit {
                room: Some(Room {
                    device: room.device / 2,
                    ..room
                }),
                ..*fit
            }
        } else if fit.part > 1 {
            self.most.set((self.most.get().0, fit.part / 2));
            Fit {
                part: fit.part / 2,
                ..*fit
            }
        } else {
            let needed = memory::human(fit.footprint.total(1));
            return Err(error.remedy(format!(
                "one sequence of {tokens} tokens needs about {needed}; use a shorter \
                 --context-length, a 16-bit --dtype, or --device cpu"
            )));
        };
        self.progress.get().notice(&format!(
            "out of memory on {}: going on with micro-batches of {}, {} at once",
            self.place.name(),
            memory::count(smaller.footprint.batch, "sequence"),
            memory::count(smaller.part, "sequence"),
        ));
        Ok(smaller)
    }

    fn footprint(&self, wants: Wants, rows: usize) -> Footprint {
        self.runner.footprint(&self.model, wants, rows)
    }

    /// What was said of layers that lack what was asked for.
    pub fn lacking(&self) -> Vec<String> {
        self.lacking.borrow().iter().cloned().collect()
    }

    /// Says which layers lack what the plan asks for, once.
    fn tell_lacking(&self, plan: &Plan) {
        for notice in absent::notices(&self.model.spec, plan) {
            if self.lacking.borrow_mut().insert(notice.clone()) {
                self.progress.get().notice(&notice);
            }
        }
    }

    /// Says what the run needs, once.
    fn tell(&self, fit: &Fit, sequences: (usize, usize), tokens: usize, variants: usize) {
        let text = fit.text(sequences, tokens, variants);
        if *self.told.borrow() != text {
            self.progress.get().notice(&text);
            self.told.replace(text);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Session({}, {:?})",
            self.model.spec.model_type, self.place
        )
    }
}
