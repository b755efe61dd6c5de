//! Tokenizers over sentencepiece's pieces: of Llama, of Gemma, and of the models whose pieces alone say
//! what is done to a text.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use tokenizers::{
    NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
    models::{bpe::BPE, unigram::Unigram},
    normalizers::{Precompiled, Sequence as Normalizers},
    pre_tokenizers::{metaspace::PrependScheme, sequence::Sequence, split::SplitPattern},
};

use super::{
    super::{charsmap, files::Beside, special::Special},
    Settings,
    class::Class,
    default, pipeline,
    sentencepiece::{Kind, Model},
};

/// Text of all pairs that may be put together, in multiples of the pieces' own: real vocabularies have
/// three.
const PAIRS: usize = 32;

/// Bytes that rules of normalisation may make of a character; NFKC has 33.
const LONGEST: usize = 256;

/// A pair of pieces, in the order in which they are put together.
type Merges = Vec<(String, String)>;

pub(super) fn build(
    class: Class,
    model: &Model<'_>,
    mut beside: Beside,
    settings: Settings,
) -> Result<(Tokenizer, Special), String> {
    if class == Class::Generic {
        return generic(model, beside, settings);
    }
    add_own(model, &mut beside, |_| true);
    let vocab = ids(model);
    let merges = merges_by_id(model, &vocab)?;
    let mut builder = BPE::builder()
        .vocab_and_merges(owned(&vocab), merges)
        .fuse_unk(true)
        .byte_fallback(true);
    if class == Class::Gemma {
        let unk = beside.config.get("unk_token");
        let unk = unk.and_then(|unk| unk.as_str().or_else(|| unk.get("content")?.as_str()));
        builder = builder.unk_token(unk.unwrap_or_default().to_owned());
    }
    let mut tokenizer = Tokenizer::new(pipeline::bpe(builder)?);
    if class == Class::Gemma {
        tokenizer
            .with_normalizer(Some(pipeline::replace(" ", pipeline::SPACE)?))
            .map_err(|error| error.to_string())?;
        let space = SplitPattern::String(" ".to_owned());
        let split = pipeline::split(space, SplitDelimiterBehavior::MergedWithPrevious)?;
        tokenizer.with_pre_tokenizer(Some(split));
        tokenizer.with_decoder(Some(pipeline::from_pieces(true, false)?));
    } else {
        let prefixed = settings.add_prefix_space.unwrap_or(true);
        let scheme = match (prefixed, settings.legacy) {
            (false, _) => PrependScheme::Never,
            (true, Some(true)) => PrependScheme::Always,
            (true, _) => PrependScheme::First,
        };
        tokenizer.with_pre_tokenizer(Some(pipeline::spaces(scheme)));
        tokenizer.with_decoder(Some(pipeline::from_pieces(true, prefixed)?));
    }
    Ok((tokenizer, Special::read(&beside)))
}

