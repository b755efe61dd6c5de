//! Paths in a plan: relative to it, and inside its folder unless absolute.
#![forbid(unsafe_code)]

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// The folder of a plan.
pub(super) struct Inside<'a> {
    pub(super) plan: &'a str,
    pub(super) folder: &'a Path,
}

impl<'a> Inside<'a> {
    /// A checkpoint as the program takes it, and the revision if it is the hub's. Revisions of a local folder are
    /// folders in it.
    pub(super) fn checkpoint<'r>(
        &self,
        name: &str,
        revision: Option<&'r str>,
    ) -> Result<(String, Option<&'r str>)> {
        let local = is_path(name) || self.folder.join(name).exists();
        match (local, revision) {
            (false, revision) => Ok((name.to_owned(), revision)),
            (true, None) => Ok((self.path(name)?, None)),
            (true, Some(revision)) => {
                let folder = self.path(name)?;
                let inside = Inside {
                    plan: self.plan,
                    folder: Path::new(&folder),
                };
                if Path::new(revision).is_absolute() {
                    return Err(self.refused(revision, "a revision of a folder is a folder in it"));
                }
                Ok((inside.path(revision)?, None))
            }
        }
    }

    /// A setting's value as the program takes it.
    pub(super) fn argument(&self, key: &str, value: &str) -> Result<String> {
        match key {
            "text_file" | "adapter" => self.path(value),
            "dataset" if is_path(value) || self.folder.join(value).is_file() => self.path(value),
            "eval" | "task" => match value.split_once('=') {
                Some((name, file)) => Ok(format!("{name}={}", self.path(file)?)),
                None => Ok(value.to_owned()),
            },
            _ => Ok(value.to_owned()),
        }
    }

    fn path(&self, value: &str) -> Result<String> {
        let path = Path::new(value);
        if path.is_absolute() {
            return Ok(value.to_owned());
        }
        let mut inside = PathBuf::new();
        for part in path.components() {
            match part {
                Component::Normal(name) => inside.push(name),
                Component::CurDir => {}
                Component::ParentDir if inside.pop() => {}
                _ => return Err(self.refused(value, "the path leaves the plan's folder")),
            }
        }
        let path = self.folder.join(inside);
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| self.refused(value, "the plan's folder has a name that is not UTF-8"))
    }

    fn refused(&self, value: &str, why: &str) -> Error {
        Error::usage(format!("{}: `{value}`", self.plan), why)
            .remedy("give an absolute path, or put it beside the plan")
    }
}

/// A path rather than a name of the hub or of a dataset.
fn is_path(name: &str) -> bool {
    name.starts_with(['.', '/']) || name.ends_with('/') || name.matches('/').count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside() -> Inside<'static> {
        Inside {
            plan: "plan.toml",
            folder: Path::new("/plans/a"),
        }
    }

    #[test]
    fn relative_to_the_plan_and_not_out_of_it() {
        let file = |value: &str| inside().argument("text_file", value);
        let adapter = inside().argument("adapter", "lora");
        assert_eq!(adapter.as_deref(), Ok("/plans/a/lora"));
        assert_eq!(file("b/../c.txt").as_deref(), Ok("/plans/a/c.txt"));
        assert_eq!(file("./c.txt").as_deref(), Ok("/plans/a/c.txt"));
        assert_eq!(file("/etc/c.txt").as_deref(), Ok("/etc/c.txt"));
        for out in ["../c.txt", "b/../../c.txt", ".."] {
            assert_eq!(
                file(out).map_err(|error| error.exit_code()),
                Err(2),
                "{out}"
            );
        }
        let set = inside().argument("eval", "c4=x=y.txt");
        assert_eq!(set.as_deref(), Ok("c4=/plans/a/x=y.txt"));
        assert_eq!(inside().argument("eval", "c4").as_deref(), Ok("c4"));
        let task = inside().argument("task", "piqa=x.jsonl");
        assert_eq!(task.as_deref(), Ok("piqa=/plans/a/x.jsonl"));
        assert_eq!(
            inside().argument("dataset", "owner/name").as_deref(),
            Ok("owner/name")
        );
        assert!(inside().argument("dataset", "../x.jsonl").is_err());
    }

    #[test]
    fn revisions_of_a_folder_are_folders_in_it() {
        let find = |name: &str, revision| inside().checkpoint(name, revision);
        assert_eq!(find("gpt2", None), Ok(("gpt2".to_owned(), None)));
        assert_eq!(
            find("owner/name", Some("step1")),
            Ok(("owner/name".to_owned(), Some("step1")))
        );
        assert_eq!(
            find("./runs", Some("checkpoint-5")),
            Ok(("/plans/a/runs/checkpoint-5".to_owned(), None))
        );
        assert!(find("./runs", Some("../../x")).is_err());
        assert!(find("./runs", Some("/x")).is_err());
        assert!(find("../runs", None).is_err());
    }
}
