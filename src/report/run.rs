//! run.json: what was run, on what, how long it took and what it needed.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{identity::Identity, visible::visible};
use crate::{
    error::{Error, Result},
    files,
    model::{AdapterRecord, ConfigRecord, WeightsRecord},
};

/// The `schema` field of run.json.
pub const RUN_SCHEMA: &str = "massact/run/1";

/// Everything run.json holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Always [`RUN_SCHEMA`].
    pub schema: String,
    /// The program and how it was built.
    pub massact: Build,
    /// Which command ran: `existence-validation`, `capture`, ...
    pub command: String,
    /// The command line behind the program's name, as it was given.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// The command line's settings with defaults filled in.
    pub settings: Value,
    /// Seed of every random choice.
    pub seed: u64,
    /// The checkpoint.
    pub model: ModelRecord,
    /// What names the run's folder.
    pub identity: Identity,
    /// Where it ran: `cpu`, `cuda:N`, or `cuda:N,M` on several cards.
    pub device: String,
    /// The card's product name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// The type matrix products were computed in.
    pub compute_dtype: String,
    /// What became of the keys of its config.json.
    pub config: ConfigRecord,
    /// What became of the checkpoint's tensors.
    pub weights: WeightsRecord,
    /// What was said about how the checkpoint was read.
    pub notices: Vec<String>,
    /// Files that determined the result, with checksums.
    pub inputs: Vec<InputRecord>,
    /// Where the time went.
    pub timings: Timings,
    /// Tokens that went through the model.
    pub tokens: u64,
    /// `tokens` over the forward time; `None` before anything ran.
    pub tokens_per_second: Option<f64>,
    /// Peak memory; `None` where the system does not tell.
    pub peak_memory_bytes: Option<u64>,
    /// What the memory consisted of when the run ended; `None` where the system does not tell.
    pub memory_at_end: Option<MemoryParts>,
    /// Start of the run, RFC 3339 in UTC.
    pub started_at: String,
    /// The machine.
    pub host: Host,
}

impl RunRecord {
    /// The folder of an earlier run, beside `folder` or there, that has the same identity but for the
    /// weights, and read other contents from the same files: they were changed in place.
    pub fn of_other_contents(&self, folder: &Path) -> Option<String> {
        let mut found: Vec<String> = std::fs::read_dir(folder.parent()?)
            .ok()?
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let earlier = files::read(&path.join("run.json"), files::DESCRIPTION).ok()?;
                let earlier: Self = serde_json::from_slice(&earlier).ok()?;
                let same = self.identity.same_but_for_weights(&earlier.identity);
                let changed = earlier.inputs.iter().any(|input| {
                    let mut own = self.inputs.iter();
                    own.any(|own| own.path == input.path && own.checksum != input.checksum)
                });
                (same && changed).then(|| path.display().to_string())
            })
            .collect();
        found.sort();
        found.pop()
    }
}

/// How a run came about, as its page says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// Which command ran.
    pub command: String,
    /// The command line behind the program's name.
    pub arguments: Vec<String>,
    /// Role and name of each text.
    pub texts: Vec<(String, String)>,
    /// Start of the run, RFC 3339 in UTC.
    pub started_at: String,
    /// Version, and commit if known.
    pub massact: String,
}

impl Origin {
    /// The command line, quoted so that a shell reads it as it was given.
    pub fn command_line(&self) -> String {
        let words = std::iter::once("massact").chain(self.arguments.iter().map(String::as_str));
        words.map(quoted).collect::<Vec<_>>().join(" ")
    }
}

/// A word of a command line.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The program's version and build, as known at compile time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The crate's version.
    pub version: String,
    /// Commit of the source tree, if built from one.
    pub git_commit: Option<String>,
    /// Version of rustc, if recorded.
    pub rustc: Option<String>,
    /// Target triple, if recorded.
    pub target: Option<String>,
}

impl Build {
    /// This build; the build script's findings are passed in because only the crate root sees them.
    pub fn new(git_commit: Option<&str>, rustc: Option<&str>, target: Option<&str>) -> Self {
        let known = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            git_commit: known(git_commit),
            rustc: known(rustc),
            target: known(target),
        }
    }
}

impl std::fmt::Display for Build {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.git_commit {
            Some(commit) => write!(f, "{} (commit {commit:.12})", self.version),
            None => f.write_str(&self.version),
        }
    }
}

/// The checkpoint as loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Id or path as given.
    pub name: String,
    /// What titles and tables call it instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The adapter on its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterRecord>,
    /// Where the files came from: a folder, a hub or `built-in`.
    pub source: String,
    /// Branch, tag or commit that was asked for.
    pub revision: Option<String>,
    /// Commit it resolved to.
    pub commit: Option<String>,
    /// `model_type` of config.json.
    pub model_type: String,
    /// Number of decoder layers.
    pub layers: usize,
    /// Width of the residual stream, of all of them together where layers hand on several.
    pub hidden_size: usize,
    /// Type the weights are stored in.
    pub dtype: String,
}

impl ModelRecord {
    /// The name by which results of the model as it was published are known; empty for one with an adapter.
    pub fn published_name(&self) -> &str {
        match self.adapter {
            None => &self.name,
            Some(_) => "",
        }
    }

    /// The last parts of its name and of its adapter's, if it has one.
    pub fn with_adapter(&self) -> Option<String> {
        let adapter = self.adapter.as_ref()?.path.trim_end_matches('/');
        let last = adapter.rsplit('/').next().unwrap_or(adapter);
        Some(format!("{} + {}", self.shown(), visible(last)))
    }

