//! Downloads against a hub on the loopback interface.

#[path = "support/loopback.rs"]
mod loopback;

use std::path::Path;
use std::time::{Duration, Instant};

use loopback::{COMMIT, Content, Reply, Server, ranged, sha256, tag};
use massact::hub::{Hub, Settings};
use massact::progress::Progress;
use tempfile::TempDir;

const REPO: &str = "owner/tiny";

fn weights() -> Vec<u8> {
    (0..100_000u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

fn tiny() -> Content {
    Content::default()
        .file(REPO, "config.json", "{\"model_type\":\"llama\"}")
        .file(REPO, "tokenizer.json", "{\"version\":\"1.0\"}")
        .file(REPO, "tokenizer_config.json", "{}")
        .file(REPO, "README.md", "not read")
        .file(REPO, "pytorch_model.bin", "not read")
        .file(REPO, "model.safetensors", weights())
}

fn settings(server: &Server, cache: &TempDir) -> Settings {
    Settings {
        endpoint: server.endpoint(),
        cache_dir: cache.path().to_owned(),
        token: None,
        offline: false,
        progress: Progress::silent(),
        retries: 2,
        pause: Duration::from_millis(10),
        patience: Duration::from_secs(10),
    }
}

fn hub(server: &Server, cache: &TempDir) -> Hub {
    Hub::with(settings(server, cache)).expect("valid settings")
}

fn cache() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// The message of a model that cannot be had, after checking that nothing wrong stays behind.
fn refusal(content: Content) -> String {
    let (server, cache) = (Server::start(content), cache());
    let error = hub(&server, &cache)
        .model(REPO, None)
        .expect_err("refused")
        .to_string();
    assert_no_leftovers(cache.path());
    assert_eq!(error.lines().count(), 1);
    error
}

/// Every blob with a hash for a name has that hash.
fn assert_no_leftovers(cache: &Path) {
    for folder in ["models--owner--tiny", "datasets--owner--texts"] {
        let Ok(entries) = std::fs::read_dir(cache.join(folder).join("blobs")) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().into_string().expect("UTF-8");
            let body = std::fs::read(entry.path()).expect("readable");
            match name.len() {
                64 => assert_eq!(name, sha256(&body), "a corrupt blob"),
                40 => assert_eq!(name, tag(&body), "a corrupt blob"),
                _ => assert!(name.ends_with(".part") || name.ends_with(".lock"), "{name}"),
            }
        }
    }
}

#[test]
fn a_model_comes_whole_and_only_what_is_read() {
    let (server, cache) = (Server::start(tiny()), cache());
    let got = hub(&server, &cache).model(REPO, None).expect("downloaded");
    assert_eq!(got.commit, COMMIT);
    assert_eq!(got.repo, REPO);
    assert_eq!(
        std::fs::read(got.dir.join("model.safetensors")).expect("there"),
        weights()
    );
    assert!(
        got.dir.join("config.json").is_file() && got.dir.join("tokenizer_config.json").is_file()
    );
    assert!(!got.dir.join("README.md").exists() && !got.dir.join("pytorch_model.bin").exists());
    assert_no_leftovers(cache.path());
    // The layout that Python's huggingface_hub reads.
    let folder = cache.path().join("models--owner--tiny");
    assert_eq!(got.dir, folder.join("snapshots").join(COMMIT));
    assert_eq!(
        std::fs::read_to_string(folder.join("refs/main")).expect("a ref"),
        COMMIT
    );
    assert!(
        folder.join("blobs").join(sha256(&weights())).is_file(),
        "named by X-Linked-Etag"
    );
    assert!(server.count("/cdn/") > 0, "the redirect was followed");
}

#[test]
fn the_second_time_nothing_is_downloaded() {
    let (server, cache) = (Server::start(tiny()), cache());
    let first = hub(&server, &cache).model(REPO, None).expect("downloaded");
    let before = server.count("/resolve/");
    let second = hub(&server, &cache)
        .model(REPO, None)
        .expect("from the cache");
    assert_eq!(first, second);
    assert_eq!(server.count("/resolve/"), before);
}

#[test]
fn a_revision_may_be_a_commit() {
    let (server, cache) = (Server::start(tiny()), cache());
    let got = hub(&server, &cache)
        .model(REPO, Some(COMMIT))
        .expect("downloaded");
    assert_eq!(got.commit, COMMIT);
    let offline = Settings {
        offline: true,
        ..settings(&server, &cache)
    };
    assert!(
        Hub::with(offline)
            .expect("valid")
            .model(REPO, Some(COMMIT))
            .is_ok()
    );
}

#[test]
fn the_token_is_sent_to_the_hub() {
    let (server, cache) = (Server::start(tiny()), cache());
    let with_token = Settings {
        token: Some("hf_x".into()),
        ..settings(&server, &cache)
    };
    Hub::with(with_token)
        .expect("valid")
        .model(REPO, None)
        .expect("downloaded");
    let first = &server.requests()[0];
    assert_eq!(
        first.headers.get("authorization").map(String::as_str),
        Some("Bearer hf_x")
    );
}

#[test]
fn the_token_stays_with_the_hub() {
    let elsewhere =
        Server::start(Content::default().twist(|request, _| Some(ranged(request, &weights()))));
    let target = format!("{}/cdn/file?signature=x", elsewhere.endpoint());
    let content = tiny().twist(move |request, _| {
        let large = request.path.contains("/resolve/") && request.path.ends_with(".safetensors");
        large.then(|| {
            Reply::new(302, "")
                .with("Location", target.clone())
                .with("X-Repo-Commit", COMMIT)
                .with("X-Linked-Etag", format!("\"{}\"", sha256(&weights())))
                .with("X-Linked-Size", weights().len().to_string())
        })
    });
    let (server, cache) = (Server::start(content), cache());
    let with_token = Settings {
        token: Some("hf_x".into()),
        ..settings(&server, &cache)
    };
    Hub::with(with_token)
        .expect("valid")
        .model(REPO, None)
        .expect("downloaded");
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.headers.contains_key("authorization"))
    );
    assert!(!elsewhere.requests().is_empty());
    assert!(
        elsewhere
            .requests()
            .iter()
            .all(|request| !request.headers.contains_key("authorization"))
    );
}

