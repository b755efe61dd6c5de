//! The steps that several tokenizers share.

use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior,
    decoders::{
        byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence as Decoders, strip::Strip,
    },
    models::bpe::{BPE, BpeBuilder},
    normalizers::{Replace, replace::ReplacePattern},
    pre_tokenizers::{
        byte_level::ByteLevel,
        metaspace::{Metaspace, PrependScheme},
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

/// What stands for a space in sentencepiece's vocabularies.
pub(super) const SPACE: &str = "▁";

/// The tokens of a vocabulary with what puts them together.
pub(super) fn bpe(builder: BpeBuilder) -> Result<BPE, String> {
    builder.build().map_err(|error| error.to_string())
}

/// Replaces one text by another.
pub(super) fn replace(pattern: &str, content: &str) -> Result<NormalizerWrapper, String> {
    let pattern = ReplacePattern::String(pattern.to_owned());
    normalizer(pattern, content)
}

/// Replaces what a regular expression finds.
pub(super) fn replace_all(pattern: &str, content: &str) -> Result<NormalizerWrapper, String> {
    let pattern = ReplacePattern::Regex(pattern.to_owned());
    normalizer(pattern, content)
}

fn normalizer(pattern: ReplacePattern, content: &str) -> Result<NormalizerWrapper, String> {
    Replace::new(pattern, content)
        .map(NormalizerWrapper::Replace)
        .map_err(|error| error.to_string())
}

/// Cuts at what a pattern finds.
pub(super) fn split(
    pattern: SplitPattern,
    behaviour: SplitDelimiterBehavior,
) -> Result<PreTokenizerWrapper, String> {
    Split::new(pattern, behaviour, false)
        .map(PreTokenizerWrapper::Split)
        .map_err(|error| error.to_string())
}

/// Cuts words as `pattern` says, and makes bytes letters.
pub(super) fn words(pattern: &str, add_prefix_space: bool) -> Result<PreTokenizerWrapper, String> {
    let pattern = SplitPattern::Regex(pattern.to_owned());
    let bytes = ByteLevel::new(add_prefix_space, true, false);
    Ok(PreTokenizerWrapper::Sequence(Sequence::new(vec![
        split(pattern, SplitDelimiterBehavior::Isolated)?,
        PreTokenizerWrapper::ByteLevel(bytes),
    ])))
}

/// Spaces as [`SPACE`], one of them in front of the text as `scheme` says.
pub(super) fn spaces(scheme: PrependScheme) -> PreTokenizerWrapper {
    PreTokenizerWrapper::Metaspace(Metaspace::new('▁', scheme, false))
}

/// Letters back to bytes.
pub(super) fn from_byte_level() -> DecoderWrapper {
    DecoderWrapper::ByteLevel(ByteLevel::default())
}

/// Pieces back to text: spaces, bytes, and the space in front taken away.
pub(super) fn from_pieces(byte_fallback: bool, prefixed: bool) -> Result<DecoderWrapper, String> {
    let spaces = Replace::new(ReplacePattern::String(SPACE.to_owned()), " ");
    let spaces = spaces.map_err(|error| error.to_string())?;
    let mut steps = vec![DecoderWrapper::Replace(spaces)];
    if byte_fallback {
        steps.push(DecoderWrapper::ByteFallback(ByteFallback::new()));
    }
    if byte_fallback || prefixed {
        steps.push(DecoderWrapper::Fuse(Fuse::new()));
    }
    if prefixed {
        steps.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
    }
    Ok(DecoderWrapper::Sequence(Decoders::new(steps)))
}
