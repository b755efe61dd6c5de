//! The cache on disk, laid out as by Python's `huggingface_hub`:
//! `models--owner--name/{refs/<revision>, snapshots/<commit>/<file> -> ../../blobs/<tag>}`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

use super::names;
use crate::files;

/// One repository's folder in the cache.
#[derive(Debug, Clone)]
pub(super) struct RepoCache {
    folder: PathBuf,
    cache: Cache,
    repo: Repo,
}

impl RepoCache {
    pub(super) fn new(cache_dir: &Path, repo: &str, kind: RepoType) -> Self {
        let repo = Repo::new(repo.to_owned(), kind);
        Self {
            folder: cache_dir.join(repo.folder_name()),
            cache: Cache::new(cache_dir.to_owned()),
            repo,
        }
    }

    /// The commit that `revision` was when it was last asked for.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if names::is_commit(revision) && self.snapshot(revision).is_dir() {
            return Some(revision.to_owned());
        }
        let commit =
            files::read_text(&self.folder.join("refs").join(revision), files::DESCRIPTION).ok()?;
        let commit = commit.trim();
        (names::is_commit(commit) && self.snapshot(commit).is_dir()).then(|| commit.to_owned())
    }

    /// Remembers which commit `revision` is. Written beside and renamed, so that no reader ever
    /// sees half a hash.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> std::io::Result<()> {
        let path = self.folder.join("refs").join(revision);
        if names::is_commit(revision)
            || files::read_text(&path, files::DESCRIPTION).is_ok_and(|known| known.trim() == commit)
        {
            return Ok(());
        }
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        std::fs::create_dir_all(parent)?;
        let mut beside = path.clone().into_os_string();
        beside.push(format!(".{}.tmp", std::process::id()));
        std::fs::write(&beside, commit)?;
        std::fs::rename(&beside, &path)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).pointer_path(commit)
    }

    pub(super) fn blob(&self, tag: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).blob_path(tag)
    }

    /// The file, when it is there.
    pub(super) fn file(&self, commit: &str, path: &str) -> Option<PathBuf> {
        let file = self.snapshot(commit).join(path);
        file.is_file().then_some(file)
    }

    /// Where it is kept that a commit has no such file.
    fn absence(&self, commit: &str, path: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(path)
    }

    /// Whether it is known that the commit has no such file.
    pub(super) fn is_absent(&self, commit: &str, path: &str) -> bool {
        self.absence(commit, path).is_file()
    }

    /// Keeps that the commit has no such file.
    pub(super) fn remember_absent(&self, commit: &str, path: &str) -> std::io::Result<()> {
        if self.is_absent(commit, path) {
            return Ok(());
        }
        let path = self.absence(commit, path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, "")
    }

    /// Removes a link to a blob that is gone, which would be in the way of a new one. Another process
    /// may have removed it first.
    pub(super) fn clear_dangling(&self, commit: &str, path: &str) -> std::io::Result<()> {
        let link = self.snapshot(commit).join(path);
        if !link.is_symlink() || link.exists() {
            return Ok(());
        }
        match std::fs::remove_file(link) {
            Err(reason) if reason.kind() != ErrorKind::NotFound => Err(reason),
            _ => Ok(()),
        }
    }

    /// Lets `commit` use a blob that another commit, or another process, has brought. False when that
    /// blob is not there.
    pub(super) fn reuse(
        &self,
        tag: &str,
        size: u64,
        commit: &str,
        path: &str,
    ) -> std::io::Result<bool> {
        let blob = self.blob(tag);
        if !std::fs::metadata(&blob).is_ok_and(|about| about.is_file() && about.len() == size) {
            return Ok(false);
        }
        let link = self.snapshot(commit).join(path);
        if let Some(parent) = link.parent() {
            std::fs::create_dir_all(parent)?;
        }
        match self.link(tag, path, &blob, &link) {
            // A process that waited for the same file may be the first to link it.
            Err(reason) if reason.kind() != ErrorKind::AlreadyExists => Err(reason),
            Err(_) => Ok(link.is_file()),
            Ok(()) => Ok(true),
        }
    }

    #[cfg(unix)]
    fn link(&self, tag: &str, path: &str, _blob: &Path, link: &Path) -> std::io::Result<()> {
        // From snapshots/<commit>/<folders of path>: one step up for each folder, and two more.
        let up = "../".repeat(path.split('/').count() + 1);
        std::os::unix::fs::symlink(format!("{up}blobs/{tag}"), link)
    }

    #[cfg(not(unix))]
    fn link(&self, _tag: &str, _path: &str, blob: &Path, link: &Path) -> std::io::Result<()> {
        std::fs::copy(blob, link).map(|_| ())
    }

    /// Every file of a commit that is in the cache.
    pub(super) fn files(&self, commit: &str) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.snapshot(commit), "", 8, &mut found);
        found.sort();
        found
    }
}

fn collect(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        if path.is_file() {
            found.push(format!("{prefix}{name}"));
        } else if depth > 0 && path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), depth - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    fn cache(folder: &Path) -> RepoCache {
        let cache = RepoCache::new(folder, "owner/name", RepoType::Model);
        let blob = cache.blob("tag");
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        std::fs::write(blob, "words").unwrap();
        cache
    }

    #[test]
    fn a_file_that_another_process_has_linked_first_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path());
        for _ in 0..2 {
            assert!(cache.reuse("tag", 5, COMMIT, "a/config.json").unwrap());
            let file = cache.file(COMMIT, "a/config.json").unwrap();
            assert_eq!(std::fs::read_to_string(file).unwrap(), "words");
        }
        assert!(!cache.reuse("tag", 6, COMMIT, "a/config.json").unwrap());
    }
}
