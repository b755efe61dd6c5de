//! One file from the hub into the cache, checked.

use std::io::Read;
use std::path::{Path, PathBuf};

use hf_hub::api::sync::Api;
use hf_hub::{Repo, RepoType};

use super::cache::RepoCache;
use super::failure::Failure;
use super::names;
use super::worker::Line;

/// Which file.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) repo: String,
    pub(super) kind: RepoType,
    pub(super) commit: String,
    pub(super) path: String,
}

/// Downloads `wanted`. `hf-hub` transfers, resumes and stores; what it takes on trust is checked
/// here: names that become paths, a part that is too long, and the length and hash of the result.
pub(super) fn fetch(
    api: &Api,
    cache: &RepoCache,
    wanted: &Wanted,
    line: &Line<PathBuf>,
) -> Result<PathBuf, Failure> {
    let repo = api.repo(Repo::with_revision(
        wanted.repo.clone(),
        wanted.kind,
        wanted.commit.clone(),
    ));
    let about = api.metadata(&repo.url(&wanted.path))?;
    line.beat();
    let tag = about.etag();
    if !names::is_tag(tag) {
        return Err(Failure::BadAnswer(format!("{tag:?} is no entity tag")));
    }
    if about.commit_hash() != wanted.commit {
        return Err(Failure::BadAnswer(format!(
            "it answers for commit {:?}",
            about.commit_hash()
        )));
    }
    let size = about.size() as u64;
    cache
        .clear_dangling(&wanted.commit, &wanted.path)
        .map_err(local)?;
    if cache
        .reuse(tag, size, &wanted.commit, &wanted.path)
        .map_err(local)?
    {
        return Ok(cache.snapshot(&wanted.commit).join(&wanted.path));
    }
    // Asking for what follows a complete part is an error to servers, and hf-hub would ask.
    let part = cache.part(tag);
    if std::fs::metadata(&part).is_ok_and(|kept| kept.len() >= size) {
        std::fs::remove_file(&part).map_err(local)?;
    }
    let file = repo.download_with_progress(&wanted.path, line.share())?;
    if let Err(failure) = verify(&file, size, tag, line) {
        // The entry must not stay: the next run would trust it.
        let _ = std::fs::remove_file(&file);
        let _ = std::fs::remove_file(cache.blob(tag));
        return Err(failure);
    }
    Ok(file)
}

/// Length, and for large files the hash, which is their tag.
fn verify(file: &Path, size: u64, tag: &str, line: &Line<PathBuf>) -> Result<(), Failure> {
    let found = std::fs::metadata(file).map_err(local)?.len();
    if found != size {
        return Err(Failure::Damaged(format!("{found} bytes came of {size}")));
    }
    if tag.len() != 64 || !tag.chars().all(|c| c.is_ascii_hexdigit()) {
        return Ok(());
    }
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut reader = std::fs::File::open(file).map_err(local)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = reader.read(&mut buffer).map_err(local)?;
        if count == 0 {
            break;
        }
        context.update(buffer.get(..count).unwrap_or_default());
        line.beat();
    }
    let digest = context.finish();
    let hash: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if hash.eq_ignore_ascii_case(tag) {
        Ok(())
    } else {
        Err(Failure::Damaged(format!(
            "its SHA-256 is {hash}, not {tag}"
        )))
    }
}

fn local(error: std::io::Error) -> Failure {
    Failure::Local(error.to_string())
}
