//! The second pass: maps, and what some keys give to the output and the others.
#![forbid(unsafe_code)]

use super::{
    super::{
        Address, Argument, Buffer, Device, Tensor,
        constants::{CAPTURE_THREADS, MAP_TILE, SUBSET_QUERIES},
        tensors::int,
    },
    Call,
    arguments::{Arguments, MapArguments, SinkArguments, SubsetArguments},
    plan,
    tiles::Tiles,
};
use crate::{
    backend::{AttentionMaps, KeyMask, OutputParts, Rows},
    error::Result,
};

/// What each key receives, of all sequences.
struct Sinks {
    /// `[heads, rows]`
    mass: Vec<f32>,
    /// `[heads, rows]`: the largest logit.
    peak: Vec<f32>,
    /// `[heads, sequences]`, of the extra key.
    extra_mass: Vec<f32>,
    extra_peak: Vec<f32>,
}

impl<D: Device> Call<'_, D> {
    /// The maps that were asked for, of every sequence.
    pub(super) fn maps(&self) -> Result<Vec<AttentionMaps>> {
        let capture = self.request.capture;
        let sinks = capture.sink.then(|| self.sinks()).transpose()?;
        let chosen = self.request.chosen.filter(|_| capture.sink);
        let choice = chosen.map(|mask| mask.on_host(self.cuda)).transpose()?;
        let sequences = self.sequences.iter().enumerate();
        sequences
            .map(|(index, rows)| {
                let mut maps = if capture.mean || capture.heads {
                    self.squares(rows)?
                } else {
                    AttentionMaps::default()
                };
                if let Some(sinks) = &sinks {
                    maps.sink_mass = Some(self.mass_of(sinks, index, rows));
                    maps.viewers = Some(self.viewers(choice.as_ref(), rows));
                    maps.max_logit = Some(self.largest_of(sinks, index, rows));
                }
                Ok(maps)
            })
            .collect()
    }

    /// Logits and probabilities of one sequence, as means over heads, per head, or both.
    fn squares(&self, rows: &Rows) -> Result<AttentionMaps> {
        let (capture, heads, length) = (self.request.capture, self.request.heads, rows.len());
        let size = length * self.request.map_columns(length);
        let room = |wanted: bool, count: usize| wanted.then(|| self.floats(count)).transpose();
        let probs_mean = room(capture.mean, size)?;
        let logits_mean = room(capture.mean, size)?;
        let probs = room(capture.heads, heads * size)?;
        let logits = room(capture.heads, heads * size)?;
        let address =
            |buffer: &Option<Buffer<D>>| buffer.as_ref().map_or(Address::NULL, Buffer::address);
        let none = Tiles::new(self.cuda, &[], 1, |_, _| 0)?;
        let arguments = MapArguments {
            attention: self.arguments(&none)?,
            start: int(rows.start)?,
            length: int(length)?,
            probs_mean: address(&probs_mean),
            logits_mean: address(&logits_mean),
            probs: address(&probs),
            logits: address(&logits),
        };
        if self.hopper.is_some() {
            self.maps_on_hopper(rows, arguments)?;
        } else {
            let tiles = length.div_ceil(MAP_TILE) as u32;
            self.launch(
                "maps",
                [tiles, tiles, 1],
                (CAPTURE_THREADS, plan::map_shared_bytes(self.inputs.dtype)),
                Argument::of(&arguments),
            )?;
        }
        let read = |buffer: Option<Buffer<D>>, count: usize| {
            buffer
                .map(|buffer| self.cuda.fetch(&buffer, count))
                .transpose()
        };
        Ok(AttentionMaps {
            probs_mean: read(probs_mean, size)?,
            logits_mean: read(logits_mean, size)?,
            probs: read(probs, heads * size)?,
            logits: read(logits, heads * size)?,
            ..AttentionMaps::default()
        })
    }

    fn sinks(&self) -> Result<Sinks> {
        let (heads, dtype) = (self.request.heads, self.inputs.dtype);
        let (keys, extra) = (heads * self.inputs.rows, heads * self.sequences.len());
        let buffers = [keys, keys, extra, extra].map(|count| self.floats(count));
        let [mass, peak, extra_mass, extra_peak] = buffers;
        let (mass, peak, extra_mass, extra_peak) = (mass?, peak?, extra_mass?, extra_peak?);
        let tiles = if self.hopper.is_some() {
            self.key_tiles_on_hopper()?
        } else {
            let size = plan::sink_keys(dtype);
            Tiles::new(self.cuda, self.sequences, size, |first, length| {
                self.request.viewers(first, length)
            })?
        };
        let arguments = SinkArguments {
            attention: self.arguments(&tiles)?,
            mass: mass.address(),
            peak: peak.address(),
            extra_mass: extra_mass.address(),
            extra_peak: extra_peak.address(),
            sequences: int(self.sequences.len())?,
        };
        if self.hopper.is_some() {
            self.sink_on_hopper(&tiles, arguments)?;
        } else {
            self.launch(
                "sink",
                [heads as u32, tiles.count, 1],
                (CAPTURE_THREADS, plan::sink_shared_bytes(dtype)),
                Argument::of(&arguments),
            )?;
        }
        Ok(Sinks {
            mass: self.cuda.fetch(&mass, keys)?,
            peak: self.cuda.fetch(&peak, keys)?,
            extra_mass: self.cuda.fetch(&extra_mass, extra)?,
            extra_peak: self.cuda.fetch(&extra_peak, extra)?,
        })
    }

    /// `[heads, T]`, with the extra key's column first if there is one.
    fn mass_of(&self, sinks: &Sinks, sequence: usize, rows: &Rows) -> Vec<f32> {
        let (all, count) = (self.inputs.rows, self.sequences.len());
        let mut mass =
            Vec::with_capacity(self.request.heads * self.request.map_columns(rows.len()));
        for head in 0..self.request.heads {
            if self.request.kv_bias.is_some() {
                mass.push(sinks.extra_mass[head * count + sequence]);
            }
            mass.extend_from_slice(&sinks.mass[head * all..][rows.clone()]);
        }
        mass
    }

    /// How many queries of a sequence see each key.
    fn viewers(&self, choice: Option<&KeyMask>, rows: &Rows) -> Vec<u32> {
        let viewers = |key: usize| {
            let viewers = self.request.viewers(key, rows.len());
            let queries = key..key + viewers;
            match choice {
                None => viewers as u32,
                Some(choice) => queries
                    .filter(|query| choice.sees(rows.start + query, key))
                    .count() as u32,
            }
        };
        (0..rows.len()).map(viewers).collect()
    }

    /// `[heads]`
    fn largest_of(&self, sinks: &Sinks, sequence: usize, rows: &Rows) -> Vec<f32> {
        let (all, count) = (self.inputs.rows, self.sequences.len());
        let largest = |head: usize| {
            let own = &sinks.peak[head * all..][rows.clone()];
            let extra = self.request.kv_bias.as_ref();
            let extra = extra.map(|_| sinks.extra_peak[head * count + sequence]);
            own.iter()
                .copied()
                .chain(extra)
                .fold(f32::NEG_INFINITY, f32::max)
        };
        (0..self.request.heads).map(largest).collect()
    }

    /// What the keys of each sequence's list give, and what the others give.
    pub(super) fn parts(&self, keys: &[Vec<usize>]) -> Result<OutputParts<Tensor<D>>> {
        let (subset, rest) = (self.context()?, self.context()?);
        // A tile of keys may end behind the last row, and is read by whole words.
        let beyond = self.hopper.map_or(0, |plan| plan.keys.div_ceil(32));
        let mut listed = vec![0u32; self.inputs.rows.div_ceil(32) + beyond];
        for (rows, keys) in self.sequences.iter().zip(keys) {
            for key in keys {
                let row = rows.start + key;
                listed[row / 32] |= 1 << (row % 32);
            }
        }
        let listed = self.cuda.list(&listed)?;
        if let Some(plan) = &self.hopper {
            let out = [&subset, &rest].map(|part| part.buffer.address());
            self.parts_on_hopper(plan, listed.address(), out)?;
            return Ok(OutputParts { subset, rest });
        }
        let tiles = Tiles::new(
            self.cuda,
            self.sequences,
            SUBSET_QUERIES,
            |first, length| length.min(first + SUBSET_QUERIES) - self.request.visible(first).start,
        )?;
        let arguments = SubsetArguments {
            attention: Arguments {
                out: subset.buffer.address(),
                ..self.arguments(&tiles)?
            },
            listed: listed.address(),
            rest: rest.buffer.address(),
        };
        self.launch(
            "subset",
            [self.request.heads as u32, tiles.count, 1],
            (CAPTURE_THREADS, 0),
            Argument::of(&arguments),
        )?;
        Ok(OutputParts { subset, rest })
    }

    fn floats(&self, count: usize) -> Result<Buffer<D>> {
        self.cuda.buffer(count * size_of::<f32>())
    }
}
