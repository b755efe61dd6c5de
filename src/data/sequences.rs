//! From the specification of a text, and a model's tokenizer, to sequences of tokens.

use std::path::Path;

use super::{
    JoinedText, Provenance, Role, Wanted, builtin, datasets, source, text::read_text_file, windows,
};
use crate::{
    error::{Error, Result},
    hub::Hub,
    model::{Model, tokenizer::Tokenizer},
    progress::Progress,
};

/// Tokens in a window unless asked otherwise: the reference's, as far as the model has positions.
pub const CONTEXT_LENGTH: usize = 4096;

/// Which text, and how it is cut.
#[derive(Debug, Clone, Copy)]
pub struct TextSpec<'a> {
    /// Where the text is.
    pub source: TextSource<'a>,
    /// The field or column of documents that holds the text.
    pub field: Option<&'a str>,
    /// Of the random choice of documents.
    pub seed: u64,
    /// Tokens in a sequence, BOS included; none: see [`CONTEXT_LENGTH`].
    pub context_length: Option<usize>,
    /// Whether every sequence begins with the BOS token.
    pub add_bos_token: bool,
}

/// Where a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextSource<'a> {
    /// A file that is the joined text.
    File(&'a Path),
    /// A source by its name, see [`super::load`].
    Named(&'a str),
    /// Nobody said: the built-in text where it has enough windows, else the test split of wikitext.
    Unsaid,
}

/// Sequences and where they come from.
#[derive(Debug, Clone)]
pub struct Sequences {
    /// Token ids.
    pub ids: Vec<Vec<u32>>,
    /// Tokens in the longest, BOS included.
    pub context_length: usize,
    /// Whether each begins with a BOS token that the text does not have.
    pub add_bos_token: bool,
    /// Where the text comes from; none for a sentence and for ids.
    pub provenance: Option<Provenance>,
}

/// Loads a text and cuts up to `nsamples` windows from its start.
pub fn load(
    spec: &TextSpec<'_>,
    model: &Model,
    nsamples: usize,
    progress: Progress,
) -> Result<Sequences> {
    let cut = Cut::of(spec, model)?;
    let tokenizer = tokenizer(model)?;
    let joined = match spec.source {
        TextSource::Unsaid => {
            let tokens = tokenizer.encode(builtin::text())?.len();
            DefaultText::of(tokens, cut.context_length, nsamples).load(progress)?
        }
        _ => text(spec, progress)?,
    };
    let ids = tokenizer.encode_start(&joined.text, cut.tokens(nsamples))?;
    cut.sequences(&ids, joined.source, nsamples)
}

/// The text of a specification that names one.
pub fn text(spec: &TextSpec<'_>, progress: Progress) -> Result<JoinedText> {
    let name = match spec.source {
        TextSource::File(path) => return read_text_file(path),
        TextSource::Named(name) => name,
        TextSource::Unsaid => builtin::NAME,
    };
    let hub = || Hub::from_env(progress);
    let wanted = Wanted {
        field: spec.field,
        role: Role::Corpus,
        seed: spec.seed,
    };
    source::load(name, wanted, &hub, progress)
}

/// The text where nobody named one, small and the same on every machine. (The paper's corpus is a
/// download of 5 GB, which nobody should start without having asked for it.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultText {
    choice: Choice,
    /// Windows that the built-in text has, and how many are wanted.
    windows: usize,
    nsamples: usize,
    context_length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    BuiltIn,
    Wikitext,
}

impl DefaultText {
    /// The built-in text if its `tokens` fill the windows, else the test split of wikitext.
    pub fn of(tokens: usize, context_length: usize, nsamples: usize) -> Self {
        let windows = tokens / context_length.max(1);
        let choice = if windows >= nsamples {
            Choice::BuiltIn
        } else {
            Choice::Wikitext
        };
        Self {
            choice,
            windows,
            nsamples,
            context_length,
        }
    }

    /// Whether it is the built-in one.
    pub fn is_built_in(&self) -> bool {
        self.choice == Choice::BuiltIn
    }