#[test]
fn a_redirect_inside_the_hub_is_followed() {
    // As the hub does for small files: a relative path, and the headers at its end.
    let content = tiny().twist(|request, _| {
        if request.path.contains("/resolve/") && request.path.ends_with("tokenizer.json") {
            let target = request.path.replace("/resolve/", "/resolve-cache/");
            return Some(
                Reply::new(307, "")
                    .with("Location", target)
                    .with("X-Repo-Commit", COMMIT),
            );
        }
        request.path.contains("/resolve-cache/").then(|| {
            let body = b"{\"version\":\"1.0\"}";
            // A server may pack what it sends; sizes must be those of the file.
            assert_eq!(
                request.headers.get("accept-encoding").map(String::as_str),
                Some("identity")
            );
            ranged(request, body)
                .with("X-Repo-Commit", COMMIT)
                .with("ETag", format!("\"{}\"", tag(body)))
        })
    });
    let (server, cache) = (Server::start(content), cache());
    let got = hub(&server, &cache).model(REPO, None).expect("downloaded");
    assert_eq!(
        std::fs::read(got.dir.join("tokenizer.json")).expect("there"),
        b"{\"version\":\"1.0\"}"
    );
    assert_no_leftovers(cache.path());
}

#[test]
fn an_endless_redirect_ends() {
    let error = refusal(tiny().twist(|request, _| {
        let here = request.path.clone();
        request
            .path
            .contains("/resolve/")
            .then(|| Reply::new(302, "").with("Location", here))
    }));
    assert!(error.contains("makes no sense"), "{error}");
}

#[test]
#[cfg(unix)]
fn two_processes_do_not_write_one_file() {
    let (server, cache) = (Server::start(tiny()), cache());
    let blobs = cache.path().join("models--owner--tiny/blobs");
    std::fs::create_dir_all(&blobs).expect("a folder");
    let lock =
        std::fs::File::create(blobs.join(format!("{}.lock", sha256(&weights())))).expect("created");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    let held = Duration::from_millis(700);
    let other = std::thread::spawn(move || {
        std::thread::sleep(held);
        drop(lock);
    });
    let start = Instant::now();
    hub(&server, &cache)
        .model(REPO, None)
        .expect("the other is done");
    assert!(start.elapsed() >= held, "it did not wait");
    other.join().expect("no panic");
}

