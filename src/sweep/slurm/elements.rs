//! Which tasks each element of an array runs.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::super::indices::Indices;
use crate::{
    error::{Error, Result},
    report::atomic::write_atomic,
};

/// Elements of an array, in the order of its indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements(pub Vec<Indices>);

/// Divides tasks, each with what those have in common that are to be in one process. An element has at most
/// `most` of them.
pub fn elements<K: PartialEq>(tasks: &[(usize, K)], most: Option<usize>) -> Elements {
    let mut groups: Vec<(&K, Vec<Vec<usize>>)> = Vec::new();
    for (index, key) in tasks {
        let place = groups.iter().position(|(other, _)| *other == key);
        let place = place.unwrap_or_else(|| {
            groups.push((key, vec![Vec::new()]));
            groups.len() - 1
        });
        let parts = &mut groups[place].1;
        match parts.last_mut() {
            Some(part) if most.is_none_or(|most| part.len() < most) => part.push(*index),
            _ => parts.push(vec![*index]),
        }
    }
    let parts = groups.into_iter().flat_map(|(_, parts)| parts);
    Elements(parts.map(|part| part.into_iter().collect()).collect())
}

impl Elements {
    /// Their file in `folder`. Its name follows from what is in it: jobs in the queue go on reading theirs,
    /// whatever is submitted later.
    pub fn path_in(&self, folder: &Path) -> PathBuf {
        let digest = blake3::hash(self.text().as_bytes()).to_hex();
        folder.join(format!("elements-{}.txt", &digest[..8]))
    }

    /// Writes the file, a line an element.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder).map_err(|error| Error::new(folder.display(), error))?;
        write_atomic(&self.path_in(folder), self.text().as_bytes())
    }

    fn text(&self) -> String {
        let lines: Vec<String> = self.0.iter().map(|part| format!("{part}\n")).collect();
        lines.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tasks: &[(usize, &str)], most: Option<usize>) -> Vec<String> {
        let elements = elements(tasks, most).0;
        elements.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tasks_of_one_model_are_together_and_not_too_many() {
        let tasks = [(0, "a"), (1, "a"), (2, "a"), (5, "b"), (6, "a"), (8, "b")];
        assert_eq!(shown(&tasks, None), ["0-2,6", "5,8"]);
        assert_eq!(shown(&tasks, Some(3)), ["0-2", "6", "5,8"]);
        assert_eq!(shown(&tasks, Some(1)), ["0", "1", "2", "6", "5", "8"]);
        assert!(shown(&[], None).is_empty());
    }

    #[test]
    fn another_content_is_another_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = elements(&[(0, ""), (1, "")], Some(1));
        let path = first.write(folder.path()).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("a text"), "0\n1\n");
        let again = first.write(folder.path()).expect("written");
        let second = elements(&[(1, "")], None).write(folder.path());
        assert_eq!(again, path);
        assert_ne!(second.expect("written"), path);
    }
}
