//! Files that appear complete or not at all.
//!
//! Data goes to a hidden temporary file in the same folder, is synced to disk and then renamed over
//! the final name. The temporary file is removed on drop, which covers errors and Ctrl-C alike,
//! because an interrupt unwinds through `Drop` like any other error.

use std::fs;
use std::io::{self, BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::{
    allocator::Temporary,
    error::{Error, Result},
};

/// Tensors arrive in small pieces; one write per megabyte keeps system calls out of the profile.
const BUFFER_BYTES: usize = 1 << 20;

/// The argument that names the folder of results.
pub(super) const SAVE_DIR: &str = "--save-dir";

/// A file being written that becomes visible under its name only by [`AtomicFile::commit`].
///
/// ```
/// # fn main() -> massact::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// use std::io::Write;
/// let mut file = massact::report::AtomicFile::create(&folder.path().join("capture.safetensors"))?;
/// file.write_all(b"data").map_err(|error| file.error(&error))?;
/// file.commit()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AtomicFile {
    writer: BufWriter<NamedTempFile>,
    listed: Temporary,
    target: PathBuf,
    /// What errors call it.
    shown: PathBuf,
    /// The argument that named its folder.
    flag: &'static str,
}

impl AtomicFile {
    /// Opens a temporary file beside `target`, whose folder must exist.
    pub fn create(target: &Path) -> Result<Self> {
        Self::create_shown(target, target)
    }

    /// As [`AtomicFile::create`], in a folder that the argument `flag` names.
    pub fn create_of(target: &Path, flag: &'static str) -> Result<Self> {
        let temp = open_temp(target).map_err(|error| io_error_of(target, &error, flag))?;
        Ok(Self::of(temp, target, target, flag))
    }

    /// As [`AtomicFile::create`], where errors name `shown`: the place that the file's folder will
    /// have in the end.
    pub(super) fn create_shown(target: &Path, shown: &Path) -> Result<Self> {
        let temp = open_temp(target).map_err(|error| io_error(shown, &error))?;
        Ok(Self::of(temp, target, shown, SAVE_DIR))
    }

    fn of(temp: NamedTempFile, target: &Path, shown: &Path, flag: &'static str) -> Self {
        Self {
            listed: Temporary::file(temp.path().to_owned()),
            writer: BufWriter::with_capacity(BUFFER_BYTES, temp),
            target: target.to_owned(),
            shown: shown.to_owned(),
            flag,
        }
    }

    /// Where the file will be once committed.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Explains an error of this writer in terms of the final file, not of the temporary one.
    pub fn error(&self, error: &io::Error) -> Error {
        io_error_of(&self.shown, error, self.flag)
    }

    /// Syncs the data to disk and gives it its name, replacing an earlier file of that name.
    pub fn commit(self) -> Result<PathBuf> {
        let Self {
            writer,
            listed: _listed,
            target,
            shown,
            flag,
        } = self;
        let fail = |error: &io::Error| io_error_of(&shown, error, flag);
        let temp = writer
            .into_inner()
            .map_err(|error| fail(&error.into_error()))?;
        temp.as_file().sync_all().map_err(|error| fail(&error))?;
        if target.is_dir() {
            return Err(fail(&ErrorKind::IsADirectory.into()));
        }
        temp.persist(&target).map_err(|error| fail(&error.error))?;
        Ok(target)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.writer.seek(position)
    }
}

/// Writes the whole of `bytes` to `target` at once.
pub fn write_atomic(target: &Path, bytes: &[u8]) -> Result<PathBuf> {
    write_whole(AtomicFile::create(target)?, bytes)
}

/// As [`write_atomic`], into a folder that the argument `flag` names and that is made where it is
/// missing.
pub fn write_into(target: &Path, bytes: &[u8], flag: &'static str) -> Result<PathBuf> {
    if let Some(folder) = target.parent() {
        create_folder_of(folder, flag)?;
    }
    write_whole(AtomicFile::create_of(target, flag)?, bytes)
}

