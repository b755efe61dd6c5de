//! The first tokens of a long text, without tokenising the rest.

use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizer};

use super::{
    Tokenizer,
    seam::{Kept, Seams},
    unusable,
};
use crate::error::Result;

/// Bytes of text that a token takes at first guess; English has fewer in most vocabularies.
const BYTES_PER_TOKEN: usize = 5;
/// The least that is added when the start was too short.
const STEP: usize = 1 << 12;

/// The first ids of a text, at least `count`; none where only the whole text tells them, or where it is
/// hardly longer than the part that would be read.
pub(super) fn encode(tokenizer: &Tokenizer, text: &str, count: usize) -> Result<Option<Vec<u32>>> {
    let mut seams = Seams::new(&tokenizer.inner);
    let mut from = count.saturating_mul(BYTES_PER_TOKEN);
    loop {
        // What was in vain costs less than half as much as the whole.
        let Some((end, kept)) = (from < text.len() / 2)
            .then(|| seams.find(text, from))
            .flatten()
            .filter(|(end, _)| *end < text.len() / 2)
        else {
            return Ok(None);
        };
        let (mut ids, in_last) = tokenizer.interruptible(&text[..end], pieces)?;
        if kept == Kept::Pieces {
            ids.truncate(ids.len() - in_last);
        }
        if ids.len() >= count {
            return Ok(Some(ids));
        }
        // As much as is missing at the rate so far, and a little more.
        let wanted = (end as f64 * count as f64 / ids.len().max(1) as f64 * 1.02) as usize;
        from = wanted.clamp(end + STEP, end.saturating_mul(4) + STEP);
    }
}

/// The ids of a text, and how many of them are the last piece's: the stages of
/// [`tokenizers::Tokenizer::encode_fast`], which keeps no account of pieces.
fn pieces(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<(Vec<u32>, usize)> {
    let mut pieces = tokenizer
        .get_added_vocabulary()
        .extract_and_normalize(tokenizer.get_normalizer(), text);
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer
            .pre_tokenize(&mut pieces)
            .map_err(|error| unusable(&error))?;
    }
    pieces
        .tokenize(|piece| tokenizer.get_model().tokenize(piece.get()))
        .map_err(|error| unusable(&error))?;
    let mut ids = Vec::new();
    let mut in_last = 0;
    for (_, _, tokens) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
        let before = ids.len();
        ids.extend(tokens.iter().flatten().map(|token| token.id));
        in_last = ids.len() - before;
    }
    Ok((ids, in_last))
}
