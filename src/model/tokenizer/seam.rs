//! Where a text may be cut so that the tokens before the cut are those of the whole text.
//!
//! A seam is a place between two characters of which the first is no space, where every stage of
//! the tokenizer can be shown to treat what comes before it without regard to what comes after. Places before a space
//! or a line end come first, since almost all of them are seams; a text without them has others.
//!
//! 1. *Added tokens* are searched from the left, the longest at a place first. None holds the two
//!    characters side by side, so none lies across the cut, and none that starts before it could have
//!    become longer. Space that a token takes along stops at the character before the cut.
//! 2. *Normalisers* work character by character or by pattern (see [`super::crossing`]), or compose
//!    marks with what is before them, and the characters at a seam are not marks. What the two
//!    characters may become is followed from stage to stage.
//! 3. *Pre-tokenisers* split by properties of single characters or by pattern. So all pieces of the
//!    start are pieces of the whole text, except that the last one may go on behind the cut.
//! 4. *The model* sees each piece by itself. So the tokens of all pieces but the last are right
//!    whatever the model is: [`Kept::Pieces`]. Those of the last are right, too, if no token of the
//!    vocabulary holds the two characters side by side and both have tokens of their own
//!    ([`Kept::Everything`]): BPE makes each merge by rank and place, a merge across the cut would make
//!    a token that does not exist, and so both sides merge as if they were alone; in the lattice of a
//!    unigram model all paths pass through the cut, and the best path to it depends on what is before
//!    it. This is what bounds a model that sees the whole text as one piece, as Llama 2's and Gemma's.
//!
//! Where this cannot be said of a stage (a pattern with back references, SentencePiece's table of
//! graphemes) there is no seam, and the whole text is tokenised.

use std::collections::HashMap;

use tokenizers::{
    Model, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, PreTokenizerWrapper,
    pre_tokenizers::split::SplitPattern,
};
use unicode_general_category::{GeneralCategory as Category, get_general_category};

use super::crossing::Crossing;
use crate::visible::char_boundary;

/// What GPT-2's pre-tokeniser splits by; the library holds it as a private constant.
const BYTE_LEVEL: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Bytes of text in which a seam that keeps everything is looked for, before another will do.
const REACH: usize = 1 << 12;

/// Bytes of text in which a space is looked for, before any other place will do.
const NEAR: usize = 1 << 16;

/// Pairs of characters that are judged there: each costs as much as a look at the whole vocabulary.
const MOST_PAIRS: usize = 100;

/// Where a seam may be.
#[derive(Clone, Copy)]
enum Places {
    /// Before a space or a line end.
    Spaces,
    /// Anywhere, as long as so many more pairs of characters were judged.
    All(usize),
}

/// Which tokens of the text before a seam are those of the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// Those of all pieces but the last.
    Pieces,
    /// All.
    Everything,
}

/// The characters that may stand before and after the cut at some stage.
#[derive(Debug, Clone)]
struct Sides {
    before: Vec<char>,
    after: Vec<char>,
}

impl Sides {
    fn pairs(&self) -> impl Iterator<Item = (char, char)> {
        let after = &self.after;
        self.before
            .iter()
            .flat_map(move |before| after.iter().map(move |after| (*before, *after)))
    }

    /// Replaces every character by what `change` makes of it: the last of it before the cut, the first
    /// after it.
    fn become_of(&mut self, change: impl Fn(char) -> Option<String>) -> Option<()> {
        for c in &mut self.before {
            *c = change(*c)?.chars().next_back()?;
        }
        for c in &mut self.after {
            *c = change(*c)?.chars().next()?;
        }
        Some(())
    }
}

/// Finds the seams of texts for one tokenizer.
pub(super) struct Seams<'a> {
    tokenizer: &'a tokenizers::Tokenizer,
    /// Whether a seam can keep everything.
    divisible: bool,
    /// By the two characters.
    known: HashMap<(char, char), Option<Kept>>,
    /// The model's tokens, once they are needed.
    vocabulary: Option<Vec<String>>,
}

