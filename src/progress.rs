//! Progress on stderr: stdout belongs to data. A terminal shows a bar; where there is none, such as in
//! the log of a cluster's job, a line now and then says what is being done, how far, and what is left.

mod lines;

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, IsTerminal, Write as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use self::lines::{Standing, Unit};
use crate::visible::visible;

/// One line on stderr, in which what foreign files and arguments brought cannot steer a terminal. Where nobody can read it, because the disk under it is full or the pipe closed, it is
/// lost, and the work goes on.
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "massact: {}", visible(&line.to_string()));
}

/// Where progress and notices go. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    shown: Shown,
    notices: bool,
    /// Since when; the first line comes a while later.
    since: Instant,
    /// What all of it is about: `[2/5] gpt2`.
    prefix: Option<&'static str>,
    part: Option<Part>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Bars,
    Lines,
    Nothing,
}

/// Which of several walks through a model one is, and since when they go on: from both follows what is
/// left.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Walks that are complete.
    pub done: usize,
    /// All, as far as is known.
    pub of: usize,
    /// When the first began.
    pub since: Instant,
}

impl Part {
    /// What is left if everything goes on as it did, when a share of this walk is done.
    fn left(&self, share: f64, now: Instant) -> Option<Duration> {
        let done = (self.done as f64 + share) / self.of.max(self.done + 1) as f64;
        left(now.saturating_duration_since(self.since), done)
    }
}

/// What is left of work of which a share took `elapsed`.
fn left(elapsed: Duration, share: f64) -> Option<Duration> {
    let seconds = elapsed.as_secs_f64() * (1.0 - share) / share;
    (share > 0.0)
        .then(|| Duration::try_from_secs_f64(seconds).ok())
        .flatten()
}

impl Progress {
    /// A bar when stderr is a terminal, else lines; with `quiet` neither these nor notices.
    pub fn new(quiet: bool) -> Self {
        Self {
            shown: match quiet {
                true => Shown::Nothing,
                false if std::io::stderr().is_terminal() => Shown::Bars,
                false => Shown::Lines,
            },
            notices: !quiet,
            since: Instant::now(),
            prefix: None,
            part: None,
        }
    }

    /// Shows nothing; for tests and library use.
    pub fn silent() -> Self {
        Self {
            shown: Shown::Nothing,
            ..Self::new(true)
        }
    }

    /// The same, with `prefix` before everything but notices: `[2/5] gpt2`.
    #[must_use]
    pub fn within(self, prefix: &str) -> Self {
        Self {
            prefix: Some(kept(prefix)),
            ..self
        }
    }

    /// As [`Progress::within`], unless there is a prefix already.
    #[must_use]
    pub fn about(self, name: &str) -> Self {
        match self.prefix {
            Some(_) => self,
            None => self.within(name),
        }
    }

    /// The same without notices: for one of many runs, whose notices nobody could tell apart.
    #[must_use]
    pub fn without_notices(self) -> Self {
        Self {
            notices: false,
            ..self
        }
    }

    /// The same for one of several walks.
    #[must_use]
    pub fn of_walk(self, part: Part) -> Self {
        Self {
            part: Some(part),
            ..self
        }
    }

    /// `total` steps through the layers of a model: of a walk.
    pub fn walk(&self, total: u64) -> Bar {
        self.bar("layers", Unit::Steps, total, self.part)
    }

    /// `total` steps named `what`.
    pub fn steps(&self, what: &str, total: u64) -> Bar {
        self.bar(what, Unit::Steps, total, None)
    }

    /// `total` bytes named `what`.
    pub fn bytes(&self, what: &str, total: u64) -> Bar {
        self.bar(what, Unit::Bytes, total, None)
    }

    /// One line on stderr about something the user should know but need not act on.
    pub fn notice(&self, text: &str) {
        if self.notices {
            say(text);
        }
    }

    fn bar(&self, what: &str, unit: Unit, total: u64, part: Option<Part>) -> Bar {
        let target = match self.shown {
            Shown::Bars => ProgressDrawTarget::stderr(),
            Shown::Lines | Shown::Nothing => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = match unit {
            Unit::Steps => "{msg} {wide_bar:.cyan/dim} {pos}/{len} {left}",
            Unit::Bytes => {
                "{msg} {wide_bar:.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec} {left}"
            }
        };
        let standing = Standing {
            prefix: self.prefix,
            what: what.to_owned(),
            unit,
            part,
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            let left = move |state: &ProgressState, out: &mut dyn fmt::Write| {
                let left = match part {
                    Some(part) => part.left(f64::from(state.fraction()), Instant::now()),
                    None => Some(state.eta()),
                };
                if let Some(left) = left {
                    // A bar that cannot be drawn is no reason to stop.
                    let _ = write!(out, "{:#} left", HumanDuration(left));
                }
            };
            bar.set_style(style.with_key("left", left));
        }
        bar.set_message(visible(&standing.title()).into_owned());
        Bar {
            bar,
            since: Instant::now(),
            lines: (self.shown == Shown::Lines).then_some((standing, self.since)),
        }
    }
}

/// Something under way.
#[derive(Debug)]
pub struct Bar {
    /// Counts, and draws on a terminal.
    bar: ProgressBar,
    since: Instant,
    /// What is said in lines, and since when the program runs.
    lines: Option<(Standing, Instant)>,
}

impl Bar {
    /// `count` more are done.
    pub fn inc(&self, count: u64) {
        self.bar.inc(count);
        if let Some((standing, program)) = &self.lines {
            let now = Instant::now();
            if lines::due(*program, now) {
                let (position, length) = (self.bar.position(), self.bar.length().unwrap_or(0));
                let line = standing.line(position, length, self.since, now);
                say(line);
            }
        }
    }

    /// How many there are turned out to be another number.
    pub fn set_length(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// How many are done.
    pub fn position(&self) -> u64 {
        self.bar.position()
    }

    /// So many are done.
    pub fn set_position(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// It is over.
    pub fn finish_and_clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A prefix for the rest of the process, so that [`Progress`] can be copied. There is one a checkpoint,
/// and equal ones are kept once.
fn kept(prefix: &str) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut all = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    match all.get(prefix) {
        Some(known) => known,
        None => {
            let new: &'static str = Box::leak(prefix.to_owned().into_boxed_str());
            all.insert(new);
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_all_walks_is_estimated() {
        let since = Instant::now();
        let part = |done, of| Part { done, of, since };
        let minute = since + Duration::from_secs(60);
        let seconds = |part: Part, share| part.left(share, minute).map(|left| left.as_secs());
        // One walk and a half of four took a minute.
        assert_eq!(seconds(part(1, 4), 0.5), Some(100));
        assert_eq!(seconds(part(0, 1), 0.25), Some(180));
        assert_eq!(seconds(part(0, 2), 0.0), None);
        // A walk more than was known of.
        assert_eq!(seconds(part(2, 2), 1.0), Some(0));
    }

    #[test]
    fn a_prefix_is_kept_once_and_first() {
        let progress = Progress::silent().within("[1/2] a");
        let again = Progress::silent().within("[1/2] a");
        let (one, two) = (progress.prefix.expect("set"), again.prefix.expect("set"));
        assert!(std::ptr::eq(one, two));
        assert_eq!(progress.about("b").prefix, Some("[1/2] a"));
        assert_eq!(Progress::silent().about("b").prefix, Some("b"));
    }
}
