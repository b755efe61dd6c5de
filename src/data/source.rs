//! From the name of a source to its joined text.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::datasets::{self, CORPUS_DOCUMENTS, Dataset, Take};
use super::limits::{MOST_TEXT, too_much_text};
use super::mt19937::Mt19937;
use super::row_set::Rows;
use super::rows::{Format, RowFile, unknown_format};
use super::text::read_text_file;
use super::{JoinedText, Provenance, Role, SourceFile, builtin, watched};
use crate::error::{Error, Kind, Result};
use crate::hub::Hub;
use crate::progress::Progress;

/// The field or column that holds the text of any source outside the table.
const COLUMN: &str = "text";

/// Put between the documents of the corpus, and of any source outside the table.
const JOINER: &str = "\n\n";

/// What is wanted of a source.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The field or column that holds the text; none: the source's own, or `text`.
    pub field: Option<&'a str>,
    /// What the text is for.
    pub role: Role,
    /// Of the random choice of documents.
    pub seed: u64,
}

impl Wanted<'_> {
    /// For a source that is one text.
    fn refuse_field(&self, source: &str) -> Result<()> {
        match self.field {
            None => Ok(()),
            Some(field) => Err(Error::usage(
                format!("--text-field {field}"),
                format!("{source} is one text, without fields"),
            )
            .remedy("leave it out, or give a .jsonl or .parquet file")),
        }
    }
}

/// Gives the hub to a source that needs it; a local file or the built-in text never asks.
pub type OpenHub<'a> = dyn Fn() -> Result<Hub> + 'a;

/// Loads the text of `source`: `builtin`, a dataset of [`datasets::DATASETS`], a local `.txt`,
/// `.jsonl[.gz|.zst]` or `.parquet`, or a dataset on the hub, `owner/name` or `owner/name:file`.
///
/// The corpus role takes the first [`CORPUS_DOCUMENTS`] of the documents in the order that
/// `numpy.random.RandomState(seed).permutation` gives, which is how the published runs drew theirs.
///
/// Documents are in the field or column that `wanted` names, or in the source's own.
pub fn load(
    source: &str,
    wanted: Wanted<'_>,
    hub: &OpenHub<'_>,
    progress: Progress,
) -> Result<JoinedText> {
    let mut joined = load_from(source, wanted, hub, progress)?;
    if let Some(field) = wanted.field {
        joined.source.name = format!("{}, field {field}", joined.source.name);
    }
    Ok(joined)
}

fn load_from(
    source: &str,
    wanted: Wanted<'_>,
    hub: &OpenHub<'_>,
    progress: Progress,
) -> Result<JoinedText> {
    if source == builtin::NAME {
        wanted.refuse_field(source)?;
        return builtin_text();
    }
    if let Some(dataset) = datasets::find(source) {
        return named(dataset, wanted, &hub()?, progress);
    }
    let path = Path::new(source);
    if path.exists() {
        return local(source, path, wanted, progress);
    }
    if Format::of(source).is_some() && !source.contains(':') {
        return Err(Error::new(source, "no such file")
            .remedy("check the path")
            .meant_path(path));
    }
    match hub_name(source) {
        Some((repo, file)) => {
            remote(source, (repo, file), wanted, &hub()?, progress).map_err(|error| {
                match error.kind() {
                    Kind::Absent => error
                        .meant_path(path)
                        .meant(repo, datasets::DATASETS.iter().map(|set| set.repo)),
                    _ => error,
                }
            })
        }
        None => Err(unknown(source)),
    }
}

fn builtin_text() -> Result<JoinedText> {
    let text = builtin::text();
    Ok(JoinedText {
        text: text.to_owned(),
        source: Provenance {
            name: builtin::NAME.into(),
            files: vec![SourceFile {
                path: builtin::NAME.into(),
                bytes: text.len() as u64,
                blake3: blake3::hash(text.as_bytes()).to_hex().to_string(),
            }],
            documents: 1,
            joiner: "",
            note: None,
        },
    })
}