#[test]
fn an_interrupted_file_is_resumed() {
    let (server, cache) = (Server::start(tiny()), cache());
    let blobs = cache.path().join("models--owner--tiny/blobs");
    std::fs::create_dir_all(&blobs).expect("a folder");
    let part = blobs.join(format!("{}.part", sha256(&weights())));
    std::fs::write(&part, &weights()[..150_000]).expect("written");
    let got = hub(&server, &cache).model(REPO, None).expect("downloaded");
    assert_eq!(
        std::fs::read(got.dir.join("model.safetensors")).expect("there"),
        weights()
    );
    let starts: Vec<_> = server
        .requests()
        .iter()
        .filter_map(|request| request.start())
        .collect();
    assert!(starts.contains(&150_000), "{starts:?}");
}

#[test]
fn a_complete_or_overlong_part_does_not_block() {
    for extra in [0, 5] {
        let (server, cache) = (Server::start(tiny()), cache());
        let blobs = cache.path().join("models--owner--tiny/blobs");
        std::fs::create_dir_all(&blobs).expect("a folder");
        let part = blobs.join(format!("{}.part", sha256(&weights())));
        std::fs::write(&part, vec![0; weights().len() + extra]).expect("written");
        let got = hub(&server, &cache).model(REPO, None).expect("downloaded");
        assert_eq!(
            std::fs::read(got.dir.join("model.safetensors")).expect("there"),
            weights()
        );
    }
}

#[test]
fn a_body_cut_short_goes_on_where_it_stopped() {
    let content = tiny().twist(|request, _| {
        let from = request.start()?;
        if !request.path.contains("/cdn/") || from > 0 {
            return None;
        }
        let mut reply = ranged(request, &weights());
        reply.body.truncate(100_000);
        Some(reply)
    });
    let (server, cache) = (Server::start(content), cache());
    let got = hub(&server, &cache).model(REPO, None).expect("downloaded");
    assert_eq!(
        std::fs::read(got.dir.join("model.safetensors")).expect("there"),
        weights()
    );
    assert_no_leftovers(cache.path());
    let starts: Vec<_> = server
        .requests()
        .iter()
        .filter_map(|request| request.start())
        .collect();
    assert!(starts.contains(&100_000), "{starts:?}");
}

#[test]
fn a_body_always_cut_short_is_an_error_and_no_entry() {
    let error = refusal(tiny().twist(|request, _| {
        request.start()?;
        if !request.path.contains("/cdn/") {
            return None;
        }
        let mut reply = ranged(request, &weights());
        reply.body.truncate(10);
        Some(reply)
    }));
    assert!(
        error.contains("model.safetensors: the connection broke"),
        "{error}"
    );
    assert!(error.contains("run again"), "{error}");
}

#[test]
fn a_server_that_ignores_starts_leaves_nothing_corrupt() {
    let content = tiny().twist(|request, _| {
        let from = request.start()?;
        // From the middle on it sends the whole file again.
        (request.path.contains("/cdn/") && from > 0).then(|| Reply::new(200, weights()))
    });
    let (server, cache) = (Server::start(content), cache());
    let blobs = cache.path().join("models--owner--tiny/blobs");
    std::fs::create_dir_all(&blobs).expect("a folder");
    std::fs::write(blobs.join(format!("{}.part", sha256(&weights()))), b"abc").expect("written");
    let got = hub(&server, &cache)
        .model(REPO, None)
        .expect("the second attempt starts afresh");
    assert_eq!(
        std::fs::read(got.dir.join("model.safetensors")).expect("there"),
        weights()
    );
    assert_no_leftovers(cache.path());
}

#[test]
fn altered_bytes_are_refused() {
    let error = refusal(tiny().twist(|request, _| {
        let mut altered = weights();
        altered[7] ^= 1;
        request
            .path
            .contains("/cdn/")
            .then(|| ranged(request, &altered))
    }));
    assert!(
        error.contains("model.safetensors: the download is damaged"),
        "{error}"
    );
}

#[test]
fn refusals_say_what_to_do() {
    let always = |status: u16| tiny().twist(move |_, _| Some(Reply::new(status, "no")));
    for (status, reason, remedy) in [
        (
            401,
            "gated or private",
            "accept the licence there and set HF_TOKEN",
        ),
        (403, "gated", "accept the licence on"),
        (404, "not on the hub", "check the name"),
        (429, "slow down (429)", "a few minutes"),
        (503, "problem of its own (503)", "later"),
    ] {
        let error = refusal(always(status));
        assert!(error.starts_with(REPO), "{error}");
        assert!(error.contains(reason) && error.contains(remedy), "{error}");
    }
    let (server, cache) = (Server::start(always(401)), cache());
    let with_token = Settings {
        token: Some("hf_x".into()),
        ..settings(&server, &cache)
    };
    let error = Hub::with(with_token)
        .expect("valid")
        .model(REPO, None)
        .expect_err("refused");
    assert!(
        error.to_string().contains("does not accept the token"),
        "{error}"
    );
}

