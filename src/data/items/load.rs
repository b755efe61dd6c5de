//! From the name of a task to its tokenised items.

use std::path::{Path, PathBuf};

use super::{
    super::{Provenance, SourceFile, sequences, source::OpenHub, watched},
    encode::{Encoder, Task},
    fields::Fields,
    item::{Convention, Item, Read},
    own::own,
    prompts::Prompt,
    sets::{self, Set},
    table,
};
use crate::{
    error::{Error, Kind, Result},
    files,
    hub::Hub,
    model::Model,
    progress::Progress,
};

/// Where the hub keeps its own conversion of a set whose repository holds other files.
const CONVERTED: &str = "refs/convert/parquet";

/// A task as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSource {
    /// The name of a known set, whose fields the items have, or any other for items in massact's own
    /// fields.
    pub name: String,
    /// The items; none for a known set from the hub.
    pub file: Option<PathBuf>,
}

/// How tasks are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading {
    /// Whose prompts.
    pub convention: Convention,
    /// Whether every text begins with the token that starts a sequence; none for what the tokenizer does
    /// by itself.
    pub add_bos_token: Option<bool>,
    /// The first items only.
    pub limit: Option<usize>,
}

/// Loads a task.
pub fn load(
    task: &TaskSource,
    reading: Reading,
    model: &Model,
    hub: &OpenHub<'_>,
    progress: Progress,
) -> Result<(Task, Provenance)> {
    let set = sets::find(&task.name);
    let (files, note) = match (&task.file, set) {
        (Some(file), _) => (vec![(file.display().to_string(), file.clone())], None),
        (None, Some(set)) => {
            let (files, note) = hub()
                .and_then(|hub| download(set, &hub))
                .map_err(|error| local_remedy(error, set.name))?;
            (files, Some(note))
        }
        (None, None) => return Err(unknown(&task.name)),
    };
    let prompt = set.map_or(own as Prompt, |set| set.prompt);
    let items = read(&files, reading.limit, progress, |fields| {
        prompt(fields, reading.convention)
    })?;
    if items.is_empty() {
        let (label, _) = &files[0];
        return Err(Error::new(label, "no items in it").remedy("give a file with items"));
    }
    let encoder = Encoder::of(sequences::tokenizer(model)?, model, reading.add_bos_token);
    let encoded = encoder.items(&items, &files)?;
    let mut sources = Vec::new();
    for (label, path) in &files {
        let (bytes, blake3) = watched::checksum(path, progress)?;
        sources.push(SourceFile {
            path: label.clone(),
            bytes,
            blake3,
        });
    }
    let source = Provenance {
        name: task.name.clone(),
        files: sources,
        documents: items.len(),
        joiner: "",
        note,
    };
    let task = Task {
        name: task.name.clone(),
        convention: reading.convention,
        normed: items.iter().all(|item| item.item.normed),
        items: encoded,
    };
    Ok((task, source))
}

fn read(
    files: &[(String, PathBuf)],
    limit: Option<usize>,
    progress: Progress,
    mut prompt: impl FnMut(&Fields<'_>) -> Result<Item>,
) -> Result<Vec<Read>> {
    let limit = limit.unwrap_or(usize::MAX);
    let mut items = Vec::new();
    for (file, (label, path)) in files.iter().enumerate() {
        table::read(
            path,
            &mut |row, values| {
                if items.len() < limit {
                    let item = prompt(&Fields::new(label, row, values))?;
                    items.push(Read { file, item });
                }
                Ok(items.len() < limit)
            },
            progress,
        )?;
    }
    Ok(items)
}

/// The files of a known set, and where they are from.
fn download(set: &Set, hub: &Hub) -> Result<(Vec<(String, PathBuf)>, String)> {
    for revision in [None, Some(CONVERTED)] {
        let listing = match hub.dataset_files(set.repo, revision) {
            Ok(listing) => listing,
            // Not every set has a conversion.
            Err(error) if revision.is_some() && error.kind() != Kind::Interrupted => break,
            Err(error) => return Err(error),
        };
        let names = set.files(&listing);
        if names.is_empty() {
            continue;
        }
        let files = names.into_iter().map(|name| {
            let path = hub.dataset_file(set.repo, revision, &name)?;
            Ok((name, path))
        });
        let files = files.collect::<Result<Vec<_>>>()?;
        let note = match hub.dataset_commit(set.repo, revision) {
            Ok(commit) => format!("{} at {commit}", set.repo),
            Err(_) => set.repo.to_owned(),
        };
        return Ok((files, note));
    }
    let subset = set
        .subset
        .map_or_else(String::new, |name| format!("{name}/"));
    Err(Error::new(
        set.repo,
        format!("no .parquet or .jsonl file {subset}{} in it", set.split),
    ))
}

/// What the hub does not give can be had as a file.
fn local_remedy(error: Error, name: &str) -> Error {
    match error.kind() {
        Kind::Interrupted => error,
        _ => error.or(format!("give a copy of the set with --task {name}=FILE")),
    }
}

fn unknown(name: &str) -> Error {
    Error::usage(format!("--tasks {name}"), "no task that massact knows")
        .remedy(format!(
            "use {}, or --task {name}=FILE for items of your own",
            sets::names().join(", ")
        ))
        .meant(name, sets::names())
}

/// Refuses a name that needs a file and has none, before anything is read.
impl TaskSource {
    /// A task of `--tasks`.
    pub fn named(name: &str) -> Result<Self> {
        match sets::find(name) {
            Some(_) => Ok(Self {
                name: name.to_owned(),
                file: None,
            }),
            None => Err(unknown(name)),
        }
    }

    /// A task of `--task`, whose file is there.
    pub fn local(name: &str, file: &Path) -> Result<Self> {
        if !files::is_there(file) || file.is_dir() {
            let reason = if file.is_dir() {
                "is a directory"
            } else {
                "no such file"
            };
            return Err(Error::new(file.display(), reason)
                .remedy("check the path in --task")
                .meant_path(file));
        }
        Ok(Self {
            name: name.to_owned(),
            file: Some(file.to_owned()),
        })
    }
}
