//! What an experiment sees, and does, while the model runs.
//!
//! Whole tensors and attention maps are too large to keep and are handed over as they appear. For
//! interventions an experiment is shown each sequence's statistics right after a layer and answers
//! with data: values to read, and branches. A branch is the same sequence with some values of layer
//! outputs overwritten. It shares everything below its first overwritten layer with the original: its
//! residual stream is split off there and walks through the later layers beside the original, so
//! that the weights are read once for all of them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::{
    edit::Edit,
    head_outputs::HeadOutputs,
    site::Site,
    trace::{Source, Step},
};
use crate::{
    backend::{AttentionMaps, Change, Statistics},
    error::Result,
};

/// What attention makes of one sequence in a layer, `[tokens, columns]` each: through the output projection but
/// without its bias, and before any norm or factor on the way to the residual stream.
#[derive(Debug, Clone, Copy)]
pub struct AttentionParts<'a> {
    /// Width of a row.
    pub columns: usize,
    /// The sum of both parts.
    pub whole: &'a [f32],
    /// What the plan's keys give.
    pub followed: &'a [f32],
    /// What the others give, a sum of its own.
    pub rest: &'a [f32],
}

/// Someone who watches a run, and may act in it. Every method has a default that does nothing.
///
/// A walk that ran out of memory starts again in smaller parts, and one that found more massive values than there was
/// room for starts again with more: what is said a second time of a sequence and layer replaces what was said the
/// first time.
pub trait Observer {
    /// The `[rows, columns]` tensor of one sequence at a site of the plan's `raw`.
    fn tensor(
        &mut self,
        _site: Site,
        _layer: usize,
        _sequence: usize,
        _columns: usize,
        _values: &[f32],
    ) -> Result<()> {
        Ok(())
    }

    /// The attention maps of one sequence in a layer.
    fn attention(&mut self, _layer: usize, _sequence: usize, _maps: AttentionMaps) -> Result<()> {
        Ok(())
    }

    /// What attention makes of one sequence in a layer, whole and in parts.
    fn attention_parts(
        &mut self,
        _layer: usize,
        _sequence: usize,
        _parts: AttentionParts<'_>,
    ) -> Result<()> {
        Ok(())
    }

    /// What each head gives to one sequence in a layer.
    fn head_outputs(&mut self, _layer: usize, _sequence: usize, _found: HeadOutputs) -> Result<()> {
        Ok(())
    }

    /// What a step of a layer (layer, sequence) adds to the values that the plan traces, in their order; or
    /// the values, for the input and the output. The input comes first, and what was said of the layer
    /// before is void.
    fn step(&mut self, _place: (usize, usize), _step: Step, _values: &[f32]) {}

    /// A whole row of the stream that has traced values, at (layer, sequence, position): every layer's
    /// output, and the first one's input.
    fn row(&mut self, _place: (usize, usize, usize), _step: Step, _values: &[f32]) {}

    /// What a down projection of the layer's MLP reads at (layer, sequence, position), a row with traced
    /// values, and what comes of it: the MLP's output, or an expert's with its weight, before any norm or
    /// factor of the layer.
    fn source(
        &mut self,
        _place: (usize, usize, usize),
        _source: Source,
        _inner: &[f32],
        _output: &[f32],
    ) -> Result<()> {
        Ok(())
    }

    /// Whether [`Observer::actions`] is to be asked after this layer for some of these sequences.
    /// Asking brings the layer's statistics to the host at once; the plan must ask for those of
    /// [`Site::LayerOutput`].
    fn acts_at(&self, _layer: usize, _sequences: &[usize]) -> bool {
        false
    }

    /// What to do with this sequence, whose output of `layer` has these statistics.
    fn actions(&mut self, _layer: usize, _sequence: usize, _found: &Statistics) -> Result<Actions> {
        Ok(Actions::default())
    }

    /// Takes the values that [`Actions::read`] asked for, in that order.
    fn values(&mut self, _layer: usize, _sequence: usize, _values: &[f32]) {}

    /// The values of the plan's reading, in their order.
    fn reading(&mut self, _layer: usize, _sequence: usize, _values: &[f32]) {}

    /// The branches that leave a sequence before the first layer.
    fn first_branches(&mut self, _sequence: usize) -> Result<Vec<Branch>> {
        Ok(Vec::new())
    }

    /// Whether the original sequences are done before the first layer, and only branches walk.
    fn only_branches(&self) -> bool {
        false
    }

    /// The layer after which the original sequences are done, if that is not the last: then they
    /// have no likelihoods, and only branches go on.
    fn last_original_layer(&self) -> Option<usize> {
        None
    }
}

/// Watches nothing.
#[derive(Debug)]
pub struct Discard;

impl Observer for Discard {}

/// A value of a layer's output and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Overwrite {
    /// Token position in the sequence.
    pub position: usize,
    /// Index in the hidden state.
    pub dimension: usize,
    /// What becomes of it.
    pub change: Change,
}

/// A sequence that leaves the original after a layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Branch {
    /// Which intervention; branches of equal number walk in one micro-batch.
    pub variant: usize,
    /// What is written at the outputs of which layers, from the layer of the split on; of values
    /// listed twice the last counts. Layers below are past: what is listed for them is not written.
    pub overwrites: BTreeMap<usize, Vec<Overwrite>>,
    /// What is changed at other sites, or by other rules, of the layers behind the split.
    pub edits: Vec<Edit>,
    /// (layer, head) of attention heads whose output is zero, in layers behind the split; equal for all
    /// sequences of a variant.
    pub heads_off: Vec<(usize, usize)>,
}

/// What is to happen to a sequence after a layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Actions {
    /// (position, dimension) of values to read.
    pub read: Vec<(usize, usize)>,
    /// Variants that are split off here.
    pub branches: Vec<Branch>,
}

/// What became of a branch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BranchOutcome {
    /// The sequence that it is a variant of.
    pub sequence: usize,
    /// Its number.
    pub variant: usize,
    /// What its [`Branch::overwrites`] replaced, by layer and in their order.
    pub originals: BTreeMap<usize, Vec<f32>>,
    /// The NLL of tokens 1.., in nats; empty unless planned. Not checked for overflow: an
    /// intervention may write anything.
    pub token_nll: Vec<f32>,
}
