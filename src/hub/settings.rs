//! Where the hub is, where its cache is and who asks: the environment variables that Python's
//! `huggingface_hub` reads, so that both share one cache and one login.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::progress::Progress;
use crate::{
    error::{Error, Result},
    files,
};

const ENDPOINT: &str = "https://huggingface.co";

/// How the hub is used. Tests set the fields; the program reads them from the environment.
#[derive(Clone)]
pub struct Settings {
    /// The address of the hub, without a final slash.
    pub endpoint: String,
    /// The folder that holds `models--owner--name`.
    pub cache_dir: PathBuf,
    /// Sent with requests when given.
    pub token: Option<String>,
    /// Never ask the network.
    pub offline: bool,
    /// Where bars and notices go.
    pub progress: Progress,
    /// How often a request that may succeed later is repeated.
    pub retries: u32,
    /// The wait before the first repetition; it doubles each time.
    pub pause: Duration,
    /// How long a connection may stay silent.
    pub patience: Duration,
}

// By hand: a token must not end up in a log.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// The settings of the environment.
    pub fn from_env(progress: Progress) -> Result<Self> {
        Self::from_lookup(&|name| std::env::var_os(name), progress)
    }

    /// The settings of any environment; unset and empty variables are the same.
    pub fn from_lookup(
        lookup: &dyn Fn(&str) -> Option<OsString>,
        progress: Progress,
    ) -> Result<Self> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &str| -> Result<Option<String>> {
            get(name)
                .map(|value| {
                    value.into_string().map_err(|_| {
                        Error::usage(name, "is not UTF-8").remedy("set it again or unset it")
                    })
                })
                .transpose()
        };
        let cache_home = get("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
            get("HOME")
                .or_else(|| get("USERPROFILE"))
                .map(|home| PathBuf::from(home).join(".cache"))
        });
        let home = get("HF_HOME")
            .map(PathBuf::from)
            .or_else(|| cache_home.map(|cache| cache.join("huggingface")));
        let cache_dir = get("HF_HUB_CACHE")
            .or_else(|| get("HUGGINGFACE_HUB_CACHE"))
            .map(PathBuf::from)
            .or_else(|| home.as_ref().map(|home| home.join("hub")))
            .ok_or_else(|| {
                Error::usage(
                    "HF_HOME",
                    "no folder for downloads: neither it nor HOME is set",
                )
                .remedy("set HF_HOME to a folder with space for models")
            })?;
        let token = match text("HF_TOKEN")?.or(text("HUGGING_FACE_HUB_TOKEN")?) {
            Some(token) => Some(token),
            None => match (get("HF_TOKEN_PATH"), &home) {
                (Some(path), _) => saved_token(Path::new(&path)),
                (None, Some(home)) => saved_token(&home.join("token")),
                (None, None) => None,
            },
        };
        Self {
            endpoint: text("HF_ENDPOINT")?.unwrap_or_else(|| ENDPOINT.into()),
            cache_dir,
            token: token
                .map(|token| token.trim().to_owned())
                .filter(|token| !token.is_empty()),
            offline: is_on(text("HF_HUB_OFFLINE")?) || is_on(text("TRANSFORMERS_OFFLINE")?),
            progress,
            retries: 4,
            pause: Duration::from_millis(500),
            patience: Duration::from_secs(60),
        }
        .checked()
    }

    /// Settings that can be used, or what is wrong with them.
    pub(super) fn checked(mut self) -> Result<Self> {
        self.endpoint = self.endpoint.trim().trim_end_matches('/').to_owned();
        let host = self
            .endpoint
            .strip_prefix("https://")
            .or_else(|| self.endpoint.strip_prefix("http://"));
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@');
        if !host.is_some_and(|host| !host.is_empty() && host.chars().all(plain)) {
            // A user or a query may be a secret.
            let shown = match self.endpoint.contains(['@', '?', '#']) {
                true => "an address with a user or a query is none that is used here".to_owned(),
                false => format!("{:?} is no address", self.endpoint),
            };
            return Err(Error::usage("HF_ENDPOINT", shown)
                .remedy(format!("unset it or give one such as {ENDPOINT}")));
        }
        // It becomes a header; the value itself is not shown.
        if self
            .token
            .as_ref()
            .is_some_and(|token| !token.chars().all(|c| c.is_ascii_graphic()))
        {
            return Err(
                Error::usage("HF_TOKEN", "holds characters that no token has")
                    .remedy("copy the token again"),
            );
        }
        Ok(self)
    }
}

