//! The folder of one run: `<save-dir>/<model>/<experiment>-<digest of the run's identity>/`.
//!
//! The same run gives the same folder, so that a repeated run replaces its own results and
//! different runs never overwrite each other.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::{
    atomic::{AtomicFile, NewFolders, SAVE_DIR, io_error, write_whole},
    hidden::HiddenFolder,
    whole_folder::sync_folder,
};
use crate::{
    error::{Error, Result},
    interrupt,
};
use serde::Serialize;
use serde_json::Value;

/// Hex digits of the settings' hash in a folder's name.
const HASH_DIGITS: usize = 8;

/// How often a run tries to take its place while others do the same.
const TRIES: usize = 100;

/// Long names of local folders must not run into the file system's limit of 255 bytes.
const NAME_BYTES: usize = 128;

/// The folder that takes a run's files. They go to a hidden folder beside it, which takes its place at
/// the end: what is there is always one run, whole. A run that ends early leaves what was there before.
#[derive(Debug)]
pub struct RunFolder {
    // Dropped in this order: the temporary folder goes before the folders around it.
    temp: HiddenFolder,
    parents: NewFolders,
    target: PathBuf,
}

impl RunFolder {
    /// Begins the folder `<experiment>-<digest>` among those of a model.
    pub fn create(
        save_dir: &Path,
        model_folder: &str,
        experiment: &str,
        digest: &str,
    ) -> Result<Self> {
        let target = Self::path_for(save_dir, model_folder, experiment, digest);
        refuse_foreign(&target)?;
        let parent = target.parent().unwrap_or(&target).to_owned();
        let parents = NewFolders::create(&parent, SAVE_DIR)?;
        let temp = HiddenFolder::create(&parent).map_err(|error| io_error(&target, &error))?;
        Ok(Self {
            temp,
            parents,
            target,
        })
    }

    /// Where [`RunFolder::create`] would put the run; touches nothing.
    pub fn path_for(
        save_dir: &Path,
        model_folder: &str,
        experiment: &str,
        digest: &str,
    ) -> PathBuf {
        let experiment = safe_name(experiment).unwrap_or_else(|| "run".into());
        let digest = &digest[..HASH_DIGITS.min(digest.len())];
        save_dir
            .join(model_folder)
            .join(format!("{experiment}-{digest}"))
    }

    /// Where the run will be.
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// Puts the run in its place, instead of an earlier run that may be there.
    pub fn commit(self) -> Result<PathBuf> {
        interrupt::check()?;
        // Somebody may have put something there in the meantime.
        refuse_foreign(&self.target)?;
        let fail = |error: std::io::Error| io_error(&self.target, &error);
        sync_folder(self.temp.path()).map_err(fail)?;
        replace_folder(self.temp.path(), &self.target).map_err(fail)?;
        if let Some(Err(error)) = self.target.parent().map(sync_folder) {
            // It may not be there after a loss of power, so it is not there now either.
            let _ = take_back(self.temp.path(), &self.target);
            return Err(fail(error));
        }
        let Self {
            temp,
            parents,
            target,
        } = self;
        parents.keep();
        // Nothing, or the earlier run.
        drop(temp);
        Ok(target)
    }

    /// Writes a file completely or not at all; `relative_name` may hold folders.
    pub fn write(&self, relative_name: &str, bytes: impl AsRef<[u8]>) -> Result<PathBuf> {
        write_whole(self.stream(relative_name)?, bytes.as_ref())
    }

    /// Writes `value` as indented JSON with a final line break.
    pub fn write_json(&self, relative_name: &str, value: &impl Serialize) -> Result<PathBuf> {
        self.write(relative_name, json_bytes(relative_name, value)?)
    }

    /// A streaming writer for large files; nothing is visible before its `commit`. Dataset names reach
    /// this point from the command line, so anything that would leave the run's folder is refused.
    pub fn stream(&self, relative_name: &str) -> Result<AtomicFile> {
        let relative = Path::new(relative_name);
        let inside = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if !inside || relative.file_name().is_none() {
            return Err(Error::new(
                format!("file name `{relative_name}`"),
                "it would lie outside the run's folder",
            )
            .remedy("use a name without `..` or a leading slash"));
        }
        let (path, shown) = (self.temp.path().join(relative), self.target.join(relative));
        self.create_folders(relative)?;
        AtomicFile::create_shown(&path, &shown)
    }
}