/// As the pieces' file says (`SpmConverter.build_tokenizer_from_spm_proto`).
fn generic(
    model: &Model<'_>,
    mut beside: Beside,
    settings: Settings,
) -> Result<(Tokenizer, Special), String> {
    for (role, named) in [
        ("bos_token", model.bos),
        ("eos_token", model.eos),
        ("unk_token", model.unk),
    ] {
        if named.id >= 0 {
            default(&mut beside.config, role, named.text);
        }
    }
    add_own(model, &mut beside, |kind| kind != Kind::UserDefined);
    let mut special = Special::read(&beside);
    let mut vocab = ids(model);
    let names = if model.unigram {
        HashMap::new()
    } else {
        renamed(&special, &vocab)
    };
    let name = |id: u32| -> &str {
        let own = || model.pieces[id as usize].text;
        names.get(&id).map_or_else(own, String::as_str)
    };
    vocab = vocab.into_values().map(|id| (name(id), id)).collect();
    let own = vocab.iter().filter(|(_, id)| {
        let piece = &model.pieces[**id as usize];
        piece.kind == Kind::UserDefined
    });
    let own: Vec<&str> = own.map(|(name, _)| *name).collect();
    let mut tokenizer = if model.unigram {
        let pieces = model.pieces.iter();
        let pieces = pieces.map(|piece| (piece.text.to_owned(), f64::from(piece.score)));
        let unk = usize::try_from(model.unk.id).ok();
        let built = Unigram::from(pieces.collect(), unk, model.byte_fallback);
        Tokenizer::new(built.map_err(|error| error.to_string())?)
    } else {
        let builder = BPE::builder()
            .vocab_and_merges(owned(&vocab), merges_by_score(model, &vocab)?)
            .unk_token(model.unk.text.to_owned())
            .fuse_unk(true)
            .byte_fallback(model.byte_fallback)
            .ignore_merges(!own.is_empty());
        Tokenizer::new(pipeline::bpe(builder)?)
    };
    let legacy = settings.legacy.unwrap_or(true);
    tokenizer
        .with_normalizer(Some(normalizer(model, legacy)?))
        .map_err(|error| error.to_string())?;
    let pre_tokenizer = pre_tokenizer(model, legacy, own)?;
    tokenizer.with_pre_tokenizer(pre_tokenizer);
    let decoder = pipeline::from_pieces(model.byte_fallback, model.add_dummy_prefix)?;
    tokenizer.with_decoder(Some(decoder));
    if model.add_dummy_prefix {
        special.match_as_written();
    }
    Ok((tokenizer, special))
}

fn normalizer(model: &Model<'_>, legacy: bool) -> Result<NormalizerWrapper, String> {
    let mut steps = Vec::new();
    if !model.charsmap.is_empty() {
        steps.push(NormalizerWrapper::Precompiled(charsmap(model.charsmap)?));
    }
    if model.remove_extra_whitespaces {
        steps.push(pipeline::replace_all(r"\A +| +\z", "")?);
        steps.push(pipeline::replace_all(" {2,}", " ")?);
    }
    if model.escape_whitespaces {
        steps.push(pipeline::replace(" ", pipeline::SPACE)?);
    }
    // The space in front is left out where the text begins with its sign, which sentencepiece does not.
    if model.add_dummy_prefix && legacy {
        steps.push(pipeline::replace_all(r"\A▁", "▁▁")?);
    }
    Ok(NormalizerWrapper::Sequence(Normalizers::new(steps)))
}

fn pre_tokenizer(
    model: &Model<'_>,
    legacy: bool,
    mut own: Vec<&str>,
) -> Result<Option<PreTokenizerWrapper>, String> {
    let mut steps = Vec::new();
    if model.add_dummy_prefix {
        steps.push(pipeline::spaces(if legacy {
            PrependScheme::Always
        } else {
            PrependScheme::First
        }));
    }
    if !own.is_empty() {
        // The longest first; the order of others means nothing, and shall be one.
        own.sort_by_key(|piece| (std::cmp::Reverse(piece.chars().count()), *piece));
        let own: Vec<_> = own.into_iter().map(fancy_regex::escape).collect();
        let pattern = SplitPattern::Regex(own.join("|"));
        steps.push(pipeline::split(pattern, SplitDelimiterBehavior::Isolated)?);
    }
    Ok((!steps.is_empty()).then(|| PreTokenizerWrapper::Sequence(Sequence::new(steps))))
}

/// Rules of normalisation.
fn charsmap(bytes: &[u8]) -> Result<Precompiled, String> {
    let longest = charsmap::longest(bytes)?;
    if longest > LONGEST {
        return Err(format!(
            "its rules of normalisation make {longest} bytes of a character, and more than {LONGEST} are not read"
        ));
    }
    Precompiled::from(bytes).map_err(|_| "its rules of normalisation are damaged".to_owned())
}

/// Pieces with their ids; of two that are the same the later one's.
fn ids<'m>(model: &'m Model<'_>) -> HashMap<&'m str, u32> {
    let pieces = model.pieces.iter().zip(0..);
    pieces.map(|(piece, id)| (piece.text, id)).collect()
}

fn owned(vocab: &HashMap<&str, u32>) -> tokenizers::models::bpe::Vocab {
    let tokens = vocab.iter();
    tokens
        .map(|(token, id)| ((*token).to_owned(), *id))
        .collect()
}