impl<'a> Seams<'a> {
    pub(super) fn new(tokenizer: &'a tokenizers::Tokenizer) -> Self {
        Self {
            tokenizer,
            divisible: divisible(tokenizer.get_model()),
            known: HashMap::new(),
            vocabulary: None,
        }
    }

    /// A seam at or behind byte `from`, and what it keeps; none if there is none.
    pub(super) fn find(&mut self, text: &str, from: usize) -> Option<(usize, Kept)> {
        let near = char_boundary(text, from.saturating_add(NEAR));
        self.search(&text[..near], from, Places::Spaces)
            .or_else(|| self.search(&text[..near], from, Places::All(MOST_PAIRS)))
            .or_else(|| self.search(text, near, Places::Spaces))
    }

    fn search(&mut self, text: &str, from: usize, mut places: Places) -> Option<(usize, Kept)> {
        let mut found = None;
        let bytes = text.as_bytes();
        for at in from.max(1)..text.len() {
            let space = matches!(bytes[at], b' ' | b'\n');
            if !(space || matches!(places, Places::All(_)) && text.is_char_boundary(at)) {
                continue;
            }
            if let Some((place, kept)) = found
                && (!self.divisible || at > place + REACH)
            {
                return Some((place, kept));
            }
            let sides = (text[..at].chars().next_back(), text[at..].chars().next());
            let (Some(before), Some(after)) = sides else {
                continue;
            };
            if let Places::All(left) = &mut places
                && !self.known.contains_key(&(before, after))
            {
                if *left == 0 {
                    break;
                }
                *left -= 1;
            }
            match self.kept(before, after) {
                Some(Kept::Everything) => return Some((at, Kept::Everything)),
                Some(Kept::Pieces) => found = found.or(Some((at, Kept::Pieces))),
                None => {}
            }
        }
        found
    }

    fn kept(&mut self, before: char, after: char) -> Option<Kept> {
        let key = (before, after);
        if let Some(known) = self.known.get(&key) {
            return *known;
        }
        let kept = self.judge(before, after);
        self.known.insert(key, kept);
        kept
    }

    fn judge(&mut self, before: char, after: char) -> Option<Kept> {
        if before.is_whitespace() || !deterministic(self.tokenizer.get_model()) {
            return None;
        }
        let mut sides = Sides {
            before: vec![before],
            after: vec![after],
        };
        self.pass_added(&sides, false)?;
        if let Some(normalizer) = self.tokenizer.get_normalizer() {
            normalised(normalizer, &mut sides)?;
        }
        // An added token behind the cut may take along the space before it, as far as the cut.
        if sides.before.iter().any(|c| c.is_whitespace()) {
            return None;
        }
        self.pass_added(&sides, true)?;
        if let Some(pre_tokenizer) = self.tokenizer.get_pre_tokenizer() {
            split(pre_tokenizer, &mut sides)?;
        }
        Some(if self.divides(&sides) {
            Kept::Everything
        } else {
            Kept::Pieces
        })
    }

    /// Whether no added token of this kind lies across the cut.
    fn pass_added(&self, sides: &Sides, normalised: bool) -> Option<()> {
        let added = self.tokenizer.get_added_vocabulary();
        for token in added.get_added_tokens_decoder().values() {
            if token.normalized != normalised {
                continue;
            }
            let mut content = NormalizedString::from(token.content.as_str());
            if let (true, Some(normalizer)) = (normalised, self.tokenizer.get_normalizer()) {
                normalizer.normalize(&mut content).ok()?;
            }
            // A token that must be a whole word is one at the end of a text, and before nothing that is part of one.
            if holds_any(content.get(), sides)
                || (token.single_word && sides.after.iter().any(|c| is_of_a_word(*c)))
            {
                return None;
            }
        }
        Some(())
    }