impl RunFolder {
    /// The folders inside this one that the name of a file has. Not this one: if it has disappeared, it would
    /// lack what has been written.
    fn create_folders(&self, relative: &Path) -> Result<()> {
        let mut inside: Vec<&Path> = relative.ancestors().skip(1).collect();
        // The empty name is this folder's.
        inside.pop();
        for folder in inside.into_iter().rev() {
            match fs::create_dir(self.temp.path().join(folder)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(io_error(&self.target.join(folder), &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// `value` as the file `name` holds it: indented JSON with a final line break.
pub fn json_bytes(name: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::new(name, format!("not valid JSON: {error}")))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Fails early, before any model is loaded, if `save_dir` cannot take files. Leaves nothing behind:
/// a folder that does not exist yet is judged by its nearest existing ancestor.
pub fn check_writable(save_dir: &Path) -> Result<()> {
    let absolute = std::path::absolute(save_dir).map_err(|error| io_error(save_dir, &error))?;
    for folder in absolute.ancestors() {
        match folder.metadata() {
            Ok(found) if !found.is_dir() => {
                return Err(io_error(folder, &std::io::ErrorKind::NotADirectory.into()));
            }
            Ok(_) => {
                let probe = tempfile::Builder::new()
                    .prefix(".massact-")
                    .tempfile_in(folder);
                return match probe {
                    Ok(_) => Ok(()),
                    // As in /proc.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::new(
                        folder.display(),
                        "no files can be created there",
                    )
                    .remedy("choose another --save-dir")),
                    Err(error) => Err(io_error(folder, &error)),
                };
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if folder.is_symlink() {
                    return Err(Error::new(
                        folder.display(),
                        "it is a link to what does not exist",
                    )
                    .remedy("create that folder, or choose another --save-dir"));
                }
            }
            // "Not a directory": some ancestor is a file, which the next rounds will name.
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(io_error(folder, &error)),
        }
    }
    Err(Error::new(save_dir.display(), "no such folder").remedy("choose another --save-dir"))
}

/// Refuses to replace what no run has left.
fn refuse_foreign(target: &Path) -> Result<()> {
    if target.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
        return Err(Error::new(
            target.display(),
            "a file or a link is where the run's folder goes",
        )
        .remedy("move it away, or choose another --save-dir"));
    }
    // In this order: another run that ends in between puts a whole folder there.
    let files = fs::read_dir(target).is_ok_and(|mut entries| entries.next().is_some());
    let runs = ["run.json", "compare.json"];
    if !files || runs.iter().any(|name| target.join(name).is_file()) {
        return Ok(());
    }
    Err(Error::new(
        target.display(),
        "the run's folder is there and has files that no run has left",
    )
    .remedy("move it away, or choose another --save-dir"))
}

/// Gives the folder `from` the name `to`; a folder that has the name is then gone, or has the name
/// `from`. Other runs may do the same at this moment.
fn replace_folder(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    for _ in 0..TRIES {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        // Between the two another run may have put its folder there, or taken it away.
        match renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE) {
            Err(Errno::NOENT) => {}
            Ok(()) => return Ok(()),
            // The file system cannot exchange.
            Err(_) => break,
        }
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            Ok(()) => return Ok(()),
            Err(_) => break,
        }
    }
    replace_in_steps(from, to)
}

/// Undoes [`replace_folder`]: what has the name `from`, if anything, gets the name `to` again.
fn take_back(from: &Path, to: &Path) -> io::Result<()> {
    match from.exists() {
        true => replace_folder(from, to),
        // Nothing was there before.
        false => fs::remove_dir_all(to),
    }
}

/// As [`replace_folder`] where folders cannot be exchanged: for a moment nothing has the name.
fn replace_in_steps(from: &Path, to: &Path) -> io::Result<()> {
    let mut result = Ok(());
    for _ in 0..TRIES {
        let aside = HiddenFolder::create(from.parent().unwrap_or(from))?;
        match fs::rename(to, aside.path().join("earlier")) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        result = fs::rename(from, to);
        match &result {
            // Another run was faster; its folder is the next to be replaced.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Ok(()) => return Ok(()),
            Err(_) => {
                // What was there before is better than nothing.
                let _ = fs::rename(aside.path().join("earlier"), to);
                return result;
            }
        }
    }
    result
}

/// The last component of a model id or path as a folder name that is safe everywhere.
pub fn model_folder_name(model_name: &str) -> String {
    model_name
        .rsplit(['/', '\\'])
        .find_map(safe_name)
        .unwrap_or_else(|| "model".into())
}

/// The JSON text of a value, with sorted keys.
pub(crate) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

/// `serde_json` sorts object keys unless some other crate of the build turns on `preserve_order`;
/// folder names must not depend on that.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// `None` if nothing usable remains. Hidden and relative names ("..", ".cache") lose their dots.
pub(crate) fn safe_name(name: &str) -> Option<String> {
    let mut safe = String::new();
    for c in name.trim().trim_start_matches('.').chars() {
        let c = match c {
            '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*' => '_',
            c if c.is_control() || c.is_whitespace() => '_',
            c => c,
        };
        if safe.len() + c.len_utf8() > NAME_BYTES {
            break;
        }
        safe.push(c);
    }
    // Windows drops trailing dots silently.
    let safe = safe.trim_end_matches('.');
    (!safe.is_empty()).then(|| safe.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn model_names_become_safe_folder_names() {
        for (name, folder) in [
            ("meta-llama/Llama-2-7b-hf", "Llama-2-7b-hf"),
            ("./checkpoints/gpt2/", "gpt2"),
            ("C:\\models\\phi-2", "phi-2"),
            ("..", "model"),
            ("a/..", "a"),
            ("", "model"),
            ("/", "model"),
            ("odd name:\t<x>?", "odd_name___x__"),
            (".hidden", "hidden"),
            ("模型", "模型"),
        ] {
            assert_eq!(model_folder_name(name), folder, "{name:?}");
        }
        assert!(model_folder_name(&"é".repeat(500)).len() <= NAME_BYTES);
    }

    #[test]
    fn canonical_text_ignores_key_order() {
        let a: Value = serde_json::from_str(r#"{"b":[1,{"y":1,"x":2}],"a":null}"#).unwrap();
        assert_eq!(canonical(&a), r#"{"a":null,"b":[1,{"x":2,"y":1}]}"#);
        assert_ne!(canonical(&a), canonical(&json!({"a": null})));
    }

    #[test]
    fn a_run_replaces_an_earlier_one_whole() {
        let place = tempfile::tempdir().expect("a folder");
        let begin = || RunFolder::create(place.path(), "model", "run", "0123456789");
        let write = |name: &str, text: &str| {
            let folder = begin().expect("begun");
            folder.write("run.json", "1").expect("written");
            folder.write(name, text).expect("written");
            folder.commit().expect("committed")
        };
        let path = write("figures/old.svg", "1");
        assert_eq!(path, place.path().join("model/run-01234567"));
        assert_eq!(write("run.json", "2"), path);
        assert!(
            !path.join("figures").exists(),
            "an earlier run's file survives"
        );
        assert_eq!(fs::read(path.join("run.json")).expect("there"), b"2");
        // A run that ends early changes nothing.
        let folder = begin().expect("begun");
        folder.write("run.json", "3").expect("written");
        drop(folder);
        assert_eq!(fs::read(path.join("run.json")).expect("there"), b"2");
        let beside = fs::read_dir(place.path().join("model")).expect("there");
        assert_eq!(beside.count(), 1, "something is left beside it");
    }

    #[test]
    fn folders_are_replaced_without_an_exchange_too() {
        let place = tempfile::tempdir().expect("a folder");
        let [from, to] = ["from", "to"].map(|name| place.path().join(name));
        for (path, text) in [(&from, "new"), (&to, "old")] {
            fs::create_dir(path).expect("made");
            fs::write(path.join("file"), text).expect("written");
        }
        replace_in_steps(&from, &to).expect("replaced");
        assert_eq!(fs::read(to.join("file")).expect("there"), b"new");
        fs::rename(&to, &from).expect("renamed");
        replace_in_steps(&from, &to).expect("there is none");
        assert_eq!(fs::read_dir(place.path()).expect("there").count(), 1);
    }

    #[test]
    fn a_folder_of_no_run_is_not_replaced() {
        let place = tempfile::tempdir().expect("a folder");
        let begin = || RunFolder::create(place.path(), "model", "run", "0");
        let path = place.path().join("model/run-0");
        fs::create_dir_all(&path).expect("made");
        begin().expect("an empty one is");
        fs::write(path.join("thesis.txt"), "years").expect("written");
        let error = begin().expect_err("refused").to_string();
        assert!(error.contains("files that no run has left"), "{error}");
        assert!(path.join("thesis.txt").exists());
    }

    /// Of runs that end at once each succeeds, one is there, whole, and nothing lies beside it.
    #[test]
    fn runs_may_end_at_once() {
        let place = tempfile::tempdir().expect("a folder");
        for round in 0..20 {
            let digest = format!("{round:08}");
            std::thread::scope(|scope| {
                for run in 0..6 {
                    let (place, digest) = (place.path(), &digest);
                    scope.spawn(move || {
                        let folder = RunFolder::create(place, "model", "run", digest);
                        let folder = folder.expect("begun");
                        for name in ["run.json", "b"] {
                            folder.write(name, run.to_string()).expect("written");
                        }
                        folder.commit().expect("committed");
                    });
                }
            });
            let path = RunFolder::path_for(place.path(), "model", "run", &digest);
            let [a, b] = ["run.json", "b"].map(|name| fs::read(path.join(name)).expect("there"));
            assert_eq!(a, b, "files of two runs");
        }
        let beside = fs::read_dir(place.path().join("model")).expect("there");
        assert_eq!(beside.count(), 20, "something is left beside them");
    }
}
