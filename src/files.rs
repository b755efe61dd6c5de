//! Files that others made.
//!
//! Who opens whatever has a name may wait without end for a pipe that nobody writes to, or read a device until
//! memory ends. Here only what is a file is opened, and no more of it is read than files of its kind ever have.
#![forbid(unsafe_code)]

use std::{
    fs::{File, FileType, Metadata},
    io::{self, Read},
    path::Path,
};

/// Bytes of what describes something: a config, settings of a tokenizer, a plan, the record of a run. The longest
/// known have a few million, and JSON takes up to twenty times as much memory as it is long.
pub(crate) const DESCRIPTION: u64 = 16 << 20;

/// Bytes of an index of weights: about hundred for each tensor, of which the largest models have some 200,000.
pub(crate) const INDEX: u64 = 64 << 20;

/// Bytes of a vocabulary; the largest known tokenizer.json has 34 million.
pub(crate) const VOCABULARY: u64 = 96 << 20;

/// Bytes of what massact itself has written: results, tables and the lines of a sweep's tasks.
pub(crate) const WRITTEN: u64 = 512 << 20;

/// Whether there is anything of this name, be it a link to nothing.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Opens a file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    opened(path).map(|(file, _)| file)
}

/// Reads a file of at most so many bytes.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, found) = opened(path)?;
    if found.len() > most {
        return Err(too_long(most));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or_default());
    // It may have grown since, and the system's own files have no length.
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(too_long(most));
    }
    Ok(bytes)
}

/// Reads a text of at most so many bytes.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// More than a file of its kind has.
pub(crate) fn too_long(most: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!(
            "it is longer than the {} MiB that massact reads of such a file",
            most >> 20
        ),
    )
}

fn opened(path: &Path) -> io::Result<(File, Metadata)> {
    let found = path.metadata()?;
    match other_kind(found.file_type()) {
        Some(kind) => Err(io::Error::other(format!("it is {kind}, not a file"))),
        None => Ok((File::open(path)?, found)),
    }
}

/// What it is, if it is no file.
fn other_kind(found: FileType) -> Option<&'static str> {
    #[cfg(unix)]
    use std::os::unix::fs::FileTypeExt as _;
    if found.is_file() {
        return None;
    }
    #[cfg(unix)]
    if found.is_fifo() {
        return Some("a pipe");
    } else if found.is_socket() {
        return Some("a socket");
    } else if found.is_char_device() || found.is_block_device() {
        return Some("a device");
    }
    Some("a folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_and_only_so_much() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").expect("written");
        assert_eq!(read(&path, 5).expect("short enough"), b"12345");
        let said = |result: io::Result<Vec<u8>>| result.expect_err("refused").to_string();
        assert!(said(read(&path, 4)).contains("longer than"));
        assert!(said(read(folder.path(), 5)).contains("a folder, not a file"));
        assert!(is_there(&path) && !is_there(&folder.path().join("other")));
        std::fs::write(&path, b"\xff").expect("written");
        assert!(read_text(&path, 5).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn no_pipe_and_no_device() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("runs").success());
        let said = |path: &Path| read(path, 5).expect_err("refused").to_string();
        assert!(said(&pipe).contains("a pipe, not a file"));
        let device = folder.path().join("device");
        std::os::unix::fs::symlink("/dev/zero", &device).expect("linked");
        assert!(said(&device).contains("a device, not a file"));
        let gone = folder.path().join("gone");
        std::os::unix::fs::symlink("nowhere", &gone).expect("linked");
        assert!(is_there(&gone) && read(&gone, 5).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_has_no_length_is_read_so_far() {
        // A file of the system that says it has none.
        assert!(read(Path::new("/proc/self/status"), 1 << 20).is_ok_and(|text| !text.is_empty()));
        assert!(read(Path::new("/proc/self/status"), 10).is_err());
    }
}