#[test]
fn a_gated_file_in_a_listed_repository() {
    let error = refusal(tiny().twist(|request, _| {
        request
            .path
            .contains("/resolve/")
            .then(|| Reply::new(403, "gated"))
    }));
    assert!(
        error.starts_with("owner/tiny: config.json: the hub refuses access (403)"),
        "{error}"
    );
}

#[test]
fn a_revision_that_is_not_there_is_told_from_a_repository_that_is_not() {
    let (server, cache) = (Server::start(tiny()), cache());
    let error = hub(&server, &cache)
        .model(REPO, Some("v9"))
        .expect_err("refused")
        .to_string();
    assert!(error.starts_with("owner/tiny: no revision v9"), "{error}");
    let error = hub(&server, &cache)
        .model("owner/none", Some("v9"))
        .expect_err("refused");
    assert!(error.to_string().contains("not on the hub"), "{error}");
    assert_eq!(
        std::fs::read_dir(cache.path()).expect("a folder").count(),
        0
    );
}

#[test]
fn a_passing_failure_passes() {
    for status in [429, 500, 503] {
        let content =
            tiny().twist(move |_, earlier| (earlier == 0).then(|| Reply::new(status, "wait")));
        let (server, cache) = (Server::start(content), cache());
        hub(&server, &cache)
            .model(REPO, None)
            .expect("the second try succeeds");
        assert_no_leftovers(cache.path());
    }
}

#[test]
fn offline_uses_the_cache_and_says_what_it_lacks() {
    let (server, cache) = (Server::start(tiny()), cache());
    let offline = || {
        Hub::with(Settings {
            offline: true,
            ..settings(&server, &cache)
        })
        .expect("valid")
    };
    let error = offline()
        .model(REPO, None)
        .expect_err("not there")
        .to_string();
    assert!(error.starts_with("owner/tiny: not in the cache"), "{error}");
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    assert!(server.requests().is_empty(), "offline asks nobody");

    let online = hub(&server, &cache).model(REPO, None).expect("downloaded");
    let before = server.requests().len();
    assert_eq!(offline().model(REPO, None).expect("in the cache"), online);
    assert_eq!(server.requests().len(), before);

    std::fs::remove_file(online.dir.join("model.safetensors")).expect("removed");
    let error = offline()
        .model(REPO, None)
        .expect_err("incomplete")
        .to_string();
    assert!(error.contains("incomplete in the cache"), "{error}");
}

#[test]
fn without_a_server_the_cache_serves() {
    let cache = cache();
    let (first, unreachable) = {
        let server = Server::start(tiny());
        (
            hub(&server, &cache).model(REPO, None).expect("downloaded"),
            settings(&server, &cache),
        )
    };
    let hub = Hub::with(unreachable).expect("valid");
    assert_eq!(hub.model(REPO, None).expect("from the cache"), first);
    let error = hub
        .model("owner/other", None)
        .expect_err("nowhere")
        .to_string();
    assert!(
        error.contains("cannot be reached") && error.contains("not in the cache"),
        "{error}"
    );
}

#[test]
fn a_silent_server_is_given_up() {
    let content = tiny().twist(|_, _| {
        let mut reply = Reply::new(200, "late");
        reply.delay = Duration::from_secs(5);
        Some(reply)
    });
    let (server, cache) = (Server::start(content), cache());
    let hasty = Settings {
        patience: Duration::from_millis(300),
        ..settings(&server, &cache)
    };
    let start = Instant::now();
    let error = Hub::with(hasty)
        .expect("valid")
        .model(REPO, None)
        .expect_err("given up");
    assert!(error.to_string().contains("silent"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3));
}

fn sharded(map: &str) -> Content {
    Content::default()
        .file(REPO, "config.json", "{}")
        .file(REPO, "tokenizer.json", "{}")
        .file(
            REPO,
            "model.safetensors.index.json",
            format!("{{\"weight_map\": {map}}}"),
        )
        .file(REPO, "model-00001-of-00002.safetensors", "one")
        .file(REPO, "model-00002-of-00002.safetensors", "two")
}

