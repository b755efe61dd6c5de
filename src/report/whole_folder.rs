//! Folders that appear complete or not at all.
//!
//! The files go to a hidden temporary folder beside the final one, are synced to disk, and the
//! folder is renamed. It is removed on drop, which covers errors and Ctrl-C alike.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Component, Path, PathBuf};

use super::atomic::{NewFolders, io_error_of};
use super::hidden::HiddenFolder;
use crate::{
    error::{Error, Result},
    interrupt,
};

/// Bytes after which the system has to put them on the disk. Left to itself it collects gigabytes,
/// and the final sync, which cannot be interrupted, takes as long as they do.
const BYTES_BETWEEN_SYNCS: usize = 128 << 20;

/// A folder being written that becomes visible under its name only by [`WholeFolder::commit`].
#[derive(Debug)]
pub struct WholeFolder {
    // Dropped in this order: the temporary folder goes before the folders around it.
    temp: HiddenFolder,
    parents: NewFolders,
    target: PathBuf,
    flag: &'static str,
}

impl WholeFolder {
    /// Starts the folder `target`, which must not exist or be empty; `flag` is the argument that
    /// named it.
    pub fn create(target: &Path, flag: &'static str) -> Result<Self> {
        let target = resolve(target, flag)?;
        refuse_used(&target, flag)?;
        let parent = target.parent().unwrap_or(&target).to_owned();
        let parents = NewFolders::create(&parent, flag)?;
        let temp =
            HiddenFolder::create(&parent).map_err(|error| io_error_of(&target, &error, flag))?;
        Ok(Self {
            temp,
            parents,
            target,
            flag,
        })
    }

    /// Where the folder will be: absolute, without links.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Starts a file in it.
    pub fn file(&self, name: &str) -> Result<WholeFile> {
        let target = self.target.join(name);
        let file = File::create(self.temp.path().join(name))
            .map_err(|error| io_error_of(&target, &error, self.flag))?;
        Ok(WholeFile {
            file,
            target,
            flag: self.flag,
            unsynced: 0,
        })
    }

    /// Writes a whole file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.file(name)?;
        file.write(bytes)?;
        file.finish()
    }

    /// Gives the folder its name, for good.
    pub fn commit(self) -> Result<PathBuf> {
        self.put()?;
        Ok(self.keep())
    }

    /// Gives the folder its name; it goes again with [`WholeFolder::take_back`].
    pub fn put(&self) -> Result<()> {
        interrupt::check()?;
        let fail = |error: io::Error| io_error_of(&self.target, &error, self.flag);
        sync_folder(self.temp.path()).map_err(fail)?;
        // Somebody may have put something there in the meantime.
        refuse_used(&self.target, self.flag)?;
        fs::rename(self.temp.path(), &self.target).map_err(fail)?;
        if let Some(Err(error)) = self.target.parent().map(sync_folder) {
            self.remove();
            return Err(fail(error));
        }
        Ok(())
    }

    /// Leaves the folder that was put in its place there, and returns where that is.
    pub fn keep(self) -> PathBuf {
        let Self {
            temp,
            parents,
            target,
            ..
        } = self;
        // There is nothing left under the temporary name to remove.
        temp.keep();
        parents.keep();
        target
    }

    /// Removes the folder that was put in its place, since what belongs to it could not be written.
    pub fn take_back(self) {
        self.remove();
    }

    /// It was not there before. What cannot be removed stays.
    fn remove(&self) {
        let _ = fs::remove_dir_all(&self.target);
    }
}

/// A file of a [`WholeFolder`].
#[derive(Debug)]
pub struct WholeFile {
    file: File,
    target: PathBuf,
    flag: &'static str,
    unsynced: usize,
}

impl WholeFile {
    /// Appends `bytes`. Unbuffered: callers write megabytes at once.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let result = self.file.write_all(bytes).and_then(|()| {
            self.unsynced += bytes.len();
            if self.unsynced < BYTES_BETWEEN_SYNCS {
                return Ok(());
            }
            self.unsynced = 0;
            self.file.sync_data()
        });
        result.map_err(|error| io_error_of(&self.target, &error, self.flag))
    }

    /// Syncs the file to disk. Errors of a full disk may come only here.
    pub fn finish(self) -> Result<()> {
        self.file
            .sync_all()
            .map_err(|error| io_error_of(&self.target, &error, self.flag))
    }
}

/// The path as it is reached, whether or not its last parts exist.
pub fn resolve(path: &Path, flag: &str) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(|error| {
        Error::usage(format!("{flag} {}", path.display()), error).remedy("name a folder")
    })?;
    for existing in absolute.ancestors() {
        let Ok(real) = existing.canonicalize() else {
            continue;
        };
        let rest = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
        if rest
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            // Joining nothing would append a slash.
            return Ok(if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            });
        }
        break;
    }
    Err(Error::usage(
        format!("{flag} {}", path.display()),
        "it goes up from a folder that does not exist",
    )
    .remedy("name the folder without `..`"))
}

/// Fails early if `target` is in use; touches nothing.
pub fn check_unused(target: &Path, flag: &str) -> Result<()> {
    refuse_used(&resolve(target, flag)?, flag)
}

fn refuse_used(target: &Path, flag: &str) -> Result<()> {
    let subject = || format!("{flag} {}", target.display());
    match fs::read_dir(target) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Error::usage(subject(), "the folder is not empty")
                .remedy("name a new folder, or remove what is there")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            Err(Error::usage(subject(), "it is a file, or inside one").remedy("name a new folder"))
        }
        Err(error) => Err(io_error_of(target, &error, flag)),
    }
}

/// Puts a folder's entries on the disk; elsewhere than on Unix folders cannot be synced.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appears_whole() {
        let place = tempfile::tempdir().expect("a folder");
        let target = place.path().join("new/deep/out");
        let folder = WholeFolder::create(&target, "--out").expect("started");
        folder.write("a", b"1").expect("written");
        assert!(!target.exists());
        assert_eq!(
            folder.commit().expect("renamed"),
            resolve(&target, "--out").expect("there")
        );
        assert_eq!(fs::read(target.join("a")).expect("there"), b"1");
        let beside: Vec<_> = fs::read_dir(place.path().join("new/deep"))
            .expect("there")
            .collect();
        assert_eq!(beside.len(), 1, "{beside:?}");
    }

    #[test]
    fn dropped_leaves_nothing() {
        let place = tempfile::tempdir().expect("a folder");
        let folder =
            WholeFolder::create(&place.path().join("new/deep/out"), "--out").expect("started");
        folder.write("a", b"1").expect("written");
        drop(folder);
        assert_eq!(fs::read_dir(place.path()).expect("there").count(), 0);
    }

    #[test]
    fn takes_an_empty_folder_and_no_other() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = WholeFolder::create(place.path(), "--out").expect("started");
        folder.write("a", b"1").expect("written");
        folder.commit().expect("renamed");
        assert_eq!(fs::read(place.path().join("a")).expect("there"), b"1");
        for used in [
            place.path().to_owned(),
            place.path().join("a"),
            place.path().join("a/b"),
        ] {
            let error = WholeFolder::create(&used, "--out").expect_err("used");
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        let up = place.path().join("none/../a");
        assert!(WholeFolder::create(&up, "--out").is_err());
    }
}