    /// Whether the model makes the same tokens of what is before the cut, even if its piece goes on.
    fn divides(&mut self, sides: &Sides) -> bool {
        if !self.divisible {
            return false;
        }
        // Characters without tokens may be joined to one unknown token.
        let tokenizer = self.tokenizer;
        let single = |c: &char| {
            let model = tokenizer.get_model();
            model.token_to_id(c.encode_utf8(&mut [0; 4])).is_some()
        };
        if !sides.before.iter().chain(&sides.after).all(single) {
            return false;
        }
        let vocabulary = self
            .vocabulary
            .get_or_insert_with(|| tokenizer.get_vocab(false).into_keys().collect());
        !vocabulary.iter().any(|token| holds_any(token, sides))
    }
}

/// What a regular expression calls `\w`, by which the library tells where words end.
fn is_of_a_word(c: char) -> bool {
    let category = matches!(
        get_general_category(c),
        Category::NonspacingMark
            | Category::SpacingMark
            | Category::EnclosingMark
            | Category::ConnectorPunctuation
    );
    category || c.is_alphanumeric() || matches!(c, '\u{200c}' | '\u{200d}')
}

fn holds_any(text: &str, sides: &Sides) -> bool {
    sides.pairs().any(|(before, after)| {
        let mut pair = String::from(before);
        pair.push(after);
        text.contains(&pair)
    })
}

/// Whether the tokens of a part of a piece can be those of the piece.
fn divisible(model: &ModelWrapper) -> bool {
    match model {
        // The first two mark a piece's end; with the third, a whole piece may be a token that the merges
        // do not lead to.
        ModelWrapper::BPE(model) => {
            model.continuing_subword_prefix.is_none()
                && model.end_of_word_suffix.is_none()
                && !model.ignore_merges
        }
        ModelWrapper::Unigram(_) => true,
        // One judges a piece as a whole, the other gives it up as a whole.
        ModelWrapper::WordLevel(_) | ModelWrapper::WordPiece(_) => false,
    }
}

/// Whether equal texts have equal tokens: dropout and sampling are for training.
fn deterministic(model: &ModelWrapper) -> bool {
    match model {
        ModelWrapper::BPE(model) => model.dropout.is_none_or(|share| share == 0.0),
        ModelWrapper::Unigram(model) => model.alpha.is_none_or(|alpha| alpha == 0.0),
        ModelWrapper::WordLevel(_) | ModelWrapper::WordPiece(_) => true,
    }
}

/// Follows the two characters through a normaliser; none if it may depend on what is behind the cut.
fn normalised(normalizer: &NormalizerWrapper, sides: &mut Sides) -> Option<()> {
    let one = |c: char| {
        let mut text = NormalizedString::from(c.to_string());
        normalizer.normalize(&mut text).ok()?;
        Some(text.get().to_owned())
    };
    match normalizer {
        NormalizerWrapper::Sequence(parts) => parts
            .as_ref()
            .iter()
            .try_for_each(|part| normalised(part, sides)),
        // Character by character.
        NormalizerWrapper::Lowercase(_)
        | NormalizerWrapper::StripAccents(_)
        | NormalizerWrapper::Nmt(_)
        | NormalizerWrapper::ByteLevel(_) => sides.become_of(one),
        NormalizerWrapper::NFC(_)
        | NormalizerWrapper::NFD(_)
        | NormalizerWrapper::NFKC(_)
        | NormalizerWrapper::NFKD(_)
        | NormalizerWrapper::BertNormalizer(_) => sides.become_of(|c| {
            let text = one(c)?;
            let alone = stands_alone(c) && text.chars().next().is_none_or(stands_alone);
            alone.then_some(text)
        }),
        // By grapheme, of which a character and its neighbours may be parts.
        NormalizerWrapper::Precompiled(_) => None,
        // What is put in front is put in front of both.
        NormalizerWrapper::Prepend(_) => Some(()),
        NormalizerWrapper::StripNormalizer(_) => {
            let mut before = sides.before.iter();
            (!before.any(|c| c.is_whitespace())).then_some(())
        }
        NormalizerWrapper::Replace(replace) => {
            // The pattern is private, but not in the file.
            let file = serde_json::to_value(replace).ok()?;
            let (pattern, content) = (file.get("pattern")?, file.get("content")?.as_str()?);
            let literal = pattern.get("String").and_then(|text| text.as_str());
            let regex = pattern.get("Regex").and_then(|text| text.as_str());
            replaced(literal, regex, content, sides)
        }
    }
}

