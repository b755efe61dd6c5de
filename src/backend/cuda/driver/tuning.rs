//! Which of cuBLASLt's algorithms was the fastest for a shape: `massact bench --tune` measures it once, a file of
//! the card, the driver and the library keeps it, and every run on them reads that file.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    files,
    report::atomic::write_atomic,
};

/// An algorithm as cuBLASLt writes it; only the library that wrote it reads it.
pub(super) type Algorithm = [u64; 8];

/// The fastest algorithms that are known.
#[derive(Debug, Default)]
pub(super) struct Tuned {
    /// None where no folder for it is known.
    file: Option<PathBuf>,
    known: Known,
    /// By this process, of the shapes that it met.
    timed: BTreeMap<String, Algorithm>,
}

/// What the file holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// What they were measured on.
    machine: String,
    /// By the product's shape.
    algorithms: BTreeMap<String, Algorithm>,
}

impl Tuned {
    /// What is known of this card, driver and library, all told by `machine`. A file that cannot be read is none: it
    /// only tells what is faster.
    pub(super) fn load(machine: &str, lookup: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let file = folder(lookup).map(|folder| folder.join(file_name(machine)));
        let read = file.as_deref().and_then(read);
        let known = read.filter(|known| known.machine == machine);
        Self {
            known: known.unwrap_or_else(|| Known {
                machine: machine.to_owned(),
                algorithms: BTreeMap::new(),
            }),
            timed: BTreeMap::new(),
            file,
        }
    }

    /// The fastest for this shape.
    pub(super) fn get(&self, shape: &str) -> Option<Algorithm> {
        self.known.algorithms.get(shape).copied()
    }

    /// The fastest for this shape, if that was found out by this process.
    pub(super) fn timed(&self, shape: &str) -> Option<Algorithm> {
        self.timed.get(shape).copied()
    }

    /// Takes note of the fastest for this shape.
    pub(super) fn add(&mut self, shape: String, algorithm: Algorithm) {
        self.timed.insert(shape, algorithm);
    }

    /// Adds what was timed to the file, and says where that is, and how many shapes it has. Others may do so at the
    /// same time.
    pub(super) fn save(&self) -> Result<(&Path, usize)> {
        let file = self.file.as_deref().ok_or_else(|| {
            Error::new(
                "--tune",
                "no folder to keep what was measured: neither MASSACT_CACHE_DIR nor HOME is set",
            )
            .remedy("set MASSACT_CACHE_DIR to a folder")
        })?;
        let failed = |error| {
            Error::new(file.display().to_string(), error)
                .remedy("set MASSACT_CACHE_DIR to a folder that can be written")
        };
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        // Until this file's handle goes; the file of algorithms itself is replaced. Where a file system has no locks,
        // or the lock is another user's, the last one of two writers counts.
        let lock = File::create(file.with_extension("lock"));
        let _waited = lock.as_ref().map(File::lock);
        let known = read(file).filter(|known| known.machine == self.known.machine);
        let mut known = known.unwrap_or_else(|| self.known.clone());
        known.algorithms.extend(self.timed.clone());
        let text = serde_json::to_string_pretty(&known)
            .map_err(|error| Error::new(file.display().to_string(), error))?;
        write_atomic(file, format!("{text}\n").as_bytes())?;
        Ok((file, known.algorithms.len()))
    }
}

fn read(file: &Path) -> Option<Known> {
    let text = files::read_text(file, files::DESCRIPTION).ok()?;
    serde_json::from_str(&text).ok()
}

/// Where such files are.
fn folder(lookup: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let get = |name: &str| {
        let value = lookup(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    get("MASSACT_CACHE_DIR").or_else(|| {
        let caches = get("XDG_CACHE_HOME").or_else(|| {
            let home = get("HOME").or_else(|| get("USERPROFILE"));
            home.map(|home| home.join(".cache"))
        });
        caches.map(|caches| caches.join("massact"))
    })
}

/// Of letters and digits that every file system takes.
fn file_name(machine: &str) -> String {
    let words = machine.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    format!("cublaslt-{}.json", words.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "NVIDIA H100 80GB HBM3, driver 580.95.05, CUDA 13.0, cuBLASLt 130100";

    #[test]
    fn what_was_measured_is_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new");
        let lookup = |name: &str| (name == "MASSACT_CACHE_DIR").then(|| path.clone().into());
        let mut tuned = Tuned::load(MACHINE, &lookup);
        assert_eq!(tuned.get("a"), None);
        let algorithm = [1, u64::MAX, 0, 4, 5, 6, 7, 1 << 63];
        tuned.add("a".into(), algorithm);
        assert_eq!((tuned.get("a"), tuned.timed("a")), (None, Some(algorithm)));
        let (file, shapes) = tuned.save().expect("written");
        let file = file.to_owned();
        assert_eq!(shapes, 1);
        let name = "cublaslt-NVIDIA-H100-80GB-HBM3-driver-580-95-05-CUDA-13-0-cuBLASLt-130100.json";
        assert_eq!(file, path.join(name));
        assert_eq!(Tuned::load(MACHINE, &lookup).get("a"), Some(algorithm));
        // Of another machine whose name looks the same in a file's.
        let other = MACHINE.replace("13.0", "13 0");
        assert_eq!(Tuned::load(&other, &lookup).get("a"), None);
        let other = MACHINE.replace("13.0", "13.1");
        assert_eq!(Tuned::load(&other, &lookup).get("a"), None);
        // Two processes that began with the same file, and one shape that is timed again.
        let [mut first, mut second] = [(), ()].map(|()| Tuned::load(MACHINE, &lookup));
        let again = [9; 8];
        first.add("b".into(), algorithm);
        second.add("c".into(), algorithm);
        second.add("a".into(), again);
        first.save().expect("written");
        assert_eq!(second.save().expect("written").1, 3);
        let all = Tuned::load(MACHINE, &lookup);
        let known = ["a", "b", "c"].map(|shape| all.get(shape));
        assert_eq!(known, [Some(again), Some(algorithm), Some(algorithm)]);
        // What is damaged tells nothing, and is written anew.
        for text in ["", "{", "[]", r#"{"machine": 1, "algorithms": {}}"#] {
            std::fs::write(&file, text).expect("written");
            let mut tuned = Tuned::load(MACHINE, &lookup);
            assert_eq!(tuned.get("a"), None, "{text}");
            tuned.add("b".into(), algorithm);
            tuned.save().expect("written");
            assert_eq!(Tuned::load(MACHINE, &lookup).get("b"), Some(algorithm));
        }
    }

    #[test]
    fn folders() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<(String, OsString)> = set
                .iter()
                .map(|(name, value)| ((*name).to_owned(), OsString::from(value)))
                .collect();
            let lookup = move |name: &str| {
                let found = set.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone())
            };
            folder(&lookup)
        };
        let home = ("HOME", "/home/a");
        assert_eq!(of(&[home]), Some("/home/a/.cache/massact".into()));
        let caches = ("XDG_CACHE_HOME", "/caches");
        assert_eq!(of(&[home, caches]), Some("/caches/massact".into()));
        let own = ("MASSACT_CACHE_DIR", "/own");
        assert_eq!(of(&[home, caches, own]), Some("/own".into()));
        assert_eq!(of(&[]), None);
        assert!(Tuned::load(MACHINE, &|_| None).save().is_err());
    }
}