    /// Its name as a source.
    pub fn name(&self) -> &'static str {
        match self.choice {
            Choice::BuiltIn => builtin::NAME,
            Choice::Wikitext => "wikitext",
        }
    }

    /// Reads it, and says which it is.
    pub fn load(&self, progress: Progress) -> Result<JoinedText> {
        let reason = match self.choice {
            Choice::BuiltIn => "the built-in text".to_owned(),
            Choice::Wikitext => format!(
                "the test split of wikitext, because the built-in text has {} windows of {} tokens, not {}",
                self.windows, self.context_length, self.nsamples
            ),
        };
        progress.notice(&format!(
            "no --dataset or --text-file: this is {reason}; the paper's is --dataset redpajama"
        ));
        let hub = || Hub::from_env(progress);
        // Wikitext in order: 500 random ones of its lines would be no longer than the built-in text.
        let wanted = Wanted {
            field: None,
            role: Role::Whole,
            seed: 0,
        };
        let mut joined = source::load(self.name(), wanted, &hub, progress)?;
        let chosen = format!("chosen by massact: {reason}");
        joined.source.note = Some(match joined.source.note {
            Some(note) => format!("{note}; {chosen}"),
            None => chosen,
        });
        Ok(joined)
    }
}

/// Tokens of the built-in text for a model.
pub fn built_in_tokens(model: &Model) -> Result<usize> {
    Ok(tokenizer(model)?.encode(builtin::text())?.len())
}

/// How a text's tokens become sequences for a model.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    context_length: usize,
    bos: Option<u32>,
}

impl Cut {
    /// As the specification says, for this model.
    pub fn of(spec: &TextSpec<'_>, model: &Model) -> Result<Self> {
        Ok(Self {
            context_length: context_length(spec.context_length, model)?,
            bos: bos(spec.add_bos_token, tokenizer(model)?)?,
        })
    }

    /// How many of a text's tokens `nsamples` windows are cut from.
    pub fn tokens(&self, nsamples: usize) -> usize {
        self.context_length.saturating_mul(nsamples)
    }

    /// Up to `nsamples` windows from the first tokens of a text.
    pub fn sequences(&self, ids: &[u32], source: Provenance, nsamples: usize) -> Result<Sequences> {
        let rule = datasets::corpus_rule(self.context_length, self.bos, nsamples);
        Ok(Sequences {
            ids: windows(ids, &rule)?,
            context_length: self.context_length,
            add_bos_token: self.bos.is_some(),
            provenance: Some(source),
        })
    }
}

impl Sequences {
    /// These ids as they are.
    pub fn of_ids(ids: Vec<Vec<u32>>) -> Self {
        Self {
            context_length: ids.iter().map(Vec::len).max().unwrap_or(0),
            ids,
            add_bos_token: false,
            provenance: None,
        }
    }

    /// One sequence of each of these texts, exactly.
    pub fn of_texts(
        texts: &[impl AsRef<str>],
        add_bos_token: bool,
        model: &Model,
        progress: Progress,
    ) -> Result<Self> {
        let tokenizer = tokenizer(model)?;
        let bos = bos(add_bos_token, tokenizer)?;
        let of = |text: &str| {
            let mut ids: Vec<u32> = bos.into_iter().collect();
            ids.extend(tokenizer.encode(text)?);
            if ids.len() == usize::from(bos.is_some()) {
                return Err(Error::usage("text", "it has no token").remedy("give some text"));
            }
            Ok(ids)
        };
        let ids = texts.iter().map(|text| of(text.as_ref()));
        let ids: Vec<Vec<u32>> = ids.collect::<Result<_>>()?;
        tell_if_bos_twice(&ids, bos.is_some(), progress);
        Ok(Self {
            add_bos_token: bos.is_some(),
            ..Self::of_ids(ids)
        })
    }

    /// One sequence of each of these texts as what a user says, in the model's chat template. What begins and ends
    /// a text is the template's.
    pub fn of_chats(texts: &[impl AsRef<str>], model: &Model) -> Result<Self> {
        let tokenizer = tokenizer(model)?;
        let of = |text: &str| {
            let ids = tokenizer.encode(&tokenizer.chat(text)?)?;
            if ids.is_empty() {
                return Err(Error::usage("--chat", "the template leaves no token")
                    .remedy("leave out --chat"));
            }
            Ok(ids)
        };
        let ids = texts.iter().map(|text| of(text.as_ref()));
        Ok(Self::of_ids(ids.collect::<Result<_>>()?))
    }

