//! The one text of all checkpoints, read once, and tokenised once by each tokenizer.

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map},
    rc::Rc,
};

use super::super::args::TextArgs;
use crate::{
    data::{
        JoinedText, Provenance,
        sequences::{self, Cut, DefaultText, Sequences},
    },
    error::Result,
    model::Model,
    progress::Progress,
};

/// The file of a tokenizer, and how many tokens are needed.
type Encoded = (blake3::Hash, usize);

/// The text and how it is cut.
pub(super) struct CommonText {
    /// With the context length and the dataset that suit every checkpoint.
    pub(super) args: TextArgs,
    joined: JoinedText,
    /// The text's first token ids.
    encoded: RefCell<HashMap<Encoded, Rc<Vec<u32>>>>,
}

/// Windows of the text for one model.
pub(super) struct Windows {
    /// What is measured: the first windows of the text.
    pub(super) measured: Sequences,
    /// As many windows after them; where the text ends before, the measured ones.
    pub(super) calibration: Sequences,
    /// Whether the text has both.
    pub(super) apart: bool,
}

impl CommonText {
    /// Reads the text, whose arguments name the dataset and the context length, unless it is massact's
    /// choice.
    pub(super) fn load(
        args: TextArgs,
        default: Option<DefaultText>,
        progress: Progress,
    ) -> Result<Self> {
        Ok(Self {
            joined: match default {
                Some(default) => default.load(progress)?,
                None => sequences::text(&args.spec(false), progress)?,
            },
            args,
            encoded: RefCell::default(),
        })
    }

    /// Where it comes from.
    pub(super) fn source(&self) -> &Provenance {
        &self.joined.source
    }

    /// Up to `nsamples` windows to measure and as many to calibrate on.
    pub(super) fn windows(&self, model: &Model, nsamples: usize) -> Result<Windows> {
        let cut = Cut::of(&self.args.spec(false), model)?;
        let both = nsamples.saturating_mul(2);
        let ids = self.ids(model, cut.tokens(both))?;
        let mut measured = cut.sequences(&ids, self.joined.source.clone(), both)?;
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

    /// At least `count` of the text's first ids, or all.
    fn ids(&self, model: &Model, count: usize) -> Result<Rc<Vec<u32>>> {
        let tokenizer = sequences::tokenizer(model)?;
        match self.encoded.borrow_mut().entry((tokenizer.file(), count)) {
            hash_map::Entry::Occupied(known) => Ok(Rc::clone(known.get())),
            hash_map::Entry::Vacant(place) => {
                let ids = Rc::new(tokenizer.encode_start(&self.joined.text, count)?);
                Ok(Rc::clone(place.insert(ids)))
            }
        }
    }
}
