//! Whether a path leads to a GGUF model.
#![forbid(unsafe_code)]

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    files,
    model::weights::gguf::{MAGIC, first_of_several, is_later_part},
};

/// What a file is called that has a part of a multimodal model which is no decoder.
const PROJECTOR: &str = "mmproj";

/// The GGUF file that a path leads to: itself, or the one model in a folder that has no config.json. None
/// if there is none.
pub(crate) fn file_at(path: &Path) -> Result<Option<PathBuf>> {
    if path.is_file() {
        if !ends_so(path) && !begins_so(path) {
            return Ok(None);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return match first_of_several(&name) {
            Some(first) => Err(
                Error::new(path.display(), "a later file of a model in several")
                    .remedy(format!("give the first one, {first}")),
            ),
            None => Ok(Some(path.to_owned())),
        };
    }
    if path.join("config.json").exists() {
        return Ok(None);
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| ends_so(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !is_later_part(name) && !name.starts_with(PROJECTOR))
        .collect();
    names.sort();
    match names.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(path.join(only))),
        [first, ..] => Err(Error::new(
            path.display(),
            format!("holds several GGUF models: {}", names.join(", ")),
        )
        .remedy(format!("name one, as {}", path.join(first).display()))),
    }
}

fn ends_so(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// Whether a file is one, whatever it is called.
fn begins_so(file: &Path) -> bool {
    let mut start = [0; 4];
    let read = files::open(file).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *MAGIC
}
