//! Ctrl-C during a download. Alone in its program, because the wish to stop is the program's.
#![cfg(unix)]

#[allow(dead_code, reason = "tests/hub.rs uses the rest")]
#[path = "support/loopback.rs"]
mod loopback;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "support/program.rs"]
mod program;

use std::time::{Duration, Instant};

use loopback::{COMMIT, Content, Server, ranged, sha256};
use massact::data::{Role, Wanted, load};
use massact::hub::{Hub, Settings};
use massact::progress::Progress;
use program::signal;

const REPO: &str = "owner/tiny";

#[test]
fn a_download_stops_at_once_and_leaves_no_entry() {
    massact::interrupt::install();
    // The weights take longer than anyone waits.
    let content = Content::default()
        .file(REPO, "config.json", "{}")
        .file(REPO, "tokenizer.json", "{}")
        .file(REPO, "model.safetensors", vec![1; 4_000_000])
        .twist(|request, _| {
            request.start()?;
            request.path.contains("/cdn/").then(|| {
                let mut reply = ranged(request, &vec![1; 4_000_000]);
                reply.delay = Duration::from_secs(8);
                reply
            })
        });
    let server = Server::start(content);
    let cache = tempfile::tempdir().expect("a folder");
    let hub = Hub::with(Settings {
        endpoint: server.endpoint(),
        cache_dir: cache.path().to_owned(),
        token: None,
        offline: false,
        progress: Progress::silent(),
        retries: 4,
        pause: Duration::from_secs(60),
        patience: Duration::from_secs(60),
    })
    .expect("valid settings");
    let stopper = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(500));
        signal("INT", std::process::id());
        Instant::now()
    });
    let error = hub.model(REPO, None).expect_err("interrupted");
    let stopped = stopper.join().expect("no panic");
    assert_eq!(error.exit_code(), 3, "{error}");
    assert!(stopped.elapsed() < Duration::from_secs(1));
    let folder = cache.path().join("models--owner--tiny");
    assert!(
        !folder
            .join("blobs")
            .join(sha256(&vec![1; 4_000_000]))
            .exists()
    );
    assert!(
        !folder
            .join("snapshots")
            .join(COMMIT)
            .join("model.safetensors")
            .exists()
    );
    assert!(
        !folder.join("refs/main").exists(),
        "the model is not complete"
    );

    // Reading stops as well, with the same error rather than one about the file.
    let path = cache.path().join("a.jsonl");
    std::fs::write(&path, "{\"text\": \"a\"}\n").expect("written");
    let path = path.to_str().expect("UTF-8");
    let error = load(
        path,
        Wanted {
            field: None,
            role: Role::Corpus,
            seed: 0,
        },
        &|| unreachable!(),
        Progress::silent(),
    );
    assert_eq!(error.expect_err("interrupted").exit_code(), 3);
}
