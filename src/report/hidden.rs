//! Folders under a hidden name, until they are whole.
//!
//! A process that is killed leaves its folder behind. So whoever fills one holds a lock on it, and whoever
//! begins another beside it removes those that nobody holds.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use tempfile::TempDir;

use crate::allocator::Temporary;

const PREFIX: &str = ".massact-";
const SUFFIX: &str = ".tmp";

/// A younger one may not have its lock yet, or no longer.
const YOUNG: Duration = Duration::from_secs(10);

/// A new folder, removed on drop.
#[derive(Debug)]
pub(super) struct HiddenFolder {
    temp: TempDir,
    _listed: Temporary,
    /// Where the system locks folders: held until the process ends.
    _lock: Option<File>,
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
        let lock = locked(temp.path());
        Ok(Self {
            _listed: Temporary::folder(temp.path().to_owned()),
            temp,
            _lock: lock,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Does not remove it on drop.
    pub(super) fn keep(self) {
        // Only the path, which is known.
        let _ = self.temp.keep();
    }
}

/// Removes folders whose makers are gone. What cannot be removed stays.
pub(crate) fn remove_abandoned(parent: &Path) {
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
    let changed = fs::metadata(folder).and_then(|about| about.modified());
    let age = changed.ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age > YOUNG) && locked(folder).is_some()
}

/// Locks a folder, for as long as the file is open. None if somebody else has, or where folders cannot be
/// locked.
#[cfg(unix)]
fn locked(folder: &Path) -> Option<File> {
    use rustix::fs::{FlockOperation, flock};

    let file = File::open(folder).ok()?;
    let lock = flock(&file, FlockOperation::NonBlockingLockExclusive);
    lock.is_ok().then_some(file)
}

#[cfg(not(unix))]
fn locked(_: &Path) -> Option<File> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn abandoned_ones_go_and_others_stay() {
        let place = tempfile::tempdir().expect("a folder");
        let old = |folder: &Path| {
            let file = File::open(folder).expect("there");
            let time = std::time::SystemTime::now() - 2 * YOUNG;
            file.set_modified(time).expect("set");
        };
        let held = HiddenFolder::create(place.path()).expect("made");
        let new = |name: &str| {
            let folder = place.path().join(name);
            fs::create_dir(&folder).expect("made");
            fs::write(folder.join("half.json"), "{").expect("written");
            folder
        };
        let abandoned = new(".massact-gone.tmp");
        let young = new(".massact-young.tmp");
        let foreign = new("massact-x.tmp");
        for folder in [held.path(), &abandoned, &foreign] {
            old(folder);
        }
        let other = HiddenFolder::create(place.path()).expect("made");
        assert!(!abandoned.exists());
        assert!(held.path().exists() && other.path().exists());
        assert!(young.exists() && foreign.exists());
    }
}
