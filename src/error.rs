//! The one error type: what failed, why, and what to do about it.
//!
//! Messages read `{subject}: {reason}; {remedy}` on a single line, so that they survive being
//! piped into a log. The kind decides the process's exit code.

use std::{fmt, io, path::Path};

use crate::{
    nearest::{nearest, nearest_path},
    visible::shortened,
};

/// Result with massact's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command ended early; maps to the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The work failed (exit code 1).
    Failed,
    /// Nothing has the name that was given (exit code 1); another may have been meant.
    Absent,
    /// The command line or its combination of arguments is wrong (exit code 2).
    Usage,
    /// A device has no memory left for it (exit code 1); the same work in smaller parts may fit.
    OutOfMemory,
    /// It needed more than was known before (exit code 1); what failed knows now, and the same work again may succeed.
    Again,
    /// Ctrl-C or SIGTERM (exit code 3); nothing partial is left behind.
    Interrupted,
}

/// A failure that names the thing, the reason and, where there is one, the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
    remedy: Option<String>,
}

impl Error {
    /// The work on `subject` (a file, a tensor, a layer) failed because of `reason`.
    pub fn new(subject: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Failed,
            message: one_line(&format!("{subject}: {reason}")),
            remedy: None,
        }
    }

    /// A file or folder that is to be read cannot be.
    pub fn unread(path: &Path, error: io::Error) -> Self {
        Self::new(path.display(), error)
            .remedy("check that it is there, that you may read it, and that its disk is sound")
            .meant_path(path)
    }

    /// There is nothing of the name `subject`.
    pub fn absent(subject: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Absent,
            ..Self::new(subject, reason)
        }
    }

    /// The arguments are wrong: `subject` is usually the flag.
    pub fn usage(subject: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Usage,
            ..Self::new(subject, reason)
        }
    }

    /// A device has no memory left for `subject`.
    pub fn out_of_memory(subject: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self {
            kind: Kind::OutOfMemory,
            ..Self::new(subject, reason)
        }
    }

    /// The work on `subject` failed for want of something that is there next time.
    pub fn again(subject: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Again,
            ..Self::new(subject, reason)
        }
    }

    /// The user asked to stop.
    pub fn interrupted() -> Self {
        Self {
            kind: Kind::Interrupted,
            message: "interrupted".into(),
            remedy: None,
        }
    }

    /// Adds what the reader can do about it, as a clause without a final full stop.
    #[must_use]
    pub fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(one_line(&remedy.to_string()));
        self
    }

    /// Adds another remedy to the one that is there.
    #[must_use]
    pub fn or(self, other: impl fmt::Display) -> Self {
        match self.remedy.clone() {
            Some(remedy) => self.remedy(format!("{remedy}; or {other}")),
            None => self.remedy(other),
        }
    }

    /// Asks whether the nearest of the known names was meant, if one is near.
    #[must_use]
    pub(crate) fn meant<'k>(self, name: &str, known: impl IntoIterator<Item = &'k str>) -> Self {
        match nearest(name, known) {
            Some(known) => self.asking(known),
            None => self,
        }
    }

    /// Asks whether the nearest path that is there was meant, if this one is not.
    #[must_use]
    pub(crate) fn meant_path(self, path: &Path) -> Self {
        match nearest_path(path) {
            Some(known) => self.asking(known.display()),
            None => self,
        }
    }

    fn asking(self, known: impl fmt::Display) -> Self {
        if self.kind == Kind::Interrupted {
            return self;
        }
        let question = format!("did you mean `{known}`?");
        match self.remedy.clone() {
            Some(remedy) => self.remedy(format!("{question} else {remedy}")),
            None => self.remedy(question),
        }
    }

    /// With another remedy, made from the one it has.
    #[must_use]
    pub fn map_remedy(mut self, change: impl FnOnce(&str) -> String) -> Self {
        self.remedy = self.remedy.map(|remedy| one_line(&change(&remedy)));
        self
    }

    /// With another subject and remedy, if `subject` is the one it has.
    #[must_use]
    pub(crate) fn instead_of(mut self, subject: &str, other: &str, remedy: &str) -> Self {
        let rest = self.message.strip_prefix(subject);
        if let Some(rest) = rest.filter(|rest| rest.starts_with(": ")) {
            self.message = format!("{other}{rest}");
            self.remedy = Some(remedy.to_owned());
        }
        self
    }

    /// Says of what larger thing `subject` is a part.
    #[must_use]
    pub fn within(mut self, whole: impl fmt::Display) -> Self {
        if self.kind == Kind::Interrupted {
            // It is nobody's fault.
            return self;
        }
        if self.message.starts_with(&format!("{whole}: ")) {
            return self;
        }
        self.message = one_line(&format!("{whole}: {}", self.message));
        self
    }

    /// Why the command ends.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the same work in smaller parts may fit.
    pub fn is_out_of_memory(&self) -> bool {
        self.kind == Kind::OutOfMemory
    }

    /// Whether the same work again may succeed.
    pub fn is_worth_repeating(&self) -> bool {
        self.kind == Kind::Again
    }

    /// 1 failed, 2 usage, 3 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed | Kind::Absent | Kind::OutOfMemory | Kind::Again => 1,
            Kind::Usage => 2,
            Kind::Interrupted => 3,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// Bytes of a message: it may quote a foreign file, whose words have no limit.
const LONGEST: usize = 2000;

/// Messages of libraries may span lines; ours never do. One that is too long loses its middle.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    shortened(&line, LONGEST).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(reason: &str) -> Error {
        Error::new("a", reason).remedy("x")
    }

    #[test]
    fn reads_as_one_line_with_remedy() {
        let error = Error::new("config.json", "bad\n  thing").remedy("fix it");
        assert_eq!(error.to_string(), "config.json: bad thing; fix it");
        assert_eq!(error.exit_code(), 1);
        assert_eq!(
            error.or("leave it").to_string(),
            "config.json: bad thing; fix it; or leave it"
        );
        assert_eq!(Error::new("a", "b").or("c").to_string(), "a: b; c");
        let renamed = error_of("b").instead_of("a", "c", "d");
        assert_eq!(renamed.within("c").to_string(), "c: b; d");
        assert_eq!(
            error_of("b").instead_of("", "c", "d").to_string(),
            "a: b; x"
        );
        assert_eq!(
            error_of("b").within("z").within("z").to_string(),
            "z: a: b; x"
        );
        let long = Error::new("config.json", "é".repeat(99_999) + "end").remedy("x".repeat(99_999));
        let said = long.within("folder").to_string();
        assert!(said.len() < 4200, "{}", said.len());
        assert!(said.starts_with("folder: config.json: éé"), "{said}");
        assert!(said.contains("ééend; xx"), "{said}");
        let unknown = Error::usage("--site", "no such site").remedy("choose from q, mlp");
        let asked = unknown.clone().meant("nlp", ["q", "mlp"]).to_string();
        assert_eq!(
            asked,
            "--site: no such site; did you mean `mlp`? else choose from q, mlp"
        );
        assert_eq!(unknown.clone().meant("router", ["q", "mlp"]), unknown);
        assert_eq!(Error::absent("a", "b").exit_code(), 1);
        assert_eq!(Error::usage("--seed", "x").exit_code(), 2);
        assert_eq!(Error::interrupted().exit_code(), 3);
    }
}