    /// What titles and tables call it: the label, or the last part of the name.
    pub fn shown(&self) -> &str {
        let name = self.name.trim_end_matches('/');
        let last = name.rsplit('/').next().unwrap_or(name);
        self.label.as_deref().unwrap_or(last)
    }
}

/// A file that determined the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// Path as used.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Of the contents.
    #[serde(flatten)]
    pub checksum: Checksum,
}

/// A checksum, 64 hex digits: `"blake3": ".."` or `"sha256": ".."`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// Computed by this program.
    Blake3(String),
    /// The name of a blob in the hub's cache.
    Sha256(String),
}

impl From<blake3::Hash> for Checksum {
    fn from(hash: blake3::Hash) -> Self {
        Self::Blake3(hash.to_hex().to_string())
    }
}

impl InputRecord {
    /// Reads `path` once for its checksum. Stops early when the user interrupts.
    pub fn of_file(path: &Path) -> Result<Self> {
        let fail = |error: std::io::Error| Error::unread(path, error);
        let mut file = files::open(path).map_err(fail)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            crate::interrupt::check()?;
            let count = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(fail(error)),
            };
            hasher.update(&buffer[..count]);
            bytes += count as u64;
        }
        Ok(Self {
            path: path.display().to_string(),
            bytes,
            checksum: hasher.finalize().into(),
        })
    }

    /// Text given on the command line or built in, under a made-up `name`.
    pub fn of_bytes(name: &str, bytes: &[u8]) -> Self {
        Self {
            path: name.to_owned(),
            bytes: bytes.len() as u64,
            checksum: blake3::hash(bytes).into(),
        }
    }
}

/// Wall-clock seconds by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Opening the checkpoint and tokenising.
    pub load_seconds: f64,
    /// The forward passes.
    pub forward_seconds: f64,
    /// Medians, top-k and other reductions.
    pub statistics_seconds: f64,
    /// From start to the writing of run.json.
    pub total_seconds: f64,
}

impl Timings {
    /// Throughput of the forward passes; `None` if they took no measurable time.
    pub fn tokens_per_second(&self, tokens: u64) -> Option<f64> {
        (tokens > 0 && self.forward_seconds > 0.0).then(|| tokens as f64 / self.forward_seconds)
    }
}

/// The machine a run was made on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
    /// Processor model, where the system tells.
    pub cpu: Option<String>,
    /// Cores this process may use.
    pub cores: usize,
}

impl Host {
    /// This machine.
    pub fn current() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpu: cpu_model(&cpuinfo),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Resident memory by kind. Pages of memory-mapped weights count as `file_bytes`: the system can
/// drop them at any time, so they are not what limits the size of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryParts {
    /// Heap and stacks.
    pub anonymous_bytes: u64,
    /// Mapped files.
    pub file_bytes: u64,
}

/// The largest resident size this process has had, mapped weights included; Linux only.
pub fn peak_memory() -> Option<u64> {
    status_bytes(&process_status()?, "VmHWM")
}

/// What the resident memory consists of at this moment; Linux only.
pub fn memory_parts() -> Option<MemoryParts> {
    let status = process_status()?;
    Some(MemoryParts {
        anonymous_bytes: status_bytes(&status, "RssAnon")?,
        file_bytes: status_bytes(&status, "RssFile")?,
    })
}

/// The present moment as RFC 3339 in UTC, to the second.
pub fn now_rfc3339() -> String {
    format!("{:.0}", jiff::Timestamp::now())
}

fn process_status() -> Option<String> {
    std::fs::read_to_string("/proc/self/status").ok()
}

/// A line like `VmHWM:     1234 kB`.
fn status_bytes(status: &str, key: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// x86 has `model name`; most other architectures have no such line.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_quoted_where_a_shell_needs_it() {
        let origin = Origin {
            arguments: ["capture", "--text", "it's a $HOME", "--eval=a=b.txt", ""]
                .map(str::to_owned)
                .to_vec(),
            ..Origin::default()
        };
        assert_eq!(
            origin.command_line(),
            r"massact capture --text 'it'\''s a $HOME' --eval=a=b.txt ''"
        );
    }

    #[test]
    fn reads_proc_status() {
        let status = "Name:\tmassact\nVmHWM:\t  2048 kB\nRssAnon:\t 12 kB\nVmHWMx:\t1 kB\n";
        assert_eq!(status_bytes(status, "VmHWM"), Some(2048 * 1024));
        assert_eq!(status_bytes(status, "RssFile"), None);
        assert_eq!(status_bytes("VmHWM:\tmany kB", "VmHWM"), None);
        assert_eq!(
            status_bytes(&format!("VmHWM: {} kB", u64::MAX), "VmHWM"),
            None
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn peak_covers_the_present() {
        let block = vec![1u8; 32 << 20];
        let parts = memory_parts().unwrap();
        assert!(parts.anonymous_bytes >= block.iter().map(|&b| u64::from(b)).sum());
        assert!(peak_memory().unwrap() >= parts.anonymous_bytes);
    }

    #[test]
    fn reads_cpu_model() {
        let info = "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\n";
        assert_eq!(cpu_model(info).as_deref(), Some("Some CPU @ 2.0GHz"));
        assert_eq!(cpu_model("model name\t: \n"), None);
        assert_eq!(cpu_model(""), None);
    }

    #[test]
    fn time_is_utc_to_the_second() {
        let now = now_rfc3339();
        assert_eq!(now.len(), "2026-01-01T00:00:00Z".len(), "{now}");
        assert!(now.ends_with('Z'), "{now}");
    }

    #[test]
    fn throughput_needs_time() {
        let mut timings = Timings::default();
        assert_eq!(timings.tokens_per_second(10), None);
        timings.forward_seconds = 2.0;
        assert_eq!(timings.tokens_per_second(10), Some(5.0));
    }
}