#[test]
fn the_shards_of_the_index_come() {
    let content = sharded(
        r#"{"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors", "c": "model-00001-of-00002.safetensors"}"#,
    );
    let (server, cache) = (Server::start(content), cache());
    let got = hub(&server, &cache).model(REPO, None).expect("downloaded");
    assert_eq!(
        std::fs::read(got.dir.join("model-00002-of-00002.safetensors")).expect("there"),
        b"two"
    );
    assert!(got.dir.join("model.safetensors.index.json").is_file());
}

/// One id, one answer: the single file counts, whatever of the shards is in the cache.
#[test]
fn a_single_file_comes_before_shards_in_the_cache_too() {
    let map =
        r#"{"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}"#;
    let content = sharded(map).file(REPO, "model.safetensors", "whole");
    let (server, cache) = (Server::start(content), cache());
    let got = hub(&server, &cache).model(REPO, None).expect("downloaded");
    assert!(got.dir.join("model.safetensors").is_file());
    assert!(!got.dir.join("model.safetensors.index.json").exists());
    // Another program has brought the shards meanwhile.
    for name in [
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ] {
        std::fs::write(got.dir.join(name), format!("{{\"weight_map\": {map}}}")).expect("written");
    }
    for offline in [false, true] {
        let settings = Settings {
            offline,
            ..settings(&server, &cache)
        };
        let again = Hub::with(settings).expect("valid").model(REPO, None);
        assert_eq!(again.expect("there").dir, got.dir);
        assert!(got.dir.join("model.safetensors").is_file());
    }
    // Shards of a repository without a single file: that there is none is kept as Python keeps it.
    let (server, cache) = (Server::start(sharded(map)), self::cache());
    hub(&server, &cache).model(REPO, None).expect("downloaded");
    let folder = cache
        .path()
        .join("models--owner--tiny/.no_exist")
        .join(COMMIT);
    assert!(folder.join("model.safetensors").is_file());
}

#[test]
fn adapters_are_refused_and_their_base_model_named() {
    let adapter = r#"{"base_model_name_or_path": "owner/base", "peft_type": "LORA"}"#;
    let error = refusal(tiny().file(REPO, "adapter_config.json", adapter));
    assert!(
        error.contains("beside the model") && error.contains("merge_and_unload"),
        "{error}"
    );
    let alone = Content::default()
        .file(REPO, "adapter_config.json", adapter)
        .file(REPO, "adapter_model.safetensors", "x");
    let error = refusal(alone);
    assert!(
        error.contains("an adapter of `owner/base`, not a whole model"),
        "{error}"
    );
}

