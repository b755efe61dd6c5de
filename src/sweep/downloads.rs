//! Models that come from the hub: how much there is to download, fetching the next one ahead, and removing
//! those that the sweep has brought and is done with.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::PathBuf,
    thread::{self, JoinHandle},
};

use serde::{Deserialize, Serialize};

use super::folder::Folder;
use crate::{
    error::{Error, Result},
    files,
    hub::Hub,
    progress::Progress,
    report::{atomic::write_atomic, run::now_rfc3339},
};

/// A model of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HubModel {
    /// `owner/name`
    pub repo: String,
    /// Branch, tag or commit.
    pub revision: Option<String>,
}

/// What the sweep has brought into the cache.
#[derive(Debug, Serialize, Deserialize)]
struct Download {
    #[serde(flatten)]
    model: HubModel,
    commit: String,
    bytes: u64,
    fetched_at: String,
}

/// A download under way.
struct Ahead {
    model: HubModel,
    thread: JoinHandle<()>,
}

/// The sweep's downloads.
pub struct Downloads<'a> {
    folder: &'a Folder,
    /// Of downloads that are waited for.
    progress: Progress,
    ahead: Option<Ahead>,
}

impl<'a> Downloads<'a> {
    /// Of a sweep.
    pub fn of(folder: &'a Folder, progress: Progress) -> Self {
        Self {
            folder,
            progress,
            ahead: None,
        }
    }

    /// Begins to fetch a model, unless another is being fetched. What goes wrong is said when its turn
    /// comes.
    pub fn begin(&mut self, model: &HubModel) {
        if self
            .ahead
            .as_ref()
            .is_some_and(|ahead| !ahead.thread.is_finished())
        {
            return;
        }
        let (wanted, root) = (model.clone(), self.folder.root().to_owned());
        let fetch = move || {
            // Errors come again, to somebody who can report them.
            let _ = fetch(&Folder::at(&root), &wanted, Progress::silent());
        };
        let thread = thread::Builder::new()
            .name("download".to_owned())
            .spawn(fetch);
        self.ahead = thread.ok().map(|thread| Ahead {
            model: model.clone(),
            thread,
        });
    }

    /// Makes sure that a model is there, if it can be had; called before it is opened.
    pub fn finish(&mut self, model: &HubModel) -> Result<()> {
        if let Some(ahead) = self.ahead.take_if(|ahead| ahead.model == *model) {
            // A panic in it was printed.
            let _ = ahead.thread.join();
        }
        fetch(self.folder, model, self.progress)
    }

    /// Removes models that the sweep has brought and of which `done` says that no task wants them any
    /// more, oldest first, until all that it has brought takes no more than `most` bytes.
    pub fn evict(&self, most: u64, done: impl Fn(&HubModel) -> bool) -> Result<Vec<String>> {
        let mut all = self.brought()?;
        all.sort_by(|(_, a), (_, b)| a.fetched_at.cmp(&b.fetched_at));
        let mut total: u64 = all.iter().map(|(_, download)| download.bytes).sum();
        let mut removed = Vec::new();
        for (path, download) in all {
            if total <= most {
                break;
            }
            if !done(&download.model) {
                continue;
            }
            // First the record: of two processes that remove it, one finds none.
            if fs::remove_file(&path).is_ok() {
                let hub = Hub::from_env(Progress::silent())?;
                hub.remove(&download.model.repo, &download.commit)?;
                removed.push(download.model.repo);
            }
            total -= download.bytes;
        }
        Ok(removed)
    }

    fn brought(&self) -> Result<Vec<(PathBuf, Download)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder.downloads()).into_iter().flatten() {
            let path = entry
                .map_err(|error| Error::new(self.folder.downloads().display(), error))?
                .path();
            let download = files::read(&path, files::DESCRIPTION).ok();
            let download = download.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            found.extend(download.map(|download| (path, download)));
        }
        Ok(found)
    }
}

/// Fetches a model, and notes it if it was not there before.
fn fetch(folder: &Folder, model: &HubModel, progress: Progress) -> Result<()> {
    let hub = Hub::from_env(progress)?;
    let revision = model.revision.as_deref();
    if hub.cached_model(&model.repo, revision).is_some() {
        return Ok(());
    }
    let snapshot = hub.model(&model.repo, revision)?;
    let download = Download {
        bytes: Hub::bytes_of(&snapshot),
        model: model.clone(),
        commit: snapshot.commit,
        fetched_at: now_rfc3339(),
    };
    let key = format!("{}@{}", model.repo, revision.unwrap_or("main"));
    let name = blake3::hash(key.as_bytes()).to_hex();
    let path = folder.downloads().join(format!("{}.json", &name[..16]));
    fs::create_dir_all(folder.downloads()).map_err(|error| Error::new(path.display(), error))?;
    let bytes = serde_json::to_vec(&download)
        .map_err(|error| Error::new(path.display(), format!("not valid JSON: {error}")))?;
    write_atomic(&path, &bytes).map(drop)
}
