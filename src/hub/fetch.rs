//! One file from the hub into the cache. It grows as `<tag>.part`, is checked, and only then gets
//! its name: an entry of the cache is whole at every moment.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Repo, RepoType};

use super::cache::RepoCache;
use super::client::{Client, accepted, text};
use super::failure::{Failure, copying};
use super::names;
use super::worker::Line;
use crate::files;

/// How often a lock that another process has is tried again.
const LOCK_PERIOD: Duration = Duration::from_millis(200);

/// Which file.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) repo: String,
    pub(super) kind: RepoType,
    pub(super) commit: String,
    pub(super) path: String,
}

impl Wanted {
    fn url(&self, endpoint: &str) -> String {
        let repo = Repo::with_revision(self.repo.clone(), self.kind, self.commit.clone());
        format!(
            "{endpoint}/{}/resolve/{}/{}",
            repo.url(),
            repo.url_revision(),
            self.path
        )
    }
}

impl Wanted {
    /// Bytes that the file may have: no bound for weights and texts.
    fn most(&self) -> u64 {
        let ending = Path::new(&self.path).extension();
        let describes = ["json", "jinja", "model", "txt"];
        let describes = describes
            .iter()
            .any(|known| ending.is_some_and(|end| end == *known));
        match self.kind {
            RepoType::Model if describes => files::VOCABULARY,
            _ => u64::MAX,
        }
    }
}

/// Downloads `wanted`, or links to it when another commit has brought it.
pub(super) fn fetch(
    client: &Client,
    endpoint: &str,
    cache: &RepoCache,
    wanted: &Wanted,
    line: &Line<PathBuf>,
) -> Result<PathBuf, Failure> {
    let url = wanted.url(endpoint);
    let about = client.about(&url)?;
    line.beat();
    let missing = |what: &str| Failure::BadAnswer(format!("no {what} of the file"));
    let tag = about.tag.ok_or_else(|| missing("entity tag"))?;
    let size = about.size.ok_or_else(|| missing("size"))?;
    if size > wanted.most() {
        return Err(Failure::BadAnswer(format!(
            "{} has {size} bytes, it says, more than the {} MiB that are read of such a file",
            wanted.path,
            wanted.most() >> 20
        )));
    }
    if !names::is_tag(&tag) {
        return Err(Failure::BadAnswer(format!("{tag:?} is no entity tag")));
    }
    if about.commit.as_ref() != Some(&wanted.commit) {
        return Err(Failure::BadAnswer(format!(
            "it answers for commit {:?}",
            about.commit
        )));
    }
    cache
        .clear_dangling(&wanted.commit, &wanted.path)
        .map_err(local)?;
    let file = cache.snapshot(&wanted.commit).join(&wanted.path);
    if cache
        .reuse(&tag, size, &wanted.commit, &wanted.path)
        .map_err(local)?
    {
        return Ok(file);
    }
    let blob = cache.blob(&tag);
    if let Some(folder) = blob.parent() {
        std::fs::create_dir_all(folder).map_err(local)?;
    }
    let _lock = lock(&blob.with_extension("lock"), line)?;
    // Whoever had the lock before may have brought it.
    if cache
        .reuse(&tag, size, &wanted.commit, &wanted.path)
        .map_err(local)?
    {
        return Ok(file);
    }
    let part = blob.with_extension("part");
    let arrived = transfer(client, &url, &part, size, line);
    let checked = arrived.and_then(|()| verify(&part, size, &tag, line));
    if let Err(failure) = checked {
        if matches!(failure, Failure::Damaged(_)) {
            // Nothing to go on from.
            let _ = std::fs::remove_file(&part);
        }
        return Err(failure);
    }
    std::fs::rename(&part, &blob).map_err(local)?;
    if cache
        .reuse(&tag, size, &wanted.commit, &wanted.path)
        .map_err(local)?
    {
        Ok(file)
    } else {
        Err(Failure::Local("the file vanished".into()))
    }
}

/// Held for as long as the file is open; the empty file stays, as it is no one's to remove. Waits for
/// another process that downloads the same file.
#[cfg(unix)]
fn lock(path: &Path, line: &Line<PathBuf>) -> Result<File, Failure> {
    use rustix::fs::{FlockOperation, flock};

    let file = File::create(path).map_err(local)?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            // File systems without locks: then there is nobody to wait for.
            Err(_) => return Ok(file),
        }
        if !line.bytes(0) {
            return Err(Failure::Locked);
        }
        std::thread::sleep(LOCK_PERIOD);
    }
}

#[cfg(not(unix))]
fn lock(path: &Path, _: &Line<PathBuf>) -> Result<File, Failure> {
    File::create(path).map_err(local)
}

/// Brings `part` to `size` bytes, going on from what it has.
fn transfer(
    client: &Client,
    url: &str,
    part: &Path,
    size: u64,
    line: &Line<PathBuf>,
) -> Result<(), Failure> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(part)
        .map_err(local)?;
    let mut have = file.metadata().map_err(local)?.len();
    if have > size {
        file.set_len(0).map_err(local)?;
        have = 0;
    }
    line.begin(size);
    line.bytes(have);
    if have == size {
        return Ok(());
    }
    let response = client.get(url, have)?;
    accepted(&response)?;
    if have > 0 && !continues(&response, have) {
        // The whole file comes again.
        file.set_len(0).map_err(local)?;
        have = 0;
        line.begin(size);
    }
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = body.read(&mut buffer).map_err(|error| copying(&error))?;
        if count == 0 {
            break;
        }
        have += count as u64;
        if have > size {
            return Err(Failure::Damaged(format!("more than {size} bytes come")));
        }
        file.write_all(buffer.get(..count).unwrap_or_default())
            .map_err(local)?;
        if !line.bytes(count as u64) {
            return Err(Failure::CutShort("nobody waits for it any more".into()));
        }
    }
    if have < size {
        return Err(Failure::CutShort(format!("{have} of {size} bytes came")));
    }
    file.sync_data().map_err(local)
}

/// Whether the answer goes on at byte `have`.
fn continues(response: &ureq::http::Response<ureq::Body>, have: u64) -> bool {
    response.status().as_u16() == 206
        && text(response, "content-range")
            .is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
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
    let mut reader = File::open(file).map_err(local)?;
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