fn unknown(source: &str) -> Error {
    let names: Vec<&str> = datasets::DATASETS.iter().map(|set| set.name).collect();
    Error::usage(
        source,
        "neither a file, nor a dataset massact knows, nor a name on the hub",
    )
    .remedy(format!(
        "give a file, owner/name, {} or {}",
        names.join(", "),
        builtin::NAME
    ))
    .meant_path(Path::new(source))
    .meant(source, names.into_iter().chain([builtin::NAME]))
}

/// `owner/name` or `owner/name:path/in/it`.
fn hub_name(source: &str) -> Option<(&str, Option<&str>)> {
    let (repo, file) = match source.split_once(':') {
        Some((repo, file)) => (repo, Some(file)),
        None => (source, None),
    };
    let (owner, name) = repo.split_once('/')?;
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('/');
    (plain(owner) && plain(name)).then_some((repo, file))
}

fn local(source: &str, path: &Path, wanted: Wanted<'_>, progress: Progress) -> Result<JoinedText> {
    if path.is_dir() {
        return Err(Error::new(source, "is a directory").remedy("name one file in it"));
    }
    match Format::of(source) {
        Some(Format::Text) => {
            wanted.refuse_field(source)?;
            read_text_file(path)
        }
        Some(Format::Jsonl(_) | Format::Parquet) => {
            let file = RowFile::new(path.to_owned(), wanted.field.unwrap_or(COLUMN))?;
            let files = [(source.to_owned(), file)];
            let (take, joiner) = choice(None, wanted.role);
            join(
                source,
                &files,
                take,
                joiner,
                wanted.seed,
                Vec::new(),
                progress,
            )
        }
        None => Err(unknown_format(path)),
    }
}

fn named(
    dataset: &Dataset,
    wanted: Wanted<'_>,
    hub: &Hub,
    progress: Progress,
) -> Result<JoinedText> {
    let Wanted { field, role, seed } = wanted;
    let listing = from_hub(hub.dataset_files(dataset.repo, None), role)?;
    let mut names = Vec::new();
    for pattern in dataset.files {
        let Some(name) = listing.iter().find(|path| pattern.matches(path)) else {
            return Err(Error::new(
                dataset.repo,
                format!("no file {}*{} in it", pattern.prefix, pattern.suffix),
            )
            .remedy("the dataset has changed, or the cache holds only part of it; give a local file with --dataset"));
        };
        names.push(name.clone());
    }
    let cached = |name: &String| hub.has_dataset_file(dataset.repo, None, name);
    if let Some(size) = dataset.download
        && !names.iter().all(cached)
    {
        progress.notice(&format!(
            "{}: a download of {size}, into the cache; --dataset wikitext and --dataset builtin are small",
            dataset.name
        ));
    }
    let column = field.unwrap_or(dataset.column);
    let files = from_hub(fetch(dataset.repo, names, column, hub), role)?;
    let (take, joiner) = choice(Some(dataset), role);
    let notes = vec![commit_note(dataset.repo, hub)];
    join(dataset.name, &files, take, joiner, seed, notes, progress)
}

fn remote(
    source: &str,
    (repo, file): (&str, Option<&str>),
    wanted: Wanted<'_>,
    hub: &Hub,
    progress: Progress,
) -> Result<JoinedText> {
    let Wanted { field, role, seed } = wanted;
    let mut notes = vec![commit_note(repo, hub)];
    let name = match file {
        Some(file) => file.to_owned(),
        None => {
            let listing = from_hub(hub.dataset_files(repo, None), role)?;
            let (name, of) = pick(&listing, role).ok_or_else(|| {
                Error::new(repo, "no text file in this dataset")
                    .remedy("name a .jsonl, .parquet or .txt file of it as owner/name:file")
            })?;
            if of > 1 {
                notes.push(format!("{name} only, of {of} files"));
            }
            name
        }
    };
    if Format::of(&name) == Some(Format::Text) {
        wanted.refuse_field(source)?;
        let file = from_hub(hub.dataset_file(repo, None, &name), role)?;
        let mut joined = read_text_file(&file)?;
        joined.source.name = source.to_owned();
        if let Some(file) = joined.source.files.first_mut() {
            file.path = name;
        }
        joined.source.note = Some(notes.join("; "));
        return Ok(joined);
    }
    let column = field.unwrap_or(COLUMN);
    let files = from_hub(fetch(repo, vec![name], column, hub), role)?;
    let (take, joiner) = choice(None, role);
    join(source, &files, take, joiner, seed, notes, progress)
}