    /// The first `count` of them.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        Self {
            ids: self.ids[..count.min(self.ids.len())].to_vec(),
            provenance: self.provenance.clone(),
            ..*self
        }
    }

    /// What there is to know of them, where `nsamples` were wanted.
    pub fn tell(&self, nsamples: usize, progress: Progress) {
        self.tell_if_fewer_than(nsamples, progress);
        tell_if_bos_twice(&self.ids, self.add_bos_token, progress);
    }

    /// Says so if the text was too short.
    pub fn tell_if_fewer_than(&self, nsamples: usize, progress: Progress) {
        if self.ids.len() < nsamples {
            progress.notice(&format!(
                "the text has {} windows of {} tokens, not {nsamples}; using those",
                self.ids.len(),
                self.context_length
            ));
        }
    }
}

/// Says so if the text itself begins with the BOS that windows get.
fn tell_if_bos_twice(windows: &[Vec<u32>], add_bos_token: bool, progress: Progress) {
    if let (true, Some([first, second, ..])) = (add_bos_token, windows.first().map(Vec::as_slice))
        && first == second
    {
        progress.notice(&format!(
            "the text begins with BOS (id {first}) itself, so it is there twice; --add-bos-token false adds none"
        ));
    }
}

/// Windows of an evaluation set, cut by the rule of its name.
pub fn evaluation_windows(
    name: &str,
    text: &str,
    model: &Model,
    context_length: usize,
    add_bos_token: bool,
    progress: Progress,
) -> Result<Vec<Vec<u32>>> {
    let tokenizer = tokenizer(model)?;
    let bos = bos(add_bos_token, tokenizer)?;
    let rule = datasets::window_rule(name, context_length, bos);
    let ids = match rule.nsamples {
        Some(most) => tokenizer.encode_start(text, most.saturating_mul(context_length))?,
        None => tokenizer.encode(text)?,
    };
    let windows = windows(&ids, &rule)?;
    tell_if_bos_twice(&windows, bos.is_some(), progress);
    Ok(windows)
}

/// The model's tokenizer, which text needs.
pub fn tokenizer(model: &Model) -> Result<&Tokenizer> {
    model.tokenizer.as_ref().ok_or_else(|| {
        Error::new(
            "tokenizer",
            "the checkpoint has none that massact reads (tokenizer.json, tokenizer.model, tiktoken.model, vocab.json with merges.txt), and text needs one",
        )
        .remedy(
            "save a fast tokenizer into the folder: AutoTokenizer.from_pretrained(..).save_pretrained(..); \
             or run `massact capture --token-ids`",
        )
    })
}

/// Tokens in a window: as asked for, or the reference's default as far as the model has positions.
pub fn context_length(asked: Option<usize>, model: &Model) -> Result<usize> {
    match (asked, model.spec.longest()) {
        (Some(length), Some((positions, bound))) if length > positions => Err(Error::usage(
            "--context-length",
            format!("{length} tokens, but {bound}"),
        )
        .remedy(format!("use {positions} or less"))),
        (Some(length), _) => Ok(length),
        (None, Some((positions, _))) => Ok(CONTEXT_LENGTH.min(positions)),
        (None, None) => Ok(CONTEXT_LENGTH),
    }
}

/// What every window begins with.
fn bos(add_bos_token: bool, tokenizer: &Tokenizer) -> Result<Option<u32>> {
    if !add_bos_token {
        return Ok(None);
    }
    match tokenizer.bos() {
        Some(id) => Ok(Some(id)),
        None => Err(Error::new(
            "--add-bos-token true",
            "neither the tokenizer nor config.json names a BOS or EOS token",
        )
        .remedy("use --add-bos-token false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_text_serves_as_far_as_it_goes() {
        assert_eq!(DefaultText::of(51_000, 4096, 12).name(), "builtin");
        assert_eq!(DefaultText::of(51_000, 4096, 13).name(), "wikitext");
        let joined = DefaultText::of(51_000, 1024, 10)
            .load(Progress::silent())
            .expect("it needs nothing");
        assert_eq!(joined.text, builtin::text());
        assert_eq!(
            joined.source.note.as_deref(),
            Some("chosen by massact: the built-in text")
        );
    }
}
