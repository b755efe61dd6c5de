//! Finds cuBLASLt: the system's, a CUDA toolkit's, or that of Python's packages, which PyTorch
//! brings.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// By preference, each with the CUDA release whose drivers it needs.
const NAMES: [(u32, &str); 2] = if cfg!(windows) {
    [(13, "cublasLt64_13.dll"), (12, "cublasLt64_12.dll")]
} else {
    [(13, "libcublasLt.so.13"), (12, "libcublasLt.so.12")]
};

/// Those that run under a driver that supports this version of CUDA, and at least the oldest.
fn names(cuda: (u32, u32)) -> Vec<&'static str> {
    let run = NAMES
        .into_iter()
        .filter(|(release, _)| *release <= cuda.0.max(12));
    run.map(|(_, name)| name).collect()
}

/// Loads cuBLASLt for the rest of the process, so that cudarc, which knows the bare name only, finds
/// it loaded. Where it was found, or where it was looked for in vain.
pub(super) fn cublas_lt(cuda: (u32, u32)) -> Result<&'static Path, &'static str> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| find(&names(cuda)));
    found.as_deref().map_err(String::as_str)
}

fn find(names: &[&str]) -> Result<PathBuf, String> {
    // By name: what LD_LIBRARY_PATH and the linker's cache have.
    let by_name = names.iter().map(PathBuf::from);
    if let Some(found) = by_name.into_iter().find(|name| open(name)) {
        return Ok(found);
    }
    let mut folders = toolkits();
    folders.extend(packages());
    let files = folders
        .iter()
        .flat_map(|folder| names.iter().map(|name| folder.join(name)));
    let found = files.into_iter().find(|file| file.is_file() && open(file));
    found.ok_or_else(|| {
        format!(
            "{} was not found by the system, in CUDA_HOME, CUDA_PATH, /usr/local/cuda, /opt/cuda or Python's packages",
            names.join(" or ")
        )
    })
}

fn toolkits() -> Vec<PathBuf> {
    let homes = ["CUDA_HOME", "CUDA_PATH"]
        .into_iter()
        .filter_map(env::var_os)
        .map(PathBuf::from);
    let usual = ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from);
    homes
        .chain(usual)
        .flat_map(|home| {
            ["lib64", "lib", "targets/x86_64-linux/lib", "bin"].map(|folder| home.join(folder))
        })
        .collect()
}

/// Where pip puts CUDA's libraries, of the Python that CUDA_PYTHON, VIRTUAL_ENV or PATH gives.
fn packages() -> Vec<PathBuf> {
    let python = env::var_os("CUDA_PYTHON").map(PathBuf::from);
    let python = python
        .or_else(|| env::var_os("VIRTUAL_ENV").map(|home| Path::new(&home).join("bin/python")));
    let python = python.unwrap_or_else(|| "python3".into());
    let code = "import site, sysconfig\n\
                print(sysconfig.get_path('purelib'))\n\
                print(*site.getsitepackages(), site.getusersitepackages(), sep='\\n')";
    let Ok(output) = Command::new(python).args(["-c", code]).output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .flat_map(|folder| {
            ["cu13/lib", "cublas/lib"].map(|part| Path::new(folder).join("nvidia").join(part))
        })
        .collect()
}

/// Whether it loads; then it stays.
fn open(library: &Path) -> bool {
    // SAFETY: NVIDIA's library, whose initialisers have no preconditions.
    match unsafe { libloading::Library::new(library) } {
        Ok(library) => {
            std::mem::forget(library);
            true
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_under_a_driver() {
        let both = NAMES.map(|(_, name)| name);
        assert_eq!(names((13, 0)), both);
        assert_eq!(names((14, 1)), both);
        assert_eq!(names((12, 8)), both[1..]);
        assert_eq!(names((11, 0)), both[1..]);
    }
}
