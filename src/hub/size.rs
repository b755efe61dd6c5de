//! How much of a model is to be downloaded, what it takes in the cache, and taking it out again.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{Repo, RepoType};

use super::cache::RepoCache;
use super::failure::Failure;
use super::{Hub, Place, Snapshot, model, worker};
use crate::error::{Error, Result};

impl Hub {
    /// The model as it is in the cache, when all of it is there.
    pub fn cached_model(&self, repo: &str, revision: Option<&str>) -> Option<Snapshot> {
        let place = Place::new(RepoType::Model, repo, revision).ok()?;
        let cache = self.cache(place);
        let commit = cache.commit(place.revision)?;
        let plan = model::plan(repo, &cache.files(&commit)).ok()?;
        let there = |name: &str| cache.file(&commit, name);
        let mut whole = plan.files.iter().all(|name| there(name).is_some());
        // A model without tokenizer is whole if it is known to have none.
        whole &= plan.has_tokens() || cache.is_absent(&commit, model::TOKENIZER);
        if let Some(kind) = plan.shards {
            let index = there(plan.weights());
            let shards = index.map(|index| model::shards(repo, &index, kind));
            let shards = shards.and_then(Result::ok).unwrap_or_default();
            whole &= !shards.is_empty() && shards.iter().all(|shard| there(shard).is_some());
        }
        whole.then(|| Snapshot {
            dir: cache.snapshot(&commit),
            commit,
            repo: repo.to_owned(),
        })
    }

    /// Bytes that [`Hub::model`] would download.
    pub fn bytes_to_download(&self, repo: &str, revision: Option<&str>) -> Result<u64> {
        if self.cached_model(repo, revision).is_some() {
            return Ok(0);
        }
        let place = Place::new(RepoType::Model, repo, revision)?;
        let listing = self.listing(place)?;
        let sizes = self.sizes(place)?;
        let plan = model::plan(repo, &listing.files)?;
        let wanted = |name: &str| {
            let shard = plan.shards.is_some_and(|kind| kind.may_be(name));
            shard || plan.files.contains(&name)
        };
        let cache = self.cache(place);
        let mut bytes = 0;
        for (name, size) in &sizes {
            if !wanted(name) || cache.file(&listing.commit, name).is_some() {
                continue;
            }
            bytes += size.ok_or_else(|| {
                Error::new(
                    place.title(),
                    format!("the hub does not say how large {name} is"),
                )
            })?;
        }
        Ok(bytes)
    }

    fn sizes(&self, place: Place<'_>) -> Result<BTreeMap<String, Option<u64>>> {
        if self.settings.offline {
            return Err(
                Error::new(place.title(), "not in the cache, and HF_HUB_OFFLINE is set")
                    .remedy("unset HF_HUB_OFFLINE to ask for its size"),
            );
        }
        let asked = Repo::with_revision(place.repo.into(), place.kind, place.revision.into());
        let client = self.client.clone();
        let answer = self.repeated(place.repo, self.settings.retries, move || {
            let (client, asked) = (client.clone(), asked.clone());
            move |_: &worker::Line<_>| client.revision(&asked, true)
        })?;
        match answer {
            Ok(sizes) => Ok(sizes
                .siblings
                .into_iter()
                .map(|file| (file.rfilename, file.size))
                .collect()),
            Err(failure) => Err(self.explain(place, "", &failure)),
        }
    }

    /// Bytes of a snapshot's files.
    pub fn bytes_of(snapshot: &Snapshot) -> u64 {
        let links = entries(&snapshot.dir);
        links
            .iter()
            .filter_map(|link| fs::metadata(link).ok())
            .map(|about| about.len())
            .sum()
    }

    /// Removes a commit of a model from the cache, with the files that no other commit has. Returns the
    /// bytes that became free.
    pub fn remove(&self, repo: &str, commit: &str) -> Result<u64> {
        let place = Place::new(RepoType::Model, repo, None)?;
        let cache = self.cache(place);
        remove(&cache, commit).map_err(|error| {
            self.explain(place, "", &Failure::Local(format!("not removed: {error}")))
        })
    }
}

fn remove(cache: &RepoCache, commit: &str) -> io::Result<u64> {
    let snapshot = cache.snapshot(commit);
    let blobs = |folder: &Path| -> HashSet<PathBuf> {
        let links = entries(folder).into_iter();
        links.filter_map(|link| link.canonicalize().ok()).collect()
    };
    let own = blobs(&snapshot);
    let all = snapshot.parent().map(fs::read_dir).transpose()?;
    let mut others = HashSet::new();
    for folder in all.into_iter().flatten() {
        let folder = folder?.path();
        if folder != snapshot {
            others.extend(blobs(&folder));
        }
    }
    // The links first: what is left after a fault is then files that nobody reads, not links to nothing.
    fs::remove_dir_all(&snapshot)?;
    let mut freed = 0;
    for blob in own.difference(&others) {
        // Where there are no links, the files have gone with their folder.
        if let Ok(about) = fs::metadata(blob) {
            fs::remove_file(blob)?;
            freed += about.len();
        }
    }
    Ok(freed)
}

/// All files below a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(entries(&path));
        } else {
            found.push(path);
        }
    }
    found
}