/// Follows the two characters through the replacement of a pattern.
fn replaced(
    literal: Option<&str>,
    regex: Option<&str>,
    content: &str,
    sides: &mut Sides,
) -> Option<()> {
    let (mut begins, mut ends) = (false, false);
    for (before, after) in sides.pairs() {
        let found = match (literal, regex) {
            (Some(text), _) => Crossing::of_literal(text, before, after),
            (None, Some(pattern)) => Crossing::of(pattern, before, after)?,
            (None, None) => return None,
        };
        if found.crosses || found.empty {
            return None;
        }
        begins |= found.begins;
        ends |= found.ends;
    }
    // A pattern of one character replaces it always; another may or may not.
    let always = literal.filter(|text| text.chars().count() == 1);
    let replace = |side: &mut Vec<char>, content: Option<char>| {
        side.retain(|c| !always.is_some_and(|text| text.contains(*c)));
        side.push(content?);
        Some(())
    };
    if ends {
        replace(&mut sides.before, content.chars().next_back())?;
    }
    if begins {
        replace(&mut sides.after, content.chars().next())?;
    }
    Some(())
}

/// Whether Unicode normalisation leaves this character apart from what is before it: it is no mark
/// and no part of a Hangul syllable. Within the basic plane only those are composed with the character
/// before them, or reordered; beyond it there are letters that are, too.
fn stands_alone(c: char) -> bool {
    let jamo =
        matches!(c, '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97f}' | '\u{d7b0}'..='\u{d7ff}');
    let mark = matches!(
        get_general_category(c),
        Category::NonspacingMark | Category::SpacingMark | Category::EnclosingMark
    );
    c < '\u{10000}' && !jamo && !mark
}

/// Follows the two characters through a pre-tokeniser; none if the pieces before the cut may depend on
/// what is behind it.
fn split(pre_tokenizer: &PreTokenizerWrapper, sides: &mut Sides) -> Option<()> {
    let apart = |pattern: &str, sides: &Sides| {
        let mut pairs = sides.pairs();
        pairs
            .all(|(before, after)| {
                Crossing::of(pattern, before, after).is_some_and(|found| !found.crosses)
            })
            .then_some(())
    };
    match pre_tokenizer {
        PreTokenizerWrapper::Sequence(parts) => parts
            .as_ref()
            .iter()
            .try_for_each(|part| split(part, sides)),
        PreTokenizerWrapper::ByteLevel(bytes) => {
            if bytes.use_regex {
                apart(BYTE_LEVEL, sides)?;
            }
            let bytes = NormalizerWrapper::ByteLevel(tokenizers::normalizers::ByteLevel);
            normalised(&bytes, sides)
        }
        PreTokenizerWrapper::Split(split) => match &split.pattern {
            SplitPattern::Regex(pattern) => apart(pattern, sides),
            SplitPattern::String(text) => sides
                .pairs()
                .all(|(before, after)| !Crossing::of_literal(text, before, after).crosses)
                .then_some(()),
        },
        PreTokenizerWrapper::Metaspace(metaspace) => sides.become_of(|c| {
            let c = if c == ' ' {
                metaspace.get_replacement()
            } else {
                c
            };
            Some(c.into())
        }),
        // By what each character is; what is put in front is put in front of both.
        PreTokenizerWrapper::BertPreTokenizer(_)
        | PreTokenizerWrapper::Delimiter(_)
        | PreTokenizerWrapper::Whitespace(_)
        | PreTokenizerWrapper::WhitespaceSplit(_)
        | PreTokenizerWrapper::Punctuation(_)
        | PreTokenizerWrapper::Digits(_) => Some(()),
        // Rare, and not looked into.
        PreTokenizerWrapper::UnicodeScripts(_) | PreTokenizerWrapper::FixedLength(_) => None,
    }
}
