//! The one text of all checkpoints, read once, and tokenised once by each tokenizer.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map},
    rc::Rc,
};

use super::super::{
    args::TextArgs,
    sequences::{self, Cut, Sequences},
};
use crate::{data::JoinedText, error::Result, model::Model, progress::Progress};

/// The text and how it is cut.
pub(super) struct CommonText {
    /// With the context length and the dataset that suit every checkpoint.
    pub(super) args: TextArgs,
    joined: JoinedText,
    /// Token ids by the tokenizer's file.
    encoded: RefCell<HashMap<blake3::Hash, Rc<Vec<u32>>>>,
}

/// Windows of the text for one model.
pub(super) struct Windows {
    /// What is measured: the first windows of the text.
    pub(super) measured: Sequences,
    /// As many windows behind them; where the text ends before, the measured ones.
    pub(super) calibration: Sequences,
    /// Whether the text has both.
    pub(super) apart: bool,
}

impl CommonText {
    /// Reads the text, whose arguments name the dataset and the context length.
    pub(super) fn load(args: TextArgs, progress: Progress) -> Result<Self> {
        Ok(Self {
            joined: sequences::text(&args, false, progress)?,
            args,
            encoded: RefCell::default(),
        })
    }

    /// Up to `nsamples` windows to measure and as many to calibrate on.
    pub(super) fn windows(&self, model: &Model, nsamples: usize) -> Result<Windows> {
        let cut = Cut::of(&self.args, model)?;
        let ids = self.ids(model)?;
        let source = || self.joined.source.clone();
        let mut measured = cut.sequences(&ids, source(), nsamples.saturating_mul(2))?;
        let behind = measured.ids.split_off(nsamples.min(measured.ids.len()));
        let apart = behind.len() == nsamples;
        let calibration = Sequences {
            ids: if apart { behind } else { measured.ids.clone() },
            context_length: measured.context_length,
            add_bos_token: measured.add_bos_token,
            provenance: measured.provenance.clone(),
        };
        Ok(Windows {
            measured,
            calibration,
            apart,
        })
    }

    fn ids(&self, model: &Model) -> Result<Rc<Vec<u32>>> {
        let tokenizer = sequences::tokenizer(model)?;
        match self.encoded.borrow_mut().entry(tokenizer.file()) {
            hash_map::Entry::Occupied(known) => Ok(Rc::clone(known.get())),
            hash_map::Entry::Vacant(place) => {
                let ids = Rc::new(tokenizer.encode(&self.joined.text)?);
                Ok(Rc::clone(place.insert(ids)))
            }
        }
    }
}