/// What `hf auth login` has stored; a missing file is no login.
fn saved_token(path: &Path) -> Option<String> {
    files::read_text(path, files::DESCRIPTION).ok()
}

/// The values that Python's library takes for yes.
fn is_on(value: Option<String>) -> bool {
    value.is_some_and(|value| {
        matches!(
            value.to_ascii_uppercase().as_str(),
            "1" | "ON" | "YES" | "TRUE"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Settings> {
        let lookup = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        Settings::from_lookup(&lookup, Progress::silent())
    }

    #[test]
    fn cache_folders_in_the_order_of_huggingface_hub() {
        let dir = |variables: &[(&str, &str)]| of(variables).expect("valid").cache_dir;
        let mut variables = vec![("HOME", "/h")];
        for (name, value, expected) in [
            ("X", "", "/h/.cache/huggingface/hub"),
            ("XDG_CACHE_HOME", "/x", "/x/huggingface/hub"),
            ("HF_HOME", "/hf", "/hf/hub"),
            ("HUGGINGFACE_HUB_CACHE", "/old", "/old"),
            ("HF_HUB_CACHE", "/new", "/new"),
        ] {
            variables.push((name, value));
            assert_eq!(dir(&variables), Path::new(expected));
        }
        assert!(of(&[]).is_err());
    }

    #[test]
    fn token_from_variables_then_files_and_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("token"), "saved\n").expect("written");
        std::fs::write(folder.path().join("other"), "elsewhere").expect("written");
        let home = folder.path().to_str().expect("UTF-8").to_owned();
        let other = format!("{home}/other");
        let mut variables = vec![("HF_HOME", home.as_str())];
        for (name, value, expected) in [
            ("X", "", "saved"),
            ("HF_TOKEN_PATH", other.as_str(), "elsewhere"),
            ("HUGGING_FACE_HUB_TOKEN", "older", "older"),
            ("HF_TOKEN", "hf_secret", "hf_secret"),
        ] {
            variables.push((name, value));
            let settings = of(&variables).expect("valid");
            assert_eq!(settings.token.as_deref(), Some(expected));
            assert!(!format!("{settings:?}").contains(expected));
        }
        let error = of(&[("HF_HOME", "/x"), ("HF_TOKEN", "two words")]).expect_err("refused");
        assert!(!error.to_string().contains("words"), "{error}");
    }

    #[test]
    fn endpoint_and_offline() {
        let settings = of(&[("HF_HOME", "/x"), ("HF_ENDPOINT", "http://127.0.0.1:80/")]);
        assert_eq!(settings.expect("valid").endpoint, "http://127.0.0.1:80");
        for bad in [
            "mirror",
            "ftp://a",
            "https://",
            "https://a b",
            "http://u:secret@h",
            "http://h/?t=secret",
        ] {
            let refused = of(&[("HF_HOME", "/x"), ("HF_ENDPOINT", bad)]).expect_err(bad);
            assert!(!refused.to_string().contains("secret"), "{refused}");
        }
        for (value, offline) in [("1", true), ("true", true), ("0", false), ("", false)] {
            let settings = of(&[("HF_HOME", "/x"), ("HF_HUB_OFFLINE", value)]);
            assert_eq!(settings.expect("valid").offline, offline, "{value}");
        }
    }
}
