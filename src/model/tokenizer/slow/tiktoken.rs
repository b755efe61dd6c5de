//! tiktoken's files: a line a token, in base64, with its rank, which is its id and says what is put
//! together first (`TikTokenConverter`).

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use tokenizers::{AddedToken, Tokenizer, models::bpe::BPE};

use super::{super::special::Special, pipeline};

/// How words are cut: numbers in groups of three digits.
const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Bytes of a token; the longest in use are runs of spaces and signs.
const LONGEST: usize = 1024;
/// Text of all pairs that may be put together, in multiples of the tokens' own.
const PAIRS: usize = 32;
/// Ids between the last rank and the last token that has an id beside it.
const RESERVED: u64 = 1 << 16;

/// Whether a file is of this kind, whatever it is called: Llama 3's own is `tokenizer.model`.
pub(super) fn is_it(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next();
    line.is_some_and(|line| entry(line).is_some())
}

pub(super) fn build(bytes: &[u8], special: &Special) -> Result<Tokenizer, String> {
    let mut ranks: HashMap<Vec<u8>, u32> = HashMap::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (token, rank) =
            entry(line).ok_or_else(|| format!("line {} is no token with a rank", number + 1))?;
        ranks.insert(token, rank);
    }
    if ranks.is_empty() {
        return Err("it has no tokens".to_owned());
    }
    let count = ranks.len() as u64;
    let merges = merges(&ranks)?;
    let vocab = ranks.iter().map(|(token, rank)| (letters(token), *rank));
    let vocab: tokenizers::models::bpe::Vocab = vocab.collect();
    let builder = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(true);
    let mut tokenizer = Tokenizer::new(pipeline::bpe(builder)?);
    tokenizer.with_pre_tokenizer(Some(pipeline::words(PATTERN, false)?));
    tokenizer.with_decoder(Some(pipeline::from_byte_level()));
    let tokens = reserved(special, count)?;
    let added = tokenizer.add_special_tokens(tokens);
    added.map_err(|error| error.to_string())?;
    Ok(tokenizer)
}

/// The tokens behind the ranks: those with ids, what lies between them, and those without.
fn reserved(special: &Special, count: u64) -> Result<Vec<AddedToken>, String> {
    let named: HashMap<u64, &str> = special.ids().map(|(id, name)| (id.into(), name)).collect();
    let last = named.keys().max().copied().filter(|last| *last >= count);
    let mut names: Vec<String> = Vec::new();
    if let Some(last) = last {
        if last - count > RESERVED {
            return Err(format!(
                "tokenizer_config.json names id {last} far behind it"
            ));
        }
        names.extend((count..=last).map(|id| match named.get(&id) {
            Some(name) => (*name).to_owned(),
            None => format!("<|reserved_token_{id}|>"),
        }));
    }
    for extra in special.extra() {
        if !names.iter().any(|name| name == extra) {
            names.push(extra.to_owned());
        }
    }
    let tokens = names.into_iter();
    Ok(tokens.map(|name| AddedToken::from(name, true)).collect())
}

/// A token and its rank.
fn entry(line: &[u8]) -> Option<(Vec<u8>, u32)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut parts = line.split_ascii_whitespace();
    let token = STANDARD.decode(parts.next()?).ok()?;
    let rank = parts.next()?.parse().ok()?;
    let fits = (1..=LONGEST).contains(&token.len()) && parts.next().is_none();
    fits.then_some((token, rank))
}

/// Pairs in the order of what they make, then of themselves.
fn merges(ranks: &HashMap<Vec<u8>, u32>) -> Result<Vec<(String, String)>, String> {
    let mut left = PAIRS * ranks.keys().map(Vec::len).sum::<usize>();
    let mut found = Vec::new();
    for (token, rank) in ranks {
        for at in 1..token.len() {
            let (first, second) = token.split_at(at);
            if let (Some(one), Some(other)) = (ranks.get(first), ranks.get(second)) {
                left = left
                    .checked_sub(token.len())
                    .ok_or("its tokens are made of each other in too many ways")?;
                found.push((*rank, *one, *other, first, second));
            }
        }
    }
    found.sort_unstable();
    let pairs = found.into_iter();
    Ok(pairs
        .map(|(.., first, second)| (letters(first), letters(second)))
        .collect())
}

/// Bytes as the letters that stand for them in byte-level vocabularies.
fn letters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| letter(*byte)).collect()
}

/// GPT-2's alphabet: printable bytes stand for themselves, the others for letters from 256 on.
fn letter(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|other| !printable(*other)).count() as u32;
    char::from_u32(256 + before).unwrap_or_default()
}
