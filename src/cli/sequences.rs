//! From the text arguments to token sequences.

use super::args::TextArgs;
use crate::{
    data::{self, JoinedText, Provenance, Role, datasets},
    error::{Error, Result},
    hub::Hub,
    model::{Model, tokenizer::Tokenizer},
    progress::Progress,
};

/// The reference's default, used as far as the model has positions.
const CONTEXT_LENGTH: usize = 4096;

/// Sequences and where they come from.
pub(super) struct Sequences {
    pub(super) ids: Vec<Vec<u32>>,
    pub(super) context_length: usize,
    pub(super) add_bos_token: bool,
    pub(super) provenance: Option<Provenance>,
}

/// Loads the text, tokenises it and cuts up to `nsamples` windows from its start.
pub(super) fn load(
    args: &TextArgs,
    model: &Model,
    built_in_model: bool,
    nsamples: usize,
    progress: Progress,
) -> Result<Sequences> {
    let cut = Cut::of(args, model)?;
    let JoinedText { text, source } = text(args, built_in_model, progress)?;
    let ids = tokenizer(model)?.encode(&text)?;
    let sequences = cut.sequences(&ids, source, nsamples)?;
    sequences.tell_if_fewer_than(nsamples, progress);
    tell_if_bos_twice(&sequences.ids, cut.bos, progress);
    Ok(sequences)
}

/// How a text's tokens become sequences for a model.
pub(super) struct Cut {
    context_length: usize,
    bos: Option<u32>,
}

impl Cut {
    pub(super) fn of(args: &TextArgs, model: &Model) -> Result<Self> {
        Ok(Self {
            context_length: context_length(args, model)?,
            bos: bos(args.add_bos_token, tokenizer(model)?)?,
        })
    }

    /// Up to `nsamples` windows from the start of a text.
    pub(super) fn sequences(
        &self,
        ids: &[u32],
        source: Provenance,
        nsamples: usize,
    ) -> Result<Sequences> {
        let rule = datasets::corpus_rule(self.context_length, self.bos, nsamples);
        Ok(Sequences {
            ids: data::windows(ids, &rule)?,
            context_length: self.context_length,
            add_bos_token: self.bos.is_some(),
            provenance: Some(source),
        })
    }
}

impl Sequences {
    /// Says so if the text was too short.
    pub(super) fn tell_if_fewer_than(&self, nsamples: usize, progress: Progress) {
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
pub(super) fn tell_if_bos_twice(windows: &[Vec<u32>], bos: Option<u32>, progress: Progress) {
    if let (Some(bos), Some([first, second, ..])) = (bos, windows.first().map(Vec::as_slice))
        && *first == bos
        && *second == bos
    {
        progress.notice(&format!(
            "the text begins with BOS (id {bos}) itself, so it is there twice; --add-bos-token false adds none"
        ));
    }
}

/// These ids as they are.
pub(super) fn of_ids(ids: Vec<Vec<u32>>) -> Sequences {
    Sequences {
        context_length: ids.iter().map(Vec::len).max().unwrap_or(0),
        ids,
        add_bos_token: false,
        provenance: None,
    }
}

/// One sequence of exactly this text.
pub(super) fn of_text(
    args: &TextArgs,
    model: &Model,
    text: &str,
    progress: Progress,
) -> Result<Sequences> {
    let tokenizer = tokenizer(model)?;
    let bos = bos(args.add_bos_token, tokenizer)?;
    let mut ids: Vec<u32> = bos.into_iter().collect();
    ids.extend(tokenizer.encode(text)?);
    if ids.len() == usize::from(bos.is_some()) {
        return Err(Error::usage("text", "it has no token").remedy("give some text"));
    }
    let ids = vec![ids];
    tell_if_bos_twice(&ids, bos, progress);
    Ok(Sequences {
        context_length: ids[0].len(),
        ids,
        add_bos_token: bos.is_some(),
        provenance: None,
    })
}

/// The text that the arguments name.
pub(super) fn text(
    args: &TextArgs,
    built_in_model: bool,
    progress: Progress,
) -> Result<JoinedText> {
    if let Some(path) = &args.text_file {
        return data::read_text_file(path);
    }
    let default = if built_in_model {
        "builtin"
    } else {
        "redpajama"
    };
    let name = args.dataset.as_deref().unwrap_or(default);
    let hub = || Hub::from_env(progress);
    data::load(name, Role::Corpus, args.seed, &hub, progress)
}

/// The model's tokenizer, which text needs.
pub(super) fn tokenizer(model: &Model) -> Result<&Tokenizer> {
    model.tokenizer.as_ref().ok_or_else(|| {
        Error::new("tokenizer.json", "the checkpoint has none, and text needs one").remedy(
            "save a fast tokenizer into the folder: AutoTokenizer.from_pretrained(..).save_pretrained(..); \
             or run `massact capture --token-ids`",
        )
    })
}

/// Tokens in a window: as asked for, or the reference's default as far as the model has positions.
pub(super) fn context_length(args: &TextArgs, model: &Model) -> Result<usize> {
    let positions = model.spec.max_positions;
    match (args.context_length, positions) {
        (Some(length), Some(positions)) if length > positions => Err(Error::usage(
            "--context-length",
            format!("{length} tokens, but the model has {positions} positions"),
        )
        .remedy(format!("use {positions} or less"))),
        (Some(length), _) => Ok(length),
        (None, Some(positions)) => Ok(CONTEXT_LENGTH.min(positions)),
        (None, None) => Ok(CONTEXT_LENGTH),
    }
}

/// What every window begins with.
pub(super) fn bos(add_bos_token: bool, tokenizer: &Tokenizer) -> Result<Option<u32>> {
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
