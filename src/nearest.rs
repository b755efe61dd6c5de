//! What a mistyped name was probably meant to be.

use std::path::{Path, PathBuf};

/// Slips that a name has at most, however long it is; of a shorter one a third may be wrong.
const MOST_SLIPS: usize = 3;

/// Entries of a folder that are looked at.
const MOST_ENTRIES: usize = 10_000;

/// The known name that is a few slips away at most: a character added, left out, replaced or swapped with its
/// neighbour. Letter case, and whether words are joined by `-` or `_`, count for nothing.
pub(crate) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let own = plain(name);
    let length = own.chars().count();
    let most = MOST_SLIPS.min(length.max(3) / 3);
    let mut found: Option<(usize, &str)> = None;
    for known in known {
        if known == name {
            return None;
        }
        let other = plain(known);
        let others = other.chars().count();
        // The distance takes time by the product of the lengths.
        if length.abs_diff(others) > most {
            continue;
        }
        let slips = strsim::osa_distance(&own, &other);
        // Something of the name must be left.
        let near = slips <= most && slips < length.min(others);
        if near && found.is_none_or(|(fewest, _)| slips < fewest) {
            found = Some((slips, known));
        }
    }
    found.map(|(_, known)| known)
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// The path that is there and differs from one that is not by a few slips in the names of its parts.
pub(crate) fn nearest_path(path: &Path) -> Option<PathBuf> {
    let mut found = PathBuf::new();
    for part in path.components() {
        let next = found.join(part);
        if next.exists() {
            found = next;
            continue;
        }
        let folder = match found.as_os_str().is_empty() {
            true => Path::new("."),
            false => &found,
        };
        let entries = folder.read_dir().ok()?.flatten().take(MOST_ENTRIES);
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        // Of two that are as near, the same one every time.
        names.sort_unstable();
        let name = part.as_os_str().to_str()?;
        found.push(nearest(name, names.iter().map(String::as_str))?);
    }
    (found != path).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_a_name_may_be_wrong_and_no_more() {
        for (name, near, far) in [
            // Up to five characters one slip, up to eight two, then three.
            ("pipa", "piqa", "poqe"),
            ("abcde", "abcdx", "abcxx"),
            ("abcdef", "abcdxx", "abcxxx"),
            ("abcdefgh", "abcdefxx", "abcdexxx"),
            ("abcdefghi", "abcdefxxx", "abcdexxxx"),
            (
                "abcdefghijklmnopqrst",
                "abcdefghijklmnopqxxx",
                "abcdefghijklmnopxxxx",
            ),
        ] {
            assert_eq!(nearest(name, [near]), Some(near), "{name}");
            assert_eq!(nearest(name, [far]), None, "{name}");
        }
    }

    #[test]
    fn kinds_of_slips() {
        let known = ["wikitext", "c4", "pg19", "attention_output", "q", "k", "v"];
        for (name, meant) in [
            ("wikitxt", Some("wikitext")),
            ("wikitextt", Some("wikitext")),
            ("wikitetx", Some("wikitext")),
            ("WikiText", Some("wikitext")),
            ("attention-output", Some("attention_output")),
            ("c5", Some("c4")),
            ("pg91", Some("pg19")),
            // Nothing of it would be left.
            ("w", None),
            ("", None),
            ("hellaswag", None),
        ] {
            assert_eq!(nearest(name, known), meant, "{name}");
        }
        assert_eq!(
            nearest("llama-1b", ["llama-3b", "llama-1b"]),
            None,
            "it is known"
        );
        assert_eq!(
            nearest("abcde", ["abxde", "abcdef", "abcdf"]),
            Some("abxde")
        );
        assert_eq!(nearest("abcdefg", ["abcxxfg", "abcdef"]), Some("abcdef"));
    }

    #[test]
    fn paths_with_slips_in_any_part() {
        let temp = tempfile::tempdir().expect("a folder");
        let root = temp.path();
        let file = root.join("models/llama/config.json");
        std::fs::create_dir_all(root.join("models/llama")).expect("made");
        std::fs::write(&file, "{}").expect("written");
        for slip in [
            "models/llama/confg.json",
            "modles/llama/config.json",
            "modles/lama/Config.json",
        ] {
            assert_eq!(nearest_path(&root.join(slip)), Some(file.clone()), "{slip}");
        }
        assert_eq!(nearest_path(&root.join("models/gemma")), None);
        assert_eq!(nearest_path(&root.join("data/llama")), None);
        assert_eq!(nearest_path(&file), None);
        assert_eq!(
            nearest_path(Path::new("Cargo.tml")),
            Some("Cargo.toml".into())
        );
        // More parts than a path can have.
        assert_eq!(nearest_path(Path::new(&"a/".repeat(100_000))), None);
    }
}