/// What the hub gives; where it does not, the way without it is a remedy, too.
fn from_hub<T>(found: Result<T>, role: Role) -> Result<T> {
    found.map_err(|error| match (error.kind(), role) {
        (Kind::Interrupted, _) => error,
        (_, Role::Corpus | Role::Whole) => error.or(format!(
            "without network give --text-file or --dataset {}",
            builtin::NAME
        )),
        (_, Role::Evaluation) => error.or(format!(
            "without network give --eval NAME=FILE or --eval {}",
            builtin::NAME
        )),
    })
}

fn commit_note(repo: &str, hub: &Hub) -> String {
    match hub.dataset_commit(repo, None) {
        Ok(commit) => format!("{repo} at {commit}"),
        Err(_) => repo.to_owned(),
    }
}

/// The file to read of a dataset that massact does not know, and how many there were to choose
/// from: the training split for the corpus, the test split to evaluate, where names tell.
fn pick(listing: &[String], role: Role) -> Option<(String, usize)> {
    let mut texts: Vec<&String> = listing
        .iter()
        .filter(|path| Format::of(path).is_some())
        .collect();
    texts.sort();
    let splits: &[&str] = match role {
        Role::Corpus => &["train"],
        Role::Evaluation | Role::Whole => &["test", "valid"],
    };
    let of_split = splits
        .iter()
        .find_map(|split| texts.iter().find(|path| path.contains(split)));
    let name = of_split.or(texts.first())?;
    Some(((*name).clone(), texts.len()))
}

fn fetch(
    repo: &str,
    names: Vec<String>,
    column: &str,
    hub: &Hub,
) -> Result<Vec<(String, RowFile)>> {
    names
        .into_iter()
        .map(|name| {
            let path: PathBuf = hub.dataset_file(repo, None, &name)?;
            Ok((name, RowFile::new(path, column)?))
        })
        .collect()
}

fn choice(dataset: Option<&Dataset>, role: Role) -> (Take, &'static str) {
    match (role, dataset) {
        (Role::Corpus, _) => (Take::Random(CORPUS_DOCUMENTS), JOINER),
        (_, Some(set)) => (set.take, set.joiner),
        (_, None) => (Take::All, JOINER),
    }
}

fn join(
    name: &str,
    files: &[(String, RowFile)],
    take: Take,
    joiner: &'static str,
    seed: u64,
    mut notes: Vec<String>,
    progress: Progress,
) -> Result<JoinedText> {
    let documents = match take {
        Take::All => in_order(files, u64::MAX, progress)?,
        Take::First(most) => in_order(files, most, progress)?,
        Take::Random(most) => {
            let (documents, total) = at_random(name, files, most, seed, progress)?;
            notes.push(format!(
                "{} of {total} documents at random, seed {seed}",
                documents.len()
            ));
            documents
        }
    };
    let empty = documents
        .iter()
        .filter(|text| text.trim().is_empty())
        .count();
    if empty == documents.len() {
        let reason = if empty == 0 {
            "no documents in it"
        } else {
            "all its documents are empty"
        };
        return Err(Error::new(name, reason).remedy("give a source with text"));
    }
    if empty > 0 {
        notes.push(format!(
            "{empty} of {} documents are empty",
            documents.len()
        ));
    }
    let mut sources = Vec::new();
    for (label, file) in files {
        let (bytes, blake3) = watched::checksum(file.path(), progress)?;
        sources.push(SourceFile {
            path: label.clone(),
            bytes,
            blake3,
        });
    }
    Ok(JoinedText {
        source: Provenance {
            name: name.to_owned(),
            files: sources,
            documents: documents.len(),
            joiner,
            note: (!notes.is_empty()).then(|| notes.join("; ")),
        },
        text: documents.join(joiner),
    })
}