/// Makes control pieces and those of the user tokens that are found in a text as they are, unless the
/// files beside them say which tokens are.
fn add_own(model: &Model<'_>, beside: &mut Beside, wanted: fn(Kind) -> bool) {
    let stated = ["extra_special_tokens", "additional_special_tokens"]
        .iter()
        .any(|key| beside.config.contains_key(*key) || beside.special_tokens.contains_key(*key));
    if stated {
        return;
    }
    let own = model.pieces.iter().filter(|piece| {
        matches!(piece.kind, Kind::Control | Kind::UserDefined) && wanted(piece.kind)
    });
    let own = own.map(|piece| json!({"content": piece.text, "normalized": false}));
    let own: Vec<Value> = own.collect();
    let key = "additional_special_tokens".to_owned();
    beside.config.insert(key, Value::Array(own));
}

/// The names that tokens with ids give to pieces, unless another piece that keeps its name has it.
fn renamed(special: &Special, vocab: &HashMap<&str, u32>) -> HashMap<u32, String> {
    let names: HashMap<u32, &str> = special.ids().collect();
    let kept: HashSet<&str> = vocab
        .iter()
        .filter(|(_, id)| !names.contains_key(id))
        .map(|(token, _)| *token)
        .collect();
    let names = names.into_iter();
    names
        .filter(|(_, name)| !kept.contains(name))
        .map(|(id, name)| (id, name.to_owned()))
        .collect()
}

/// Which pieces are put together first: those that make the piece with the lowest id
/// (`generate_merges`).
fn merges_by_id(model: &Model<'_>, vocab: &HashMap<&str, u32>) -> Result<Merges, String> {
    // By the id of what they make, then by their lengths, then by their own ids.
    let mut found = Vec::new();
    let mut limit = Limit::of(model);
    for (whole, id) in vocab {
        for (left, right) in halves(whole) {
            if let (Some(first), Some(second)) = (vocab.get(left), vocab.get(right)) {
                limit.take(whole)?;
                let lengths = (left.chars().count(), right.chars().count());
                found.push((*id, lengths, *first, *second, left, right));
            }
        }
    }
    found.sort_unstable();
    let pairs = found.into_iter();
    let pairs = pairs.map(|(.., left, right)| (left.to_owned(), right.to_owned()));
    Ok(pairs.collect())
}

/// Which pieces are put together first: those that make the piece with the highest score. Only normal
/// ones are.
fn merges_by_score(model: &Model<'_>, vocab: &HashMap<&str, u32>) -> Result<Merges, String> {
    let normal = |text: &str| {
        let id = *vocab.get(text)?;
        let piece = &model.pieces[id as usize];
        (piece.kind == Kind::Normal).then_some((piece.score, id))
    };
    let mut found = Vec::new();
    let mut limit = Limit::of(model);
    for whole in vocab.keys() {
        let Some((score, id)) = normal(whole) else {
            continue;
        };
        for (left, right) in halves(whole) {
            if normal(left).is_some() && normal(right).is_some() {
                limit.take(whole)?;
                found.push((-score, id, left, right));
            }
        }
    }
    found.sort_unstable_by(|a, b| {
        let rest = |pair: &(f32, u32, _, _)| (pair.1, pair.2, pair.3);
        a.0.total_cmp(&b.0).then_with(|| rest(a).cmp(&rest(b)))
    });
    let pairs = found.into_iter();
    let pairs = pairs.map(|(.., left, right)| (left.to_owned(), right.to_owned()));
    Ok(pairs.collect())
}

/// All ways of cutting a text in two.
fn halves(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let places = text.char_indices().skip(1);
    places.map(|(at, _)| text.split_at(at))
}

/// Keeps the pairs within a multiple of the vocabulary's size.
struct Limit(usize);

impl Limit {
    fn of(model: &Model<'_>) -> Self {
        let pieces = model.pieces.iter();
        Self(PAIRS * pieces.map(|piece| piece.text.len()).sum::<usize>())
    }

    fn take(&mut self, text: &str) -> Result<(), String> {
        let left = self.0.checked_sub(text.len());
        self.0 = left.ok_or("its pieces are made of each other in too many ways")?;
        Ok(())
    }
}
