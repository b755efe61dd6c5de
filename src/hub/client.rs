//! Requests for files: redirects are followed by hand, so that the token stays with the hub.

use std::time::Duration;

use ureq::Body;
use ureq::http::{Response, Uri};

use super::failure::{Failure, request};

/// Redirects followed before giving up.
const HOPS: usize = 10;

/// What a file's address says about it.
#[derive(Debug, Default)]
pub(super) struct About {
    /// The commit it belongs to.
    pub(super) commit: Option<String>,
    /// Its entity tag, which names the blob: SHA-256 for large files.
    pub(super) tag: Option<String>,
    /// Its size.
    pub(super) size: Option<u64>,
}

/// A client of one hub.
#[derive(Debug, Clone)]
pub(super) struct Client {
    agent: ureq::Agent,
    endpoint: String,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(endpoint: &str, token: Option<&str>, patience: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Ranges and sizes are those of the file, not of a compressed form of it.
            .accept_encoding("identity")
            .user_agent(concat!("massact/", env!("CARGO_PKG_VERSION"), "; hf-hub"))
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .build();
        Self {
            agent: config.into(),
            endpoint: endpoint.to_owned(),
            token: token.map(str::to_owned),
        }
    }

    /// Where the hub is.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Size, tag and commit of a file, without its body. The hub says them before it sends us
    /// elsewhere; a mirror that does not is followed to the hub.
    pub(super) fn about(&self, url: &str) -> Result<About, Failure> {
        let mut about = About::default();
        let mut url = url.to_owned();
        for _ in 0..HOPS {
            let response = self.send(&url, true, 0)?;
            let header = |name: &str| text(&response, name);
            about.commit = about.commit.or(header("x-repo-commit"));
            about.tag = about.tag.or(header("x-linked-etag"));
            about.size = about
                .size
                .or(header("x-linked-size").and_then(|size| size.parse().ok()));
            let known = about.commit.is_some() && about.tag.is_some() && about.size.is_some();
            match next(&url, &response)? {
                Some(_) if known => break,
                Some(target) => url = target,
                None => {
                    accepted(&response)?;
                    about.tag = about.tag.or(header("etag"));
                    about.size = about
                        .size
                        .or(header("content-length").and_then(|size| size.parse().ok()));
                    break;
                }
            }
        }
        about.tag = about.tag.map(|tag| tag.replace('"', ""));
        Ok(about)
    }

    /// The file from byte `start` on; the status tells whether the server heeds that.
    pub(super) fn get(&self, url: &str, start: u64) -> Result<Response<Body>, Failure> {
        let mut url = url.to_owned();
        for _ in 0..HOPS {
            let response = self.send(&url, false, start)?;
            match next(&url, &response)? {
                Some(target) => url = target,
                None => return Ok(response),
            }
        }
        Err(Failure::BadAnswer("it redirects for ever".into()))
    }

    fn send(&self, url: &str, head: bool, start: u64) -> Result<Response<Body>, Failure> {
        let mut call = if head {
            self.agent.head(url)
        } else {
            self.agent.get(url)
        };
        if let Some(token) = self
            .token
            .as_ref()
            .filter(|_| same_host(url, &self.endpoint))
        {
            call = call.header("authorization", format!("Bearer {token}"));
        }
        if start > 0 {
            call = call.header("range", format!("bytes={start}-"));
        }
        call.call().map_err(|error| request(&error))
    }
}

/// A header that is text.
pub(super) fn text(response: &Response<Body>, name: &str) -> Option<String> {
    Some(
        response
            .headers()
            .get(name)?
            .to_str()
            .ok()?
            .trim()
            .to_owned(),
    )
}

/// An error for a status that says no.
pub(super) fn accepted(response: &Response<Body>) -> Result<(), Failure> {
    match response.status().as_u16() {
        200..=299 => Ok(()),
        code => Err(Failure::Status(code)),
    }
}

/// Scheme, host and port: the token goes nowhere else, and never from https to http.
fn same_host(url: &str, endpoint: &str) -> bool {
    let origin = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        Some((uri.scheme_str()?.to_owned(), uri.authority()?.to_string()))
    };
    origin(url).is_some_and(|of| origin(endpoint) == Some(of))
}

/// Where the answer sends us, when it does.
fn next(url: &str, response: &Response<Body>) -> Result<Option<String>, Failure> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let bad = || Failure::BadAnswer("it redirects to nowhere".into());
    let target = text(response, "location").ok_or_else(bad)?;
    if target.starts_with("https://")
        || (target.starts_with("http://") && url.starts_with("http://"))
    {
        return Ok(Some(target));
    }
    // A path of the same host.
    let uri: Uri = url.parse().map_err(|_| bad())?;
    match (uri.scheme_str(), uri.authority()) {
        (Some(scheme), Some(host)) if target.starts_with('/') && !target.starts_with("//") => {
            Ok(Some(format!("{scheme}://{host}{target}")))
        }
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_has_one_host() {
        assert!(same_host("https://hub/a", "https://hub"));
        for other in [
            "http://hub/a",
            "https://hub:8443/a",
            "https://cdn.hub/a",
            "https://hub.evil/a",
            "/a",
        ] {
            assert!(!same_host(other, "https://hub"), "{other}");
        }
    }
}