fn in_order(files: &[(String, RowFile)], most: u64, progress: Progress) -> Result<Vec<String>> {
    let mut documents = Vec::new();
    let mut bytes = 0;
    for (label, file) in files {
        let left = most.saturating_sub(documents.len() as u64);
        let rows = if most == u64::MAX {
            Rows::ALL
        } else {
            Rows::First(left)
        };
        file.read(
            rows,
            &mut |_, text| {
                bytes += text.len();
                if bytes > MOST_TEXT {
                    return Err(too_much_text(label));
                }
                documents.push(text);
                Ok(())
            },
            progress,
        )?;
    }
    Ok(documents)
}

/// Two passes, so that a corpus far larger than memory can be drawn from: count, then read the
/// chosen rows only. Also returns how many there were.
fn at_random(
    name: &str,
    files: &[(String, RowFile)],
    most: u64,
    seed: u64,
    progress: Progress,
) -> Result<(Vec<String>, u64)> {
    let mut spans = Vec::new();
    let mut total = 0u64;
    for (_, file) in files {
        let start = total;
        total = total.saturating_add(file.count(progress)?);
        spans.push(start..total);
    }
    let count = u32::try_from(total).map_err(|_| {
        Error::new(name, format!("{total} documents are too many to draw from"))
            .remedy("give a smaller file")
    })?;
    let order = Mt19937::new(seed).permutation(count)?;
    let place: HashMap<u64, usize> = order
        .iter()
        .zip(0..most)
        .map(|(row, place)| (u64::from(*row), place as usize))
        .collect();
    let mut documents = vec![String::new(); place.len()];
    let (mut found, mut bytes) = (0, 0);
    for ((_, file), span) in files.iter().zip(spans) {
        let mut wanted: Vec<u64> = place
            .keys()
            .filter(|row| span.contains(row))
            .map(|row| row - span.start)
            .collect();
        wanted.sort_unstable();
        file.read(
            Rows::Set(&wanted),
            &mut |row, text| {
                let slot = place
                    .get(&(span.start + row))
                    .and_then(|at| documents.get_mut(*at));
                if let Some(slot) = slot {
                    bytes += text.len();
                    if bytes > MOST_TEXT {
                        return Err(too_much_text(&name));
                    }
                    *slot = text;
                    found += 1;
                }
                Ok(())
            },
            progress,
        )?;
    }
    if found != documents.len() {
        return Err(Error::new(name, "a file changed while it was read").remedy("run again"));
    }
    Ok((documents, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_names() {
        assert_eq!(hub_name("a/b"), Some(("a/b", None)));
        assert_eq!(hub_name("a/b:c/d.jsonl"), Some(("a/b", Some("c/d.jsonl"))));
        for bad in ["a", "a/b/c", "/a", "a/", "../a", "./a", ":a/b", ""] {
            assert_eq!(hub_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_split_that_fits_the_role_is_picked() {
        let listing: Vec<String> = [
            "README.md",
            "data/test-0.parquet",
            "data/train-0.parquet",
            "data/train-1.parquet",
        ]
        .map(String::from)
        .into();
        assert_eq!(
            pick(&listing, Role::Corpus),
            Some(("data/train-0.parquet".into(), 3))
        );
        assert_eq!(
            pick(&listing, Role::Evaluation),
            Some(("data/test-0.parquet".into(), 3))
        );
        assert_eq!(pick(&listing[..1], Role::Corpus), None);
    }
}
