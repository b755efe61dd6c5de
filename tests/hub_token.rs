//! The hub's token is said to nobody but the hub: it is in no file, no error and no line of a run, even where
//! the hub sends it back.

#[allow(dead_code, reason = "tests/hub.rs uses the rest")]
#[path = "support/loopback.rs"]
mod loopback;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "support/program.rs"]
mod program;

use std::fs;
use std::path::Path;

use loopback::{Content, Reply, Request, Server};
use program::{Done, checkpoint, files, massact, run};

const TOKEN: &str = "hf_doNotTellAnybody";
const REPO: &str = "owner/tiny";

fn content() -> Content {
    let folder = checkpoint("planted-llama");
    let names = [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    ];
    names.iter().fold(Content::default(), |content, name| {
        content.file(REPO, name, fs::read(folder.join(name)).expect("there"))
    })
}

/// A run that needs the hub; all that it says and leaves must not have the token.
fn run_with_token(content: Content) -> Done {
    let place = tempfile::tempdir().expect("a folder");
    let server = Server::start(content);
    let mut command = massact(["capture", "--token-ids", "1,2", "--pretrained", REPO]);
    command
        .env_remove("HF_HUB_OFFLINE")
        .env("HF_ENDPOINT", server.endpoint())
        .env("HF_HOME", place.path().join("home"))
        .env("HF_TOKEN", TOKEN)
        .args(["--save-dir", "out"])
        .current_dir(place.path());
    let done = run(&mut command);
    let sent = server.requests().iter().any(|request| {
        request
            .headers
            .get("authorization")
            .is_some_and(|value| value.contains(TOKEN))
    });
    assert!(sent, "there was nothing to keep");
    for text in [&done.stdout, &done.stderr] {
        assert!(!text.contains(TOKEN), "{text}");
    }
    assert_absent(place.path());
    done
}

fn assert_absent(folder: &Path) {
    for name in files(folder) {
        assert!(!name.contains(TOKEN), "{name}");
        let Ok(bytes) = fs::read(folder.join(&name)) else {
            continue;
        };
        let found = bytes
            .windows(TOKEN.len())
            .any(|part| part == TOKEN.as_bytes());
        assert!(!found, "{name}");
    }
}

#[test]
fn a_run_that_succeeds() {
    assert_eq!(run_with_token(content()).succeeded().code, Some(0));
}

/// The hub's own words are part of some errors.
#[test]
fn a_hub_that_sends_the_token_back() {
    for status in [400, 401, 403, 404, 418] {
        let echo = move |request: &Request, _: usize| {
            let token = request
                .headers
                .get("authorization")
                .cloned()
                .unwrap_or_default();
            let reply = Reply::new(status, format!("{{\"error\":\"bad token {token}\"}}"));
            Some(reply.with("X-Error-Message", format!("bad token {token}")))
        };
        let done = run_with_token(content().twist(echo));
        assert_eq!(done.code, Some(1), "{status}: {}", done.stderr);
    }
}

/// Another port is another server, whoever it belongs to.
#[test]
fn a_hub_that_sends_elsewhere() {
    let other = Server::start(content());
    let target = other.endpoint();
    let elsewhere = move |request: &Request, _: usize| {
        let reply = Reply::new(302, "");
        Some(reply.with("Location", format!("{target}{}", request.path)))
    };
    run_with_token(content().twist(elsewhere)).succeeded();
    let requests = other.requests();
    assert!(
        requests
            .iter()
            .any(|request| request.path.contains("/api/"))
    );
    for request in requests {
        assert_eq!(
            request.headers.get("authorization"),
            None,
            "{}",
            request.path
        );
    }
}