#[test]
fn a_bad_index_is_refused() {
    for (map, reason) in [
        (
            r#"{"a": "model-00003-of-00003.safetensors"}"#,
            "names model-00003-of-00003.safetensors, which is not there",
        ),
        (
            r#"{"a": "../../../../etc/x.safetensors"}"#,
            "not a plain relative path",
        ),
        (
            r#"{"a": "/tmp/x.safetensors"}"#,
            "not a plain relative path",
        ),
        (r#"{"a": "run.py"}"#, "no safetensors file"),
        ("{}", "names no shards"),
        ("[]", "invalid type"),
        (r#"{"a": 1}"#, "invalid type"),
    ] {
        let error = refusal(sharded(map));
        assert!(error.contains(reason), "{error}");
        assert!(error.contains("model.safetensors.index.json"), "{error}");
    }
}

#[test]
fn a_config_of_a_terabyte_is_refused() {
    let said = refusal(tiny().twist(|request, _| {
        let reply = Reply::new(302, "")
            .with("Location", "/elsewhere")
            .with("X-Repo-Commit", COMMIT)
            .with("X-Linked-Etag", "\"0123456789\"")
            .with("X-Linked-Size", (1_u64 << 40).to_string());
        request.path.ends_with("/config.json").then_some(reply)
    }));
    assert!(said.contains("1099511627776 bytes"), "{said}");
    assert!(said.contains("more than the 96 MiB"), "{said}");
}

#[test]
fn hostile_headers_make_no_paths() {
    for (header, value) in [("ETag", "\"../../../x\""), ("X-Repo-Commit", "../../../x")] {
        let error = refusal(tiny().twist(move |request, _| {
            let reply = ranged(request, b"{}");
            let reply = match header {
                "ETag" => reply.with("X-Repo-Commit", COMMIT),
                _ => reply.with("ETag", "\"abc\""),
            };
            request
                .path
                .contains("/resolve/")
                .then(|| reply.with(header, value))
        }));
        assert!(error.contains("makes no sense"), "{error}");
    }
    let error = refusal(tiny().twist(|request, _| {
        request
            .path
            .contains("/api/")
            .then(|| Reply::new(200, r#"{"sha": "../x", "siblings": []}"#))
    }));
    assert!(error.contains("is no commit"), "{error}");
}

#[test]
fn a_login_page_is_not_mistaken_for_the_hub() {
    let error =
        refusal(tiny().twist(|_, _| Some(Reply::new(200, "<html>Welcome to the hotel</html>"))));
    assert!(
        error.contains("makes no sense") && error.contains("login page"),
        "{error}"
    );
}

#[test]
fn repositories_without_what_is_read() {
    let only = |files: &[&str]| {
        files.iter().fold(Content::default(), |content, name| {
            content.file(REPO, name, "{}")
        })
    };
    let error = refusal(only(&["config.json", "tokenizer.json", "tf_model.h5"]));
    assert!(
        error.contains("only in TensorFlow") && error.contains("save_pretrained"),
        "{error}"
    );
    let error = refusal(only(&["config.json", "tokenizer.json"]));
    assert!(
        error.contains("no model.safetensors and no pytorch_model.bin"),
        "{error}"
    );
}

#[test]
fn files_of_a_dataset() {
    const DATA: &str = "datasets/owner/texts";
    let content = Content::default()
        .file(DATA, "data/train.jsonl", "{\"text\": \"a\"}\n")
        .file(DATA, "README.md", "hello");
    let (server, cache) = (Server::start(content), cache());
    let hub = hub(&server, &cache);
    assert_eq!(
        hub.dataset_files("owner/texts", None).expect("listed"),
        ["README.md", "data/train.jsonl"]
    );
    assert_eq!(
        hub.dataset_commit("owner/texts", None).expect("known"),
        COMMIT
    );
    let file = hub
        .dataset_file("owner/texts", None, "data/train.jsonl")
        .expect("downloaded");
    assert_eq!(
        std::fs::read_to_string(&file).expect("there"),
        "{\"text\": \"a\"}\n"
    );
    assert!(file.starts_with(cache.path().join("datasets--owner--texts/snapshots")));
    let error = hub
        .dataset_file("owner/texts", None, "x.jsonl")
        .expect_err("not there");
    assert!(error.to_string().contains("no file x.jsonl"), "{error}");
    assert!(hub.dataset_file("owner/texts", None, "../x").is_err());
    assert_eq!(server.count("/api/"), 1, "a revision is asked for once");

    let offline = Settings {
        offline: true,
        ..settings(&server, &cache)
    };
    let offline = Hub::with(offline).expect("valid");
    assert_eq!(
        offline.dataset_files("owner/texts", None).expect("cached"),
        ["data/train.jsonl"]
    );
    assert_eq!(
        offline
            .dataset_file("owner/texts", None, "data/train.jsonl")
            .expect("cached"),
        file
    );
}

#[test]
fn a_new_commit_reuses_unchanged_files() {
    let (server, cache) = (Server::start(tiny()), cache());
    let got = hub(&server, &cache).model(REPO, None).expect("downloaded");
    // As if an older commit had brought the blobs: links gone, blobs there.
    std::fs::remove_dir_all(&got.dir).expect("removed");
    let before = server.requests().len();
    let again = hub(&server, &cache).model(REPO, None).expect("linked");
    assert_eq!(
        std::fs::read(again.dir.join("model.safetensors")).expect("there"),
        weights()
    );
    let whole = server.requests()[before..]
        .iter()
        .filter(|request| request.path.contains("/resolve/") && request.start().is_some())
        .count();
    assert_eq!(whole, 0, "only sizes were asked for");
}

#[test]
fn bad_names_never_reach_the_network() {
    let (server, cache) = (Server::start(tiny()), cache());
    let hub = hub(&server, &cache);
    for repo in ["", "../x", "a/b/c", "a b", "./folder"] {
        assert_eq!(
            hub.model(repo, None).expect_err("refused").exit_code(),
            2,
            "{repo}"
        );
    }
    assert!(hub.model(REPO, Some("../../x")).is_err());
    assert!(server.requests().is_empty());
}
