//! What a run refuses before it starts.
#![forbid(unsafe_code)]

use super::{absent, plan::Plan};
use crate::{
    error::{Error, Result},
    model::Model,
};

/// Refuses sequences and sites that the model does not have, and a head that it lacks.
pub(super) fn check(model: &Model, sequences: &[Vec<u32>], plan: &Plan) -> Result<()> {
    check_sequences(model, sequences)?;
    check_scored(model, sequences, plan)?;
    absent::check(&model.spec, plan)?;
    if plan.needs_head() {
        // Before hours of work rather than after.
        model.head()?;
    }
    Ok(())
}

/// Refuses predictions that a sequence does not have.
fn check_scored(model: &Model, sequences: &[Vec<u32>], plan: &Plan) -> Result<()> {
    let Some(scored) = &plan.scored else {
        return Ok(());
    };
    if scored.len() != sequences.len() {
        return Err(Error::usage(
            "predictions",
            format!(
                "stated of {} sequences, but {} run",
                scored.len(),
                sequences.len()
            ),
        ));
    }
    for (index, (sequence, scored)) in sequences.iter().zip(scored).enumerate() {
        let next = scored
            .next
            .filter(|id| *id as usize >= model.spec.vocab_size);
        if scored.from >= sequence.len() || next.is_some() {
            return Err(Error::usage(
                format!("sequence {index}"),
                "it is to be scored where it has no token",
            ));
        }
    }
    Ok(())
}

/// Refuses sequences that the model cannot take.
fn check_sequences(model: &Model, sequences: &[Vec<u32>]) -> Result<()> {
    let spec = &model.spec;
    if sequences.is_empty() {
        return Err(Error::usage("input", "there is no sequence to run"));
    }
    for (index, sequence) in sequences.iter().enumerate() {
        if sequence.is_empty() {
            return Err(Error::usage(format!("sequence {index}"), "it has no token")
                .remedy("give at least one token id or some text"));
        }
        if let Some(token) = sequence
            .iter()
            .find(|token| **token as usize >= spec.vocab_size)
        {
            return Err(Error::usage(
                format!("sequence {index}"),
                format!(
                    "token id {token} is out of range, the model has {} tokens",
                    spec.vocab_size
                ),
            )
            .remedy(format!(
                "use ids from 0 to {}; if the tokenizer made it, it is of another model, and a start token \
                 can be left out with --add-bos-token false",
                spec.vocab_size - 1
            )));
        }
        let placeholders = &spec.embedding.placeholders;
        if let Some(token) = sequence.iter().find(|token| {
            let token = **token as usize;
            placeholders.iter().any(|tokens| tokens.contains(&token))
        }) {
            return Err(Error::usage(
                format!("sequence {index}"),
                format!(
                    "token id {token} stands for an image or a sound, which massact does not read"
                ),
            )
            .remedy("leave it out"));
        }
        if let Some((positions, bound)) = spec.longest()
            && sequence.len() > positions
        {
            return Err(Error::usage(
                format!("sequence {index}"),
                format!("{} tokens, but {bound}", sequence.len()),
            )
            .remedy(format!(
                "use {positions} tokens or fewer: --context-length cuts a text, ids and sentences are taken whole"
            )));
        }
    }
    Ok(())
}
