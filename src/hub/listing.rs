//! What the hub says is in a repository. Asked for by the client of files, whose token stays with the hub when the
//! answer sends it elsewhere.

use std::io::Read;

use hf_hub::Repo;
use serde::Deserialize;

use super::client::{Client, accepted};
use super::failure::{Failure, copying};

/// Bytes of a listing; one of 100,000 files has about 20 million.
const LONGEST: u64 = 64 << 20;

/// A revision of a repository.
#[derive(Debug, Deserialize)]
pub(super) struct Revision {
    /// Its commit.
    pub(super) sha: String,
    /// Its files.
    pub(super) siblings: Vec<Sibling>,
}

/// A file of it.
#[derive(Debug, Deserialize)]
pub(super) struct Sibling {
    pub(super) rfilename: String,
    /// Its bytes, where they were asked for.
    #[serde(default)]
    pub(super) size: Option<u64>,
}

/// Why a body did not come. Unlike a file it is too short to go on with.
fn unread(error: &std::io::Error) -> Failure {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref());
    match reason {
        Some(ureq::Error::Timeout(_)) => Failure::Silent,
        _ => copying(error),
    }
}

impl Client {
    /// What the revision that `repo` names has, with sizes on request.
    pub(super) fn revision(&self, repo: &Repo, sizes: bool) -> Result<Revision, Failure> {
        let query = if sizes { "?blobs=true" } else { "" };
        let url = format!("{}/api/{}{query}", self.endpoint(), repo.api_url());
        let response = self.get(&url, 0)?;
        accepted(&response)?;
        let mut text = Vec::new();
        let body = response.into_body().into_reader();
        body.take(LONGEST + 1)
            .read_to_end(&mut text)
            .map_err(|error| unread(&error))?;
        if text.len() as u64 > LONGEST {
            let reason = format!("its listing has more than {} MiB", LONGEST >> 20);
            return Err(Failure::BadAnswer(reason));
        }
        serde_json::from_slice(&text)
            .map_err(|error| Failure::BadAnswer(format!("its listing is none: {error}")))
    }
}
