//! Models and datasets from the Hugging Face hub, through the cache that Python shares.
//!
//! A request goes to the network only when the cache does not answer it: a branch is asked for its
//! commit, the files of a commit never change. Nothing but what massact reads is downloaded.

mod cache;
mod client;
mod failure;
mod fetch;
mod listing;
mod model;
mod names;
mod pull_requests;
mod settings;
mod size;
mod worker;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use hf_hub::{Repo, RepoType};

use cache::RepoCache;
use client::Client;
use failure::Failure;
use fetch::Wanted;
pub use settings::Settings;

use crate::error::{Error, Result};
use crate::progress::Progress;

const MAIN: &str = "main";

/// A model in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder with its files, `snapshots/<commit>`.
    pub dir: PathBuf,
    /// The commit, which stands for exactly these files for ever.
    pub commit: String,
    /// The repository.
    pub repo: String,
}

/// The hub and its cache.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    /// For listings; files come through the client.
    client: Client,
    /// Each revision is asked for once in a run, so that a run sees one commit.
    known: Mutex<HashMap<(bool, String, String), Listing>>,
}

/// A revision's commit and files.
#[derive(Debug, Clone)]
struct Listing {
    commit: String,
    files: Vec<String>,
    /// Why only the cache was looked at, when that is so.
    cached: Option<String>,
}

impl Listing {
    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }
}

/// One revision of one repository.
#[derive(Clone, Copy)]
struct Place<'a> {
    kind: RepoType,
    repo: &'a str,
    revision: &'a str,
    /// Whether the user chose the revision.
    chosen: bool,
}

impl<'a> Place<'a> {
    fn new(kind: RepoType, repo: &'a str, revision: Option<&'a str>) -> Result<Self> {
        names::repo(repo)?;
        if let Some(revision) = revision {
            names::revision(revision)?;
        }
        Ok(Self {
            kind,
            repo,
            revision: revision.unwrap_or(MAIN),
            chosen: revision.is_some(),
        })
    }

    fn is_dataset(&self) -> bool {
        matches!(self.kind, RepoType::Dataset)
    }

    /// The page where licences are accepted.
    fn page(&self, endpoint: &str) -> String {
        let folder = if self.is_dataset() { "datasets/" } else { "" };
        format!("{endpoint}/{folder}{}", self.repo)
    }

    fn title(&self) -> String {
        if self.chosen {
            format!("{} at {}", self.repo, self.revision)
        } else {
            self.repo.to_owned()
        }
    }
}

impl Hub {
    /// The hub of the environment: `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_ENDPOINT`,
    /// `HF_HUB_OFFLINE` and their relatives.
    pub fn from_env(progress: Progress) -> Result<Self> {
        Self::with(Settings::from_env(progress)?)
    }

    /// The hub of these settings.
    pub fn with(settings: Settings) -> Result<Self> {
        let settings = settings.checked()?;
        let client = Client::new(
            &settings.endpoint,
            settings.token.as_deref(),
            settings.patience,
        );
        Ok(Self {
            settings,
            client,
            known: Mutex::new(HashMap::new()),
        })
    }

    /// The folder in the cache that holds the model's `config.json`, weights and tokenizer files. Downloads what is missing of these and nothing else.
    pub fn model(&self, repo: &str, revision: Option<&str>) -> Result<Snapshot> {
        let place = Place::new(RepoType::Model, repo, revision)?;
        let listing = self.listing(place)?;
        if listing.has(model::ADAPTER) {
            let path = self.file(place, &listing, model::ADAPTER)?;
            let whole = listing.has(model::CONFIG) && model::has_weights(&listing.files);
            return Err(model::adapter(repo, &path, whole));
        }
        let plan = match model::plan(repo, &listing.files) {
            Ok(plan) => plan,
            // Of a cache that holds a part, nothing can be said about the repository.
            Err(error) => match &listing.cached {
                Some(why) => return Err(self.incomplete(place, &error, why)),
                None => return Err(self.offering_pull_requests(place, &listing, error)),
            },
        };
        let mut last = PathBuf::new();
        for name in &plan.files {
            last = self.file(place, &listing, name)?;
        }
        if let Some(kind) = plan.shards {
            for shard in model::shards(repo, &last, kind)? {
                if listing.cached.is_none() && !listing.files.contains(&shard) {
                    return Err(Error::new(
                        place.title(),
                        format!("{} names {shard}, which is not there", plan.weights()),
                    )
                    .remedy("the repository is incomplete; use another revision"));
                }
                self.file(place, &listing, &shard)?;
            }
        }
        self.settle_layout(place, &listing, &plan)?;
        self.remember(place, &listing)?;
        Ok(Snapshot {
            dir: self.cache(place).snapshot(&listing.commit),
            commit: listing.commit,
            repo: repo.to_owned(),
        })
    }

