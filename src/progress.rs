//! Progress on stderr, and only when stderr is a terminal: stdout belongs to data.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Where progress and notices go. Cheap to clone.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    bars: bool,
    notices: bool,
}

impl Progress {
    /// Bars when stderr is a terminal; with `quiet` neither bars nor notices.
    pub fn new(quiet: bool) -> Self {
        Self {
            bars: !quiet && std::io::stderr().is_terminal(),
            notices: !quiet,
        }
    }

    /// Shows nothing; for tests and library use.
    pub fn silent() -> Self {
        Self {
            bars: false,
            notices: false,
        }
    }

    /// A bar of `total` steps named `what`.
    pub fn steps(&self, what: &str, total: u64) -> ProgressBar {
        self.bar(
            what,
            total,
            "{msg:<24} {wide_bar:.cyan/dim} {pos}/{len} {eta}",
        )
    }

    /// A bar of `total` bytes named `what`.
    pub fn bytes(&self, what: &str, total: u64) -> ProgressBar {
        self.bar(
            what,
            total,
            "{msg:<24} {wide_bar:.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        )
    }

    /// One line on stderr about something the user should know but need not act on.
    pub fn notice(&self, text: &str) {
        if self.notices {
            eprintln!("massact: {text}");
        }
    }

    fn bar(&self, what: &str, total: u64, template: &str) -> ProgressBar {
        let target = if self.bars {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar
    }
}
