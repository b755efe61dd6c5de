//! Finds cuBLASLt: the system's, a CUDA toolkit's, or that of Python's packages, which PyTorch
//! brings.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// By preference.
const NAMES: [&str; 2] = if cfg!(windows) {
    ["cublasLt64_13.dll", "cublasLt64_12.dll"]
} else {
    ["libcublasLt.so.13", "libcublasLt.so.12"]
};

/// Loads cuBLASLt for the rest of the process, so that cudarc, which knows the bare name only, finds
/// it loaded. Where it was found, or where it was looked for in vain.
pub(super) fn cublas_lt() -> Result<&'static Path, &'static str> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(find).as_deref().map_err(String::as_str)
}

fn find() -> Result<PathBuf, String> {
    // By name: what LD_LIBRARY_PATH and the linker's cache have.
    let by_name = NAMES.into_iter().map(PathBuf::from);
    if let Some(found) = by_name.into_iter().find(|name| open(name)) {
        return Ok(found);
    }
    let mut folders = toolkits();
    folders.extend(packages());
    let files = folders
        .iter()
        .flat_map(|folder| NAMES.map(|name| folder.join(name)));
    let found = files.into_iter().find(|file| file.is_file() && open(file));
    found.ok_or_else(|| {
        format!(
            "{} was not found by the system, in CUDA_HOME, CUDA_PATH, /usr/local/cuda, /opt/cuda or Python's packages",
            NAMES[0]
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