    /// Some files would be read before others. So that the cache answers as the hub does, it keeps that
    /// there are none, as Python's does; where it does not know that, it says so.
    fn settle_layout(&self, place: Place<'_>, listing: &Listing, plan: &model::Plan) -> Result<()> {
        let cache = self.cache(place);
        if listing.cached.is_none() {
            let mut known = plan.instead.iter();
            let known =
                known.try_for_each(|(name, _)| cache.remember_absent(&listing.commit, name));
            return known
                .map_err(|error| self.explain(place, "", &Failure::Local(error.to_string())));
        }
        let mut told = "";
        for (absent, read) in &plan.instead {
            if *read != told && !cache.is_absent(&listing.commit, absent) {
                told = read;
                self.settings.progress.notice(&format!(
                    "{}: {read} in the cache, which does not say whether the repository has {absent}; that would be read instead",
                    place.title()
                ));
            }
        }
        Ok(())
    }

    /// One file of a dataset, downloaded unless it is in the cache.
    pub fn dataset_file(&self, repo: &str, revision: Option<&str>, path: &str) -> Result<PathBuf> {
        let place = Place::new(RepoType::Dataset, repo, revision)?;
        names::file(repo, path)?;
        let listing = self.listing(place)?;
        if listing.cached.is_none() && !listing.files.iter().any(|file| file == path) {
            return Err(
                Error::new(place.title(), format!("no file {path} in it")).remedy(format!(
                    "see its files at {}",
                    place.page(&self.settings.endpoint)
                )),
            );
        }
        let file = self.file(place, &listing, path)?;
        self.remember(place, &listing)?;
        Ok(file)
    }

    /// The files of a dataset; offline, those in the cache.
    pub fn dataset_files(&self, repo: &str, revision: Option<&str>) -> Result<Vec<String>> {
        Ok(self
            .listing(Place::new(RepoType::Dataset, repo, revision)?)?
            .files)
    }

    /// Whether this file of a dataset is in the cache, so that [`Hub::dataset_file`] downloads nothing.
    pub fn has_dataset_file(&self, repo: &str, revision: Option<&str>, path: &str) -> bool {
        let found = Place::new(RepoType::Dataset, repo, revision)
            .and_then(|place| Ok(self.cache(place).file(&self.listing(place)?.commit, path)));
        matches!(found, Ok(Some(_)))
    }

    /// The commit that a dataset's revision stands for.
    pub fn dataset_commit(&self, repo: &str, revision: Option<&str>) -> Result<String> {
        Ok(self
            .listing(Place::new(RepoType::Dataset, repo, revision)?)?
            .commit)
    }

    fn cache(&self, place: Place<'_>) -> RepoCache {
        RepoCache::new(&self.settings.cache_dir, place.repo, place.kind)
    }

    fn remember(&self, place: Place<'_>, listing: &Listing) -> Result<()> {
        self.cache(place)
            .remember(place.revision, &listing.commit)
            .map_err(|error| self.explain(place, "", &Failure::Local(error.to_string())))
    }

