//! Folders under a hidden name, until they are whole.
//!
//! A process that is killed leaves its folder behind. So whoever fills one holds a lock in it, and whoever
//! begins another beside it removes those that nobody holds.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use tempfile::TempDir;

const PREFIX: &str = ".massact-";
const SUFFIX: &str = ".tmp";

/// The file that is locked.
const LOCK: &str = ".lock";

/// A folder without the file is being made or taken away; not if it is as old as this.
const OLD: Duration = Duration::from_secs(24 * 3600);

/// A new folder, removed on drop.
#[derive(Debug)]
pub(super) struct HiddenFolder {
    temp: TempDir,
    lock: Option<File>,
}

impl HiddenFolder {
    /// In `parent`, from which abandoned ones are removed.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).suffix(SUFFIX);
        // tempfile makes private folders; a result should be as readable as any other new folder.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let temp = builder.tempdir_in(parent)?;
        let file = File::create(temp.path().join(LOCK))?;
        Ok(Self {
            temp,
            lock: locked(&file).then_some(file),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.temp.path()
    }

    /// It is complete, and about to get its name: only what belongs in it is left.
    pub(super) fn complete(&mut self) -> io::Result<()> {
        fs::remove_file(self.path().join(LOCK))?;
        self.lock = None;
        Ok(())
    }

    /// Does not remove it on drop.
    pub(super) fn keep(self) {
        // Only the path, which is known.
        let _ = self.temp.keep();
    }
}

/// Removes folders whose makers are gone. What cannot be removed stays.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if ours && entry.path().is_dir() && is_abandoned(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_abandoned(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(file) => locked(&file),
        Err(_) => {
            let age = fs::metadata(folder).and_then(|about| about.modified());
            age.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > OLD))
        }
    }
}

/// Takes the lock of a file, which is held as long as the file is open. False if somebody has it, or
/// where the file system knows no locks.
#[cfg(unix)]
fn locked(file: &File) -> bool {
    use rustix::fs::{FlockOperation, flock};

    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[cfg(not(unix))]
fn locked(_: &File) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn abandoned_ones_go_and_others_stay() {
        let place = tempfile::tempdir().expect("a folder");
        let held = HiddenFolder::create(place.path()).expect("made");
        let abandoned = place.path().join(".massact-gone.tmp");
        fs::create_dir(&abandoned).expect("made");
        fs::write(abandoned.join(LOCK), "").expect("written");
        fs::write(abandoned.join("half.json"), "{").expect("written");
        let new = place.path().join(".massact-new.tmp");
        fs::create_dir(&new).expect("made");
        let foreign = place.path().join("massact-x.tmp");
        fs::create_dir(&foreign).expect("made");
        let other = HiddenFolder::create(place.path()).expect("made");
        assert!(!abandoned.exists());
        assert!(held.path().exists() && other.path().exists());
        assert!(new.exists() && foreign.exists());
    }
}
