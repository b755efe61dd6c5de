//! Pull requests of a repository, in which the hub's converter leaves safetensors.

use serde::Deserialize;

use super::failure::Failure;
use super::{Hub, Listing, Place, model, worker};
use crate::error::Error;

/// Pull requests that are named in an error.
const NAMED: usize = 3;

/// What the hub says of a repository's branches, tags and pull requests.
#[derive(Deserialize)]
struct Refs {
    #[serde(default, rename = "pullRequests")]
    pull_requests: Vec<Ref>,
}

#[derive(Deserialize)]
struct Ref {
    #[serde(rename = "ref")]
    name: String,
}

impl Hub {
    /// An error about a repository without weights that are read, with the pull requests that may have
    /// some. What goes wrong here is not worth another error.
    pub(super) fn offering_pull_requests(
        &self,
        place: Place<'_>,
        listing: &Listing,
        error: Error,
    ) -> Error {
        if !listing.has(model::CONFIG) || model::has_weights(&listing.files) {
            return error;
        }
        let names = self.pull_requests(place).unwrap_or_default();
        let first = names.iter().take(NAMED);
        let offered: Vec<String> = first.map(|name| format!("--revision {name}")).collect();
        match offered.as_slice() {
            [] => error,
            [one] => error.or(format!(
                "look into its pull request, where the hub's converter may have left safetensors: {one}"
            )),
            _ => error.or(format!(
                "look into its {} pull requests, where the hub's converter may have left safetensors: {}",
                names.len(),
                offered.join(", ")
            )),
        }
    }

    /// The names of a repository's pull requests, `refs/pr/N`.
    fn pull_requests(&self, place: Place<'_>) -> Option<Vec<String>> {
        let endpoint = &self.settings.endpoint;
        let url = format!("{endpoint}/api/models/{}/refs?include_prs=1", place.repo);
        let client = self.client.clone();
        let answer = self.repeated(place.repo, 0, move || {
            let (client, url) = (client.clone(), url.clone());
            move |_: &worker::Line<Refs>| {
                let mut answer = client.get(&url, 0)?;
                super::client::accepted(&answer)?;
                let refs = answer.body_mut().read_json::<Refs>();
                refs.map_err(|error| Failure::BadAnswer(error.to_string()))
            }
        });
        let refs = answer.ok()?.ok()?.pull_requests.into_iter();
        let refs = refs.map(|found| found.name);
        // Names go to the user's command line.
        let plain = |name: &String| {
            let number = name.strip_prefix("refs/pr/");
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        Some(refs.filter(plain).collect())
    }
}
