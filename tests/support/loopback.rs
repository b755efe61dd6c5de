//! A hub on the loopback interface: enough of its protocol to download from, and ways to misbehave.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The commit of everything the server has.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    /// The first byte of the body that is asked for; nothing of a body that is not.
    pub(crate) fn start(&self) -> Option<usize> {
        if self.method != "GET" {
            return None;
        }
        match self.headers.get("range") {
            None => Some(0),
            Some(range) => range
                .strip_prefix("bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok(),
        }
    }
}

/// An answer. `body` may be shorter than `length` claims: the connection closes after it.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) length: usize,
    /// Stay silent so long before the body.
    pub(crate) delay: Duration,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            status,
            headers: Vec::new(),
            length: body.len(),
            body,
            delay: Duration::ZERO,
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

type Twist = dyn Fn(&Request, usize) -> Option<Reply> + Send + Sync;

/// What the server has, and how it deviates.
#[derive(Default)]
pub(crate) struct Content {
    /// `repo` (datasets as `datasets/repo`) to its files.
    pub(crate) repos: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Asked first, with the number of earlier requests for the same path.
    pub(crate) twist: Option<Box<Twist>>,
}

impl Content {
    pub(crate) fn file(mut self, repo: &str, path: &str, body: impl Into<Vec<u8>>) -> Self {
        self.repos
            .entry(repo.into())
            .or_default()
            .insert(path.into(), body.into());
        self
    }

    pub(crate) fn twist(
        mut self,
        twist: impl Fn(&Request, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        self.twist = Some(Box::new(twist));
        self
    }

    fn answer(&self, request: &Request, address: SocketAddr) -> Reply {
        let path = request.path.trim_start_matches('/');
        if let Some(rest) = path.strip_prefix("api/") {
            let rest = rest.strip_prefix("models/").unwrap_or(rest);
            let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
            let blobs = query.contains("blobs=true");
            return match rest.split_once("/revision/") {
                Some((repo, "main")) if self.repos.contains_key(repo) => self.info(repo, blobs),
                Some((repo, COMMIT)) if self.repos.contains_key(repo) => self.info(repo, blobs),
                _ => Reply::new(404, "{\"error\":\"not found\"}"),
            };
        }
        if let Some(rest) = path.strip_prefix("cdn/") {
            return match rest
                .split_once("/@/")
                .and_then(|(repo, file)| self.repos.get(repo)?.get(file))
            {
                Some(body) => ranged(request, body),
                None => Reply::new(404, ""),
            };
        }
        let found = path
            .split_once("/resolve/")
            .and_then(|(repo, rest)| Some((repo, rest.strip_prefix(COMMIT)?.strip_prefix('/')?)))
            .and_then(|(repo, file)| Some((repo, file, self.repos.get(repo)?.get(file)?)));
        match found {
            None => Reply::new(404, "Entry not found"),
            // Large files live elsewhere, with their SHA-256 as tag.
            Some((repo, file, body)) if is_large(file) => Reply::new(302, "")
                .with("Location", format!("http://{address}/cdn/{repo}/@/{file}"))
                .with("X-Repo-Commit", COMMIT)
                .with("X-Linked-Etag", format!("\"{}\"", sha256(body)))
                .with("X-Linked-Size", body.len().to_string())
                .with("ETag", "\"of-the-redirect\""),
            Some((_, _, body)) => ranged(request, body)
                .with("X-Repo-Commit", COMMIT)
                .with("ETag", format!("\"{}\"", tag(body))),
        }
    }

    /// With sizes if the request asks for blobs.
    fn info(&self, repo: &str, blobs: bool) -> Reply {
        let files: Vec<_> = self.repos[repo]
            .iter()
            .map(|(name, body)| match blobs {
                true => serde_json::json!({ "rfilename": name, "size": body.len() }),
                false => serde_json::json!({ "rfilename": name }),
            })
            .collect();
        Reply::new(
            200,
            serde_json::json!({ "sha": COMMIT, "siblings": files }).to_string(),
        )
        .with("Content-Type", "application/json")
    }
}

/// Whether a file is stored as large files are.
pub(crate) fn is_large(file: &str) -> bool {
    file.ends_with(".safetensors") || file.ends_with(".parquet") || file.ends_with(".jsonl")
}

/// The tag of a small file.
pub(crate) fn tag(body: &[u8]) -> String {
    blake3::hash(body).to_hex()[..40].to_owned()
}

pub(crate) fn sha256(body: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The body, or the range of it that is asked for.
pub(crate) fn ranged(request: &Request, body: &[u8]) -> Reply {
    match request.start() {
        None | Some(0) => Reply::new(200, body),
        Some(from) if from >= body.len() => {
            Reply::new(416, "").with("Content-Range", format!("bytes */{}", body.len()))
        }
        Some(from) => Reply::new(206, &body[from..]).with(
            "Content-Range",
            format!("bytes {from}-{}/{}", body.len() - 1, body.len()),
        ),
    }
}

/// A running server; it stops when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(content: Content) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let log = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (requests, stopped) = (Arc::clone(&log), Arc::clone(&stop));
        let content = Arc::new(content);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                // A thread each, so that a silent answer does not hold up the others.
                let (content, requests) = (Arc::clone(&content), Arc::clone(&requests));
                std::thread::spawn(move || serve(stream, &content, &requests, address));
            }
        });
        Self {
            address,
            log,
            stop,
            thread: Some(thread),
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.log.lock().expect("no panic").clone()
    }

    /// How many requests went to paths that hold `part`.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.path.contains(part))
            .count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, content: &Content, log: &Mutex<Vec<Request>>, address: SocketAddr) {
    let limit = Some(Duration::from_secs(10));
    let _ = (
        stream.set_read_timeout(limit),
        stream.set_write_timeout(limit),
    );
    let Some(request) = read_request(&mut stream) else {
        return;
    };
    let earlier = {
        let mut log = log.lock().expect("no panic");
        let earlier = log.iter().filter(|old| old.path == request.path).count();
        log.push(request.clone());
        earlier
    };
    let twisted = content
        .twist
        .as_ref()
        .and_then(|twist| twist(&request, earlier));
    let reply = twisted.unwrap_or_else(|| content.answer(&request, address));
    let mut head = format!(
        "HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n",
        reply.status, reply.length
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.flush();
    std::thread::sleep(reply.delay);
    if request.method != "HEAD" {
        let _ = stream.write_all(&reply.body);
    }
    let _ = stream.flush();
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).ok()?;
        if count == 0 || bytes.len() > 1 << 16 {
            return None;
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
    let text = String::from_utf8(bytes).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Some(Request {
        method,
        path,
        headers,
    })
}