/// Writes all of a file and gives it its name.
pub(super) fn write_whole(mut file: AtomicFile, bytes: &[u8]) -> Result<PathBuf> {
    file.write_all(bytes).map_err(|error| file.error(&error))?;
    file.commit()
}

/// A temporary file in the folder of `target`, so that the rename stays on one file system.
fn open_temp(target: &Path) -> io::Result<NamedTempFile> {
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".massact-").suffix(".tmp");
    // tempfile makes private files; a result should be as readable as any other new file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Folders that did not exist before, innermost first. Those that are still empty go on drop.
#[derive(Debug)]
pub(super) struct NewFolders {
    folders: Vec<PathBuf>,
    _listed: Vec<Temporary>,
}

impl NewFolders {
    /// Creates `folder` and its parents; `flag` is the argument that named them.
    pub(super) fn create(folder: &Path, flag: &str) -> Result<Self> {
        let folders: Vec<PathBuf> = folder
            .ancestors()
            .take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists())
            .map(Path::to_owned)
            .collect();
        // The outermost is the last to go.
        let listed = folders.iter().rev().cloned().map(Temporary::empty);
        // Before the folders, so that what was created of a path that fails goes again.
        let created = Self {
            _listed: listed.collect(),
            folders,
        };
        create_folder_of(folder, flag)?;
        Ok(created)
    }

    /// Leaves the folders be.
    pub(super) fn keep(mut self) {
        self.folders.clear();
    }
}

impl Drop for NewFolders {
    fn drop(&mut self) {
        for folder in &self.folders {
            // Succeeds only on an empty folder; the inner ones may never have been made.
            match fs::remove_dir(folder) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(_) => break,
            }
        }
    }
}

fn create_folder_of(folder: &Path, flag: &str) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| {
        // create_dir_all says "File exists" for the whole path; name the file that is in the way.
        let blocked = folder.ancestors().find(|path| path.is_file());
        match blocked {
            Some(file) => io_error_of(file, &ErrorKind::NotADirectory.into(), flag),
            None => io_error_of(folder, &error, flag),
        }
    })
}

/// Why `path`, a result of a run, could not be written and what to do about it.
pub(super) fn io_error(path: &Path, error: &io::Error) -> Error {
    io_error_of(path, error, SAVE_DIR)
}

/// Why `path` could not be written and what to do about it; `flag` is the argument that named it.
pub(super) fn io_error_of(path: &Path, error: &io::Error, flag: &str) -> Error {
    let path = path.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::WriteZero => {
            Error::new(path, error).remedy(format!("free space or choose another {flag}"))
        }
        ErrorKind::FileTooLarge => Error::new(path, error).remedy(format!(
            "raise the limit on the size of files that the shell or the job sets (ulimit -f), or choose another {flag}"
        )),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Error::new(path, error).remedy(format!("choose another {flag}"))
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            Error::new(path, "a file is where a folder is needed")
                .remedy(format!("remove it or choose another {flag}"))
        }
        ErrorKind::IsADirectory => Error::new(path, "a folder is where the file should go")
            .remedy(format!("remove it or choose another {flag}")),
        ErrorKind::NotFound => Error::new(path, "its folder has disappeared")
            .remedy("run again, and leave the folder in place while massact runs"),
        ErrorKind::InvalidFilename => {
            Error::new(path, error).remedy(format!("choose another, shorter {flag}"))
        }
        _ => Error::new(path, error).remedy(format!("check the disk, or choose another {flag}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full disk cannot be had in a test; the wording can.
    #[test]
    fn errors_name_path_reason_and_remedy() {
        let said = |kind: ErrorKind| io_error(Path::new("out/x.json"), &kind.into()).to_string();
        let full = said(ErrorKind::StorageFull);
        assert!(full.starts_with("out/x.json: "), "{full}");
        assert!(
            full.ends_with("; free space or choose another --save-dir"),
            "{full}"
        );
        let denied = said(ErrorKind::PermissionDenied);
        assert_eq!(
            denied,
            "out/x.json: permission denied; choose another --save-dir"
        );
        assert!(said(ErrorKind::NotADirectory).contains("a file is where a folder is needed"));
    }
}
