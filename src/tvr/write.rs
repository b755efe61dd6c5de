//! The rescaled checkpoint, shard by shard: every file keeps its name, its header and its order.
//!
//! A tensor goes from the mapped file through a few megabytes of buffer into the new file, so the
//! memory needed does not depend on the model.
#![forbid(unsafe_code)]

use safetensors::SafeTensors;

use super::{Rescaling, Source, Tvr, plan::Role};
use crate::{
    backend::StoredTensors,
    error::{Error, Result},
    interrupt,
    model::weights::{Elements, Shard},
    progress::{Bar, Progress},
    report::{WholeFile, WholeFolder},
};

/// Bytes written at once.
const PIECE: usize = 4 << 20;

impl Tvr<'_> {
    /// Writes the rescaled checkpoint into `folder`: config, tokenizer and other small files as they
    /// are, then the weights. Returns the names of files that were left out.
    pub fn write(
        &mut self,
        source: Source<'_>,
        folder: &WholeFolder,
        progress: Progress,
    ) -> Result<Vec<String>> {
        self.refuse_other_files()?;
        let shards = self.model.weights.shards();
        // Embedded files after the first one only replace tensors of the first.
        let count = match source {
            Source::Folder(_) => shards.len(),
            Source::Embedded(_) => 1,
        };
        let shards = &shards[..count];
        let names: Vec<&str> = shards.iter().map(|shard| shard.name()).collect();
        let left_out = source.copy(&names, folder)?;
        let total = shards.iter().map(|shard| shard.bytes().len() as u64).sum();
        let bar = progress.bytes("writing weights", total);
        for (index, shard) in shards.iter().enumerate() {
            self.write_shard(index, shard, folder, &bar)?;
        }
        bar.finish_and_clear();
        Ok(left_out)
    }

    /// Refuses files of other formats: what is rewritten is safetensors.
    pub fn refuse_other_files(&self) -> Result<()> {
        let shards = self.model.weights.shards();
        if let Some(shard) = shards.iter().find(|shard| shard.is_gguf()) {
            return Err(Error::new(
                shard.name(),
                "a GGUF file: rescaled weights are written as safetensors, from safetensors",
            )
            .remedy("give the same model in transformers format, which the file was made from"));
        }
        if let Some(shard) = shards.iter().find(|shard| shard.is_of_pytorch()) {
            return Err(Error::new(
                shard.name(),
                "rescaled weights are written as safetensors, from safetensors",
            )
            .remedy("convert the checkpoint: AutoModelForCausalLM.from_pretrained(..).save_pretrained(..)"));
        }
        Ok(())
    }

    fn write_shard(
        &mut self,
        index: usize,
        shard: &Shard,
        folder: &WholeFolder,
        bar: &Bar,
    ) -> Result<()> {
        self.model.weights.intact()?;
        let (length, metadata) = SafeTensors::read_metadata(shard.bytes()).map_err(|error| {
            Error::new(
                shard.name(),
                format!("not a valid safetensors file: {error}"),
            )
        })?;
        let mut header = shard.bytes()[8..8 + length].to_vec();
        // The format asks for aligned data, which not every writer cares for; spaces are its padding.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = folder.file(shard.name())?;
        file.write(&(header.len() as u64).to_le_bytes())?;
        file.write(&header)?;
        let data = &shard.bytes()[8 + length..];
        let weights = &self.model.weights;
        for name in metadata.offset_keys() {
            let Some(info) = metadata.info(&name) else {
                continue;
            };
            interrupt::check()?;
            let own = &data[info.data_offsets.0..info.data_offsets.1];
            // Of several tensors of one name one counts. The others stay as they are, but in the
            // first of the embedded files the one that counts takes its place.
            let (role, stored) = if weights.shard_of(&name) == Some(index) {
                (self.plan.role(&name), own)
            } else if shard.path().is_none() {
                (self.plan.role(&name), weights.bytes(&name)?)
            } else {
                (None, own)
            };
            let change = match role {
                Some(Role::Weight(weight) | Role::BiasOf(weight)) => self.finding(weight)?.change,
                None => None,
            };
            match (role, change) {
                (Some(Role::Weight(weight)), Some(change)) => {
                    let elements = Elements {
                        dtype: self.plan.weights[weight].dtype,
                        bytes: stored,
                    };
                    write_rescaled(&mut file, elements, change.rescaling, self.arithmetic)?;
                }
                (Some(Role::BiasOf(_)), Some(_)) => file.write(&vec![0; stored.len()])?,
                // The system cannot read, either, what is gone from a mapped file.
                _ => write_pieces(&mut file, stored)
                    .or_else(|error| weights.intact().and(Err(error)))?,
            }
            bar.inc(stored.len() as u64);
            weights.release(std::slice::from_ref(&name));
        }
        file.finish()
    }
}

fn write_pieces(file: &mut WholeFile, bytes: &[u8]) -> Result<()> {
    for piece in bytes.chunks(PIECE) {
        interrupt::check()?;
        file.write(piece)?;
    }
    Ok(())
}

/// By way of a buffer, piece by piece.
fn write_rescaled(
    file: &mut WholeFile,
    elements: Elements<'_>,
    change: Rescaling,
    arithmetic: &dyn StoredTensors,
) -> Result<()> {
    let dtype = elements.dtype;
    let mut buffer = vec![0; PIECE.min(elements.bytes.len())];
    for bytes in elements.bytes.chunks(PIECE) {
        interrupt::check()?;
        let out = &mut buffer[..bytes.len()];
        arithmetic.rescale(Elements { dtype, bytes }, change, out)?;
        file.write(out)?;
    }
    Ok(())
}
