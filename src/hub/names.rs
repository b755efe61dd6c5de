//! Names become folders and addresses, so only plain ones pass.

use std::path::Path;

use crate::error::{Error, Result};

/// `name` or `owner/name`.
pub(super) fn repo(repo: &str) -> Result<()> {
    let part = |part: &str| {
        !part.is_empty()
            && part.len() <= 96
            && !part.starts_with(['.', '-'])
            && !part.ends_with(['.', '-'])
            && !part.contains("--")
            && !part.contains("..")
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    if repo.split('/').count() <= 2 && repo.split('/').all(part) {
        return Ok(());
    }
    Err(Error::usage(
        format!("{repo:?}"),
        "not a folder here, and not a name on the hub",
    )
    .remedy("give owner/name or a folder with config.json")
    .meant_path(Path::new(repo)))
}

/// A branch, tag or commit.
pub(super) fn revision(revision: &str) -> Result<()> {
    if is_plain_path(revision) {
        return Ok(());
    }
    Err(Error::usage(
        format!("--revision {revision:?}"),
        "not a branch, tag or commit",
    ))
}

/// A file of a repository: relative, and never out of its folder.
pub(super) fn file(repo: &str, path: &str) -> Result<()> {
    if is_plain_path(path) {
        return Ok(());
    }
    Err(Error::new(
        repo,
        format!("names the file {path:?}, which is not a plain relative path"),
    )
    .remedy("the repository is malformed; use another one"))
}

fn is_plain_path(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.len() <= 512
        && path.split('/').all(part)
        && path.chars().all(|c| c.is_ascii_graphic())
        && !path.contains(['\\', '?', '#', '%', ':', '*', '"', '<', '>', '|'])
}

/// A full commit hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// An entity tag that can name a file.
pub(super) fn is_tag(tag: &str) -> bool {
    let bare = tag.strip_prefix("W/").unwrap_or(tag);
    (1..=128).contains(&bare.len())
        && bare
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for good in ["gpt2", "meta-llama/Llama-2-7b-hf", "a/b_c.d"] {
            assert!(repo(good).is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a/b/c", "../a", "a/..", "a//b", "a b", "a\\b", "a--b", "a/b?", "./model",
        ] {
            assert!(repo(bad).is_err(), "{bad}");
        }
        for good in ["main", "refs/pr/1", "v1.0", "0123456789abcdef"] {
            assert!(revision(good).is_ok(), "{good}");
        }
        for bad in ["", "../main", "/main", "a b", "a%2e", "a\nb"] {
            assert!(revision(bad).is_err(), "{bad}");
        }
        for bad in [
            "../x.safetensors",
            "/etc/passwd",
            "a/../../x",
            "C:\\x",
            "a\\..\\b",
            "a//b",
            "é",
        ] {
            assert!(file("r", bad).is_err(), "{bad}");
        }
        assert!(file("r", "data/train-0.parquet").is_ok());
    }

    #[test]
    fn tags_and_commits() {
        assert!(is_tag("W/abc") && is_tag("0a-5"));
        assert!(!is_tag("../x") && !is_tag("") && !is_tag("W/../x") && !is_tag("a.part"));
        assert!(is_commit(&"a".repeat(40)) && !is_commit("main") && !is_commit(&"g".repeat(40)));
    }
}
