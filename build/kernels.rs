//! Compiles `kernels/*.cu`, each to one binary for all cards, and writes the list that the crate
//! includes. Without nvcc the list is empty and says why.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::nvcc::{self, Nvcc};

const FOLDER: &str = "kernels";
/// What the compiler is told, the targets among it.
const OPTIONS: &str = "kernels/nvcc.options";
/// What a build without nvcc is told.
const REMEDY: &str = "pip install nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
                      nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85";

/// Writes `kernels.rs` into cargo's output folder.
pub(crate) fn embed() {
    println!("cargo:rerun-if-changed={FOLDER}");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let list = match nvcc::find() {
        Ok(nvcc) => match compile_all(&nvcc, &out) {
            Ok(kernels) => listing(
                &format!(
                    "Ok({:?})",
                    format!("nvcc {} for {}", nvcc.version, targets())
                ),
                nvcc.release,
                &kernels,
            ),
            Err(report) => {
                eprintln!("{report}");
                panic!("{} does not compile the CUDA kernels", nvcc.path.display());
            }
        },
        Err(reason) => {
            assert!(
                env::var_os("CARGO_FEATURE_REQUIRE_CUDA").is_none(),
                "the feature require-cuda needs nvcc: {reason}; {REMEDY}"
            );
            println!(
                "cargo:warning=without CUDA kernels, for the CPU only: {reason}; to have them: {REMEDY}"
            );
            listing(&format!("Err({reason:?})"), (0, 0), &[])
        }
    };
    fs::write(out.join("kernels.rs"), list).expect("OUT_DIR is writable");
}

/// What the options compile for: cards of some generations, and PTX for those that come.
fn targets() -> String {
    let options = fs::read_to_string(OPTIONS).expect("the kernels are part of the crate");
    let codes = options
        .lines()
        .filter_map(|line| line.split_once("code=").map(|(_, code)| code));
    let named = codes.map(|code| match code.strip_prefix("compute_") {
        Some(generation) => format!("PTX {generation}"),
        None => code.to_owned(),
    });
    named.collect::<Vec<_>>().join(", ")
}

/// Rust source: what built them, and the binaries.
fn listing(built: &str, release: (u32, u32), kernels: &[PathBuf]) -> String {
    let images: String = kernels
        .iter()
        .map(|path| format!("    include_bytes!({:?}),\n", path.display().to_string()))
        .collect();
    format!(
        "pub(super) const BUILT: Result<&str, &str> = {built};\n\
         pub(super) const RELEASE: (u32, u32) = {release:?};\n\
         pub(super) static IMAGES: &[&[u8]] = &[\n{images}];\n"
    )
}

/// The binaries of all kernels, or what the compiler says of one that fails.
fn compile_all(nvcc: &Nvcc, out: &Path) -> Result<Vec<PathBuf>, String> {
    let mut sources = files(Path::new(FOLDER));
    sources.sort();
    let stamp = stamp(nvcc, &sources);
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok());
    let jobs: usize = jobs.unwrap_or(1).max(1);
    let (mut running, mut finished): (Vec<Job>, Vec<PathBuf>) = Default::default();
    for source in sources
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "cu"))
    {
        let job = Job::new(source, out, &stamp);
        finished.push(job.binary.clone());
        if job.is_done() {
            continue;
        }
        if running.len() == jobs {
            running.remove(0).wait()?;
        }
        running.push(job.start(nvcc)?);
    }
    for job in running {
        job.wait()?;
    }
    Ok(finished)
}

/// All files of a folder and its folders.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the kernels are part of the crate");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Of everything that a binary depends on: a commit alone does not compile kernels again.
fn stamp(nvcc: &Nvcc, sources: &[PathBuf]) -> String {
    let mut hasher = DefaultHasher::new();
    nvcc.version.hash(&mut hasher);
    for source in sources {
        source.hash(&mut hasher);
        fs::read(source).expect("just listed").hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

/// One kernel file on its way to a binary.
struct Job {
    source: PathBuf,
    binary: PathBuf,
    stamp_file: PathBuf,
    stamp: String,
    process: Option<Child>,
}

impl Job {
    fn new(source: &Path, out: &Path, stamp: &str) -> Self {
        let stem = source.file_stem().expect("a file").to_string_lossy();
        Self {
            source: source.to_owned(),
            binary: out.join(format!("{stem}.fatbin")),
            stamp_file: out.join(format!("{stem}.stamp")),
            stamp: stamp.to_owned(),
            process: None,
        }
    }

    fn is_done(&self) -> bool {
        self.binary.is_file()
            && fs::read_to_string(&self.stamp_file).is_ok_and(|stamp| stamp == self.stamp)
    }

    fn start(mut self, nvcc: &Nvcc) -> Result<Self, String> {
        let process = Command::new(&nvcc.path)
            .args(["-fatbin", "--options-file", OPTIONS])
            .args(nvcc.compression())
            .arg("-o")
            .args([&self.binary, &self.source])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        self.process = Some(process.map_err(|error| format!("{}: {error}", nvcc.path.display()))?);
        Ok(self)
    }

    fn wait(self) -> Result<(), String> {
        let Some(process) = self.process else {
            return Ok(());
        };
        let output = process
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            return Err(format!(
                "{}: {}",
                self.source.display(),
                String::from_utf8_lossy(&said)
            ));
        }
        fs::write(&self.stamp_file, &self.stamp).expect("OUT_DIR is writable");
        Ok(())
    }
}
