//! Tokenizers over bytes: of GPT-2, OPT, GPT-NeoX and Qwen2.

use std::collections::HashMap;

use tokenizers::{
    NormalizerWrapper, PreTokenizerWrapper, Tokenizer, models::bpe::BPE, normalizers::NFC,
    pre_tokenizers::byte_level::ByteLevel,
};

use super::{Settings, class::Class, pipeline};

/// How Qwen2 cuts words: every digit for itself.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub(super) fn build(
    class: Class,
    vocab: HashMap<String, u32>,
    merges: Vec<(String, String)>,
    settings: Settings,
) -> Result<Tokenizer, String> {
    let builder = BPE::builder().vocab_and_merges(
        vocab
            .into_iter()
            .collect::<tokenizers::models::bpe::Vocab>(),
        merges,
    );
    let mut tokenizer = Tokenizer::new(pipeline::bpe(builder)?);
    let space = settings.add_prefix_space.unwrap_or(false);
    if class != Class::Gpt2 {
        tokenizer
            .with_normalizer(Some(NormalizerWrapper::NFC(NFC)))
            .map_err(|error| error.to_string())?;
    }
    tokenizer.with_pre_tokenizer(Some(if class == Class::Qwen2 {
        pipeline::words(QWEN2, space)?
    } else {
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(space, true, true))
    }));
    tokenizer.with_decoder(Some(pipeline::from_byte_level()));
    Ok(tokenizer)
}