    fn listing(&self, place: Place<'_>) -> Result<Listing> {
        let key = (
            place.is_dataset(),
            place.repo.to_owned(),
            place.revision.to_owned(),
        );
        let known = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(listing) = known {
            return Ok(listing);
        }
        let listing = self.ask(place)?;
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, listing.clone());
        Ok(listing)
    }

    fn ask(&self, place: Place<'_>) -> Result<Listing> {
        let cache = self.cache(place);
        let in_cache = |why: String| {
            cache.commit(place.revision).map(|commit| Listing {
                files: cache.files(&commit),
                commit,
                cached: Some(why),
            })
        };
        if self.settings.offline {
            return in_cache("HF_HUB_OFFLINE is set".into()).ok_or_else(|| {
                Error::new(
                    place.title(),
                    format!(
                        "not in the cache {}, and HF_HUB_OFFLINE is set",
                        self.settings.cache_dir.display()
                    ),
                )
                .remedy(
                    "unset HF_HUB_OFFLINE to download it, or set HF_HOME to the cache that has it",
                )
            });
        }
        // With a copy at hand there is no point in waiting for a network that is not there.
        let retries = if cache.commit(place.revision).is_some() {
            1
        } else {
            self.settings.retries
        };
        let asked = Repo::with_revision(place.repo.into(), place.kind, place.revision.into());
        let client = self.client.clone();
        let answer = self.repeated(place.repo, retries, move || {
            let (client, asked) = (client.clone(), asked.clone());
            move |_: &worker::Line<_>| client.revision(&asked, false)
        })?;
        match answer {
            Ok(info) if names::is_commit(&info.sha) => Ok(Listing {
                commit: info.sha,
                files: info
                    .siblings
                    .into_iter()
                    .map(|file| file.rfilename)
                    .collect(),
                cached: None,
            }),
            Ok(info) => {
                let failure = Failure::BadAnswer(format!("{:?} is no commit", info.sha));
                Err(self.explain(place, "", &failure))
            }
            Err(failure) if failure.is_absence() => {
                let error = self.explain(place, "", &failure);
                let Some(listing) = in_cache("the hub did not answer".into()) else {
                    return Err(error);
                };
                self.settings.progress.notice(&format!(
                    "{}: the hub did not answer, using commit {} from the cache",
                    place.title(),
                    listing.commit
                ));
                Ok(listing)
            }
            Err(Failure::Status(404)) if place.chosen && self.exists(place)? => Err(Error::new(
                place.repo,
                format!("no revision {} (404)", place.revision),
            )
            .remedy(format!(
                "see its branches and tags at {}",
                place.page(&self.settings.endpoint)
            ))),
            Err(failure) => Err(self.explain(place, "", &failure)),
        }
    }

    /// Whether the repository is there, whatever the revision.
    fn exists(&self, place: Place<'_>) -> Result<bool> {
        let asked = Repo::new(place.repo.to_owned(), place.kind);
        let client = self.client.clone();
        let answer = self.repeated(place.repo, 0, move || {
            let (client, asked) = (client.clone(), asked.clone());
            move |_: &worker::Line<_>| client.revision(&asked, false).map(|_| ())
        })?;
        Ok(answer.is_ok())
    }

    fn file(&self, place: Place<'_>, listing: &Listing, path: &str) -> Result<PathBuf> {
        let cache = self.cache(place);
        if let Some(file) = cache.file(&listing.commit, path) {
            return Ok(file);
        }
        if let Some(why) = &listing.cached {
            return Err(self.incomplete(place, &format!("no {path}"), why));
        }
        let wanted = Wanted {
            repo: place.repo.to_owned(),
            kind: place.kind,
            commit: listing.commit.clone(),
            path: path.to_owned(),
        };
        let (client, endpoint) = (self.client.clone(), self.settings.endpoint.clone());
        self.repeated(path, self.settings.retries, move || {
            let (client, endpoint) = (client.clone(), endpoint.clone());
            let (cache, wanted) = (cache.clone(), wanted.clone());
            move |line: &worker::Line<_>| fetch::fetch(&client, &endpoint, &cache, &wanted, line)
        })?
        .map_err(|failure| self.explain(place, path, &failure))
    }

    /// Does what `job` makes until it succeeds, fails for good, or has been repeated enough.
    fn repeated<T, J, W>(&self, what: &str, retries: u32, job: J) -> Result<Result<T, Failure>>
    where
        T: Send + 'static,
        J: Fn() -> W,
        W: FnOnce(&worker::Line<T>) -> Result<T, Failure> + Send + 'static,
    {
        let Settings {
            progress,
            patience,
            pause,
            ..
        } = self.settings;
        let mut wait = pause;
        for _ in 0..retries {
            match worker::run(what, progress, patience, job())? {
                Err(failure) if failure.is_passing() => worker::pause(wait)?,
                outcome => return Ok(outcome),
            }
            wait = wait.saturating_mul(2);
        }
        worker::run(what, progress, patience, job())
    }

    fn incomplete(&self, place: Place<'_>, what: &dyn std::fmt::Display, why: &str) -> Error {
        Error::new(
            place.title(),
            format!(
                "incomplete in the cache {} ({what}), and {why}",
                self.settings.cache_dir.display()
            ),
        )
        .remedy("run once with the network, and without HF_HUB_OFFLINE, to download the rest")
    }

    /// The message for a failure that stays.
    fn explain(&self, place: Place<'_>, path: &str, failure: &Failure) -> Error {
        let Settings {
            endpoint,
            cache_dir,
            token,
            ..
        } = &self.settings;
        let subject = match path {
            "" => place.title(),
            path => format!("{}: {path}", place.title()),
        };
        let page = place.page(endpoint);
        let error = |reason: String, remedy: String| Error::new(&subject, reason).remedy(remedy);
        // A file that is not there is the repository's fault, not the name's.
        let unknown = |reason: String, remedy: String| match path {
            "" => Error::absent(&subject, reason).remedy(remedy),
            _ => error(reason, remedy),
        };
        match failure {
            Failure::Status(401) if token.is_some() => error(
                "the hub does not accept the token (401)".into(),
                "set HF_TOKEN to a valid token, or unset it for a public repository".into(),
            ),
            Failure::Status(401) => unknown(
                "the hub refuses access (401): it is gated or private, or it does not exist".into(),
                format!(
                    "check the name; if {page} asks for it, accept the licence there and set HF_TOKEN"
                ),
            ),
            Failure::Status(403) => error(
                "the hub refuses access (403): the repository is gated".into(),
                format!("accept the licence on {page} and set HF_TOKEN to a token of that account"),
            ),
            Failure::Status(404) => unknown(
                format!("not on the hub {endpoint} (404)"),
                "check the name, its letter case included".into(),
            ),
            Failure::Status(429) => error(
                "the hub asks to slow down (429)".into(),
                "try again in a few minutes; with HF_TOKEN set more requests are allowed".into(),
            ),
            Failure::Status(code @ 500..=599) => error(
                format!("the hub has a problem of its own ({code})"),
                "try again later; what has arrived is kept".into(),
            ),
            Failure::Status(code) => error(
                format!("the hub answers with status {code}"),
                format!("check {page} in a browser"),
            ),
            Failure::Unreachable(reason) => error(
                format!(
                    "{endpoint} cannot be reached ({reason}), and it is not in the cache {}",
                    cache_dir.display()
                ),
                "check the network, HTTPS_PROXY and HF_ENDPOINT".into(),
            ),
            Failure::CutShort(reason) => error(
                format!("the connection broke during the download ({reason})"),
                "run again: it goes on where it stopped".into(),
            ),
            Failure::Silent => error(
                "the connection has gone silent".into(),
                "run again: it goes on where it stopped".into(),
            ),
            Failure::Damaged(reason) => error(
                format!("the download is damaged ({reason}) and was removed"),
                "run again; if it stays so, a proxy or mirror in between alters files".into(),
            ),
            Failure::BadAnswer(reason) => error(
                format!("the answer of {endpoint} makes no sense ({reason})"),
                "check HF_ENDPOINT and the network: a proxy or login page may be answering".into(),
            ),
            Failure::Local(reason) => error(
                format!(
                    "cannot be stored in the cache {}: {reason}",
                    cache_dir.display()
                ),
                "free some space, or set HF_HOME to a folder that can be written".into(),
            ),
            Failure::Locked => error(
                "another process is downloading it".into(),
                "wait for that one and run again".into(),
            ),
        }
    }
}
