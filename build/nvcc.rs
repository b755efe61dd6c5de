//! Finds NVIDIA's compiler.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// The first release that knows compute capability 10.0 and compresses for size.
const OLDEST: (u32, u32) = (12, 8);

/// A compiler that runs.
pub(crate) struct Nvcc {
    pub(crate) path: PathBuf,
    /// Such as `13.0.88`.
    pub(crate) version: String,
    /// Its first two numbers.
    pub(crate) release: (u32, u32),
}

impl Nvcc {
    /// How binaries are compressed. Every driver that runs CUDA 13 reads the smallest kind; of those
    /// that run CUDA 12 only 550 and newer do, so that its binaries are compressed as ever.
    pub(crate) fn compression(&self) -> &'static [&'static str] {
        if self.release.0 >= 13 {
            &["--compress-mode=size"]
        } else {
            &[]
        }
    }
}

/// The first that runs and is new enough, or why there is none. `NVCC` names one, or with `none`
/// none at all; else CUDA_HOME, CUDA_PATH, PATH, the usual folders, and pip's packages of the Python
/// that CUDA_PYTHON, VIRTUAL_ENV or PATH gives.
pub(crate) fn find() -> Result<Nvcc, String> {
    for name in [
        "NVCC",
        "CUDA_HOME",
        "CUDA_PATH",
        "CUDA_PYTHON",
        "VIRTUAL_ENV",
        "PATH",
    ] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    if let Some(named) = env::var_os("NVCC").filter(|named| !named.is_empty()) {
        if named == "none" {
            return Err("NVCC=none".to_owned());
        }
        return check(Path::new(&named))
            .map_err(|reason| format!("NVCC={}: {reason}", named.display()));
    }
    let mut reasons = Vec::new();
    for candidate in candidates() {
        if !candidate.is_file() {
            continue;
        }
        match check(&candidate) {
            Ok(nvcc) => return Ok(nvcc),
            Err(reason) => reasons.push(format!("{}: {reason}", candidate.display())),
        }
    }
    reasons.insert(0, "no nvcc was found".to_owned());
    Err(reasons.join("; "))
}

fn candidates() -> Vec<PathBuf> {
    let home = |name: &str| env::var_os(name).map(|home| PathBuf::from(home).join("bin/nvcc"));
    let mut found: Vec<PathBuf> = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(home)
        .collect();
    if let Some(path) = env::var_os("PATH") {
        found.extend(env::split_paths(&path).map(|folder| folder.join("nvcc")));
    }
    found.extend(["/usr/local/cuda/bin/nvcc", "/opt/cuda/bin/nvcc"].map(PathBuf::from));
    found.extend(packages().into_iter().map(|folder| folder.join("bin/nvcc")));
    found
}

/// Where pip puts CUDA 13's packages.
fn packages() -> Vec<PathBuf> {
    let python = env::var_os("CUDA_PYTHON")
        .map(PathBuf::from)
        .or_else(|| env::var_os("VIRTUAL_ENV").map(|home| PathBuf::from(home).join("bin/python")));
    let python = python.unwrap_or_else(|| "python3".into());
    let code = "import site, sysconfig\n\
                print(sysconfig.get_path('purelib'))\n\
                print(*site.getsitepackages(), sep='\\n')";
    let output = Command::new(python).args(["-c", code]).output();
    let Ok(output) = output else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|folder| Path::new(folder).join("nvidia/cu13"))
        .collect()
}

fn check(path: &Path) -> Result<Nvcc, String> {
    let output = Command::new(path).arg("--version").output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err("`--version` fails".to_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // "Cuda compilation tools, release 13.0, V13.0.88"
    let version = text.split_once(", V").map(|(_, rest)| rest);
    let version = version.and_then(|rest| rest.split_whitespace().next());
    let version = version.ok_or("does not say its version")?.to_owned();
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let release = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if release < OLDEST {
        return Err(format!(
            "version {version} is older than {}.{}",
            OLDEST.0, OLDEST.1
        ));
    }
    let path = path.to_owned();
    Ok(Nvcc {
        path,
        version,
        release,
    })
}
