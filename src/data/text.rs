//! A text file that is used whole.

use std::io::Read;
use std::path::Path;

use super::limits::{MOST_TEXT, too_much_text};
use super::patient::Patient;
use super::watched::{CHUNK, Watched, not_opened, read_error};
use super::{JoinedText, Provenance, SourceFile};
use crate::error::{Error, Result};
use crate::lfs;
use crate::progress::Progress;

/// Standard input, as it is called in records.
const STDIN: &str = "/dev/stdin";

/// Reads a text that is already joined: used whole, nothing sampled, nothing trimmed (but for a
/// byte order mark, which is no text). The path `-` is standard input.
pub fn read_text_file(path: &Path) -> Result<JoinedText> {
    let path = match path.to_str() {
        Some("-") => Path::new(STDIN),
        _ => path,
    };
    let mut reader = open(path)?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) => return Err(read_error(path.display(), &error)),
        }
        if bytes.len() > MOST_TEXT {
            return Err(too_much_text(&path.display()));
        }
    }
    lfs::refuse_pointer(path.display(), &bytes)?;
    let file = SourceFile {
        path: path.display().to_string(),
        bytes: bytes.len() as u64,
        blake3: blake3::hash(&bytes).to_hex().to_string(),
    };
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error
            .as_bytes()
            .iter()
            .take(at)
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        Error::new(
            format!("{}: line {line}", path.display()),
            format!("not UTF-8 (byte {} of the text)", at + 1),
        )
        .remedy("save the file as UTF-8")
    })?;
    if text.trim().is_empty() {
        return Err(Error::new(path.display(), "no text in it").remedy("give a file with text"));
    }
    Ok(JoinedText {
        text,
        source: Provenance {
            name: path.display().to_string(),
            files: vec![file],
            documents: 1,
            joiner: "",
            note: None,
        },
    })
}

/// A file, or what ends when it is closed: a pipe, as of a shell's `<(command)`, and standard input.
fn open(path: &Path) -> Result<Box<dyn Read>> {
    let piped = if path == Path::new(STDIN) {
        Patient::stdin()
    } else if is_pipe(path) {
        Patient::pipe(path)
    } else {
        return Ok(Box::new(Watched::open(
            path,
            "reading",
            Progress::silent(),
        )?));
    };
    match piped {
        Ok(pipe) => Ok(Box::new(pipe)),
        Err(error) => Err(not_opened(path, &error)),
    }
}

fn is_pipe(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        path.metadata()
            .is_ok_and(|found| found.file_type().is_fifo())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}
