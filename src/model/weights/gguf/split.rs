//! Models in several files, named as `gguf-split` of llama.cpp names them.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::metadata::Metadata;
use crate::error::{Error, Result};

/// The most files of a model, which have five digits in their names.
const MOST: u64 = 99_999;
/// A tail such as `-00001-of-00003.gguf`.
const TAIL: usize = "-00001-of-00003.gguf".len();

/// The start of a file name, and which file it is of how many.
fn parse(name: &str) -> Option<(&str, u64, u64)> {
    let at = name.len().checked_sub(TAIL)?;
    let (start, tail) = (name.get(..at)?, name.get(at..)?);
    let numbers = tail.strip_prefix('-')?.strip_suffix(".gguf")?;
    let (index, count) = numbers.split_once("-of-")?;
    let number = |digits: &str| {
        let all = digits.bytes().all(|digit| digit.is_ascii_digit());
        (all && digits.len() == 5).then(|| digits.parse().ok())?
    };
    Some((start, number(index)?, number(count)?))
}

/// The name of another file of the same model.
fn named(start: &str, index: u64, count: u64) -> String {
    format!("{start}-{index:05}-of-{count:05}.gguf")
}

/// Whether a name says that it is the second or a later file of a model.
pub(in crate::model) fn is_later_part(name: &str) -> bool {
    parse(name).is_some_and(|(_, index, _)| index > 1)
}

/// The name of the first file of a model of which a name says that it is a later one.
pub(in crate::model) fn first_of_several(name: &str) -> Option<String> {
    let (start, index, count) = parse(name)?;
    (index > 1).then(|| named(start, 1, count))
}

/// The files after the first one.
pub(super) fn parts(metadata: &Metadata<'_>, first: &Path) -> Result<Vec<PathBuf>> {
    let count = metadata.unsigned("split.count")?.unwrap_or(0);
    let index = metadata.unsigned("split.no")?.unwrap_or(0);
    if count <= 1 {
        return Ok(Vec::new());
    }
    let name = first.file_name().unwrap_or_default().to_string_lossy();
    let own = parse(&name).filter(|(.., stated)| *stated == count && count <= MOST);
    let Some((start, ..)) = own else {
        return Err(Error::new(
            first.display(),
            format!("it is file {} of the {count} of a model, but its name does not say so", index + 1),
        )
        .remedy(format!(
            "name the files as they were: NAME-00001-of-{count:05}.gguf and so on, all in one folder"
        )));
    };
    if index != 0 {
        return Err(Error::new(
            first.display(),
            format!("it is file {} of the {count} of a model", index + 1),
        )
        .remedy(format!("give the first one, {}", named(start, 1, count))));
    }
    let mut parts = Vec::new();
    for index in 2..=count {
        let part = first.with_file_name(named(start, index, count));
        if !part.is_file() {
            return Err(Error::new(
                first.display(),
                format!(
                    "the model has {count} files, and {} is not beside it",
                    named(start, index, count)
                ),
            )
            .remedy("download the missing file"));
        }
        parts.push(part);
    }
    Ok(parts)
}

/// Refuses another number of tensors than the first of several files says.
pub(super) fn check_count(metadata: &Metadata<'_>, found: usize) -> Result<()> {
    match metadata.unsigned("split.tensors.count")? {
        Some(stated) if stated != found as u64 => Err(Error::new(
            "`split.tensors.count`",
            format!("it says that the model has {stated} tensors, and its files have {found}"),
        )
        .remedy("download all files again, of one revision")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        assert_eq!(parse("a-00002-of-00003.gguf"), Some(("a", 2, 3)));
        for other in [
            "a.gguf",
            "-0001-of-00003.gguf",
            "a-00001-of-0000x.gguf",
            "ü",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(
            first_of_several("a-00002-of-00003.gguf").as_deref(),
            Some("a-00001-of-00003.gguf")
        );
        assert!(!is_later_part("a-00001-of-00003.gguf"));
    }
}
