//! Words as bash and Slurm read them.
#![forbid(unsafe_code)]

use std::path::Path;

use crate::error::{Error, Result};

/// A word for bash, and for a line `#SBATCH`, which knows the same quotes: plain where that is safe.
pub fn word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+=:,./@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    // A quote cannot be in quotes of its own kind.
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

/// An argument for a line `#SBATCH`: `--name=value`, with the value in quotes where it needs them.
pub(super) fn directive(argument: &str) -> String {
    match argument.split_once('=') {
        Some((name, value)) => format!("#SBATCH {}={}", word(name), word(value)),
        None => format!("#SBATCH {}", word(argument)),
    }
}

/// Refuses what would end its line.
pub(super) fn one_line(subject: &str, text: &str) -> Result<()> {
    if text.chars().any(char::is_control) {
        return Err(Error::usage(subject, "it has a control character")
            .remedy("give it without line breaks and the like"));
    }
    Ok(())
}

/// A path as text that fits a line.
pub(super) fn path(path: &Path) -> Result<&str> {
    let text = path.to_str().ok_or_else(|| {
        Error::usage(path.display(), "its name is not UTF-8").remedy("give it another name")
    })?;
    one_line(&path.display().to_string(), text)?;
    Ok(text)
}

/// The folder of logs as Slurm's patterns for names of files have it.
pub(super) fn pattern(folder: &str) -> Result<String> {
    if folder.contains('\\') {
        // Slurm then replaces nothing, so that all logs would be one file.
        return Err(
            Error::usage(folder, "Slurm reads no patterns in a path with a backslash")
                .remedy("give the folder another name"),
        );
    }
    Ok(folder.replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn bash_reads_every_word_as_it_was() {
        for text in [
            "",
            "plain",
            "/a b/c",
            "it's",
            "'",
            "\"$HOME\" `id` $(id) \\ !! * ? [a] ~ # ; & | < > ( ) { }",
            "-n",
            "ünï",
        ] {
            let line = format!("printf %s {}", word(text));
            let output = std::process::Command::new("bash")
                .args(["-c", &line])
                .output()
                .expect("bash");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text, "{line}");
        }
    }

    #[test]
    fn values_of_directives_are_quoted() {
        assert_eq!(directive("--account=a1"), "#SBATCH --account=a1");
        assert_eq!(
            directive("--comment=it's #1"),
            "#SBATCH --comment='it'\"'\"'s #1'"
        );
        assert_eq!(directive("--exclusive"), "#SBATCH --exclusive");
    }

    #[test]
    fn a_path_is_no_pattern() {
        assert_eq!(pattern("/a %j/b").as_deref(), Ok("/a %%j/b"));
        assert!(pattern("/a\\b").is_err());
        assert!(path(Path::new("/a\nb")).is_err());
    }
}
