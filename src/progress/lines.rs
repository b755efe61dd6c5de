//! Progress as lines, for logs.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanDuration};

use super::{Part, left};

/// What takes less says nothing; the same between lines.
const PACE: Duration = Duration::from_secs(30);

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Steps,
    Bytes,
}

/// What is under way.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) prefix: Option<&'static str>,
    pub(super) what: String,
    pub(super) unit: Unit,
    pub(super) part: Option<Part>,
}

impl Standing {
    /// What is under way, in short: `[2/5] gpt2: walk 1 of 3: layers`.
    pub(super) fn title(&self) -> String {
        let prefix = self.prefix.map(|prefix| format!("{prefix}: "));
        let part = self.part.filter(|part| part.of > 1);
        let part = part.map(|part| {
            let number = part.done + 1;
            format!("walk {number} of {}: ", part.of.max(number))
        });
        let (prefix, part) = (prefix.unwrap_or_default(), part.unwrap_or_default());
        format!("{prefix}{part}{}", self.what)
    }

    /// The line: `[2/5] gpt2: walk 1 of 3: layers 12 of 30, about 3 minutes left`.
    pub(super) fn line(&self, position: u64, length: u64, since: Instant, now: Instant) -> String {
        let count = |count: u64| match self.unit {
            Unit::Steps => count.to_string(),
            Unit::Bytes => HumanBytes(count).to_string(),
        };
        let mut text = format!("{} {} of {}", self.title(), count(position), count(length));
        let share = position as f64 / length.max(1) as f64;
        let left = match &self.part {
            Some(part) => part.left(share, now),
            None => left(now.saturating_duration_since(since), share),
        };
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            text.push_str(&format!(", about {} left", HumanDuration(left)));
        }
        text
    }
}

/// Whether it is time for a line of a program that began at `since`; then it has been said.
pub(super) fn due(since: Instant, now: Instant) -> bool {
    // One pace for the whole process, whatever goes on side by side.
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let due = is_due(since, *last, now);
    if due {
        *last = Some(now);
    }
    due
}

fn is_due(since: Instant, last: Option<Instant>, now: Instant) -> bool {
    let next = last.unwrap_or(since).checked_add(PACE);
    next.is_some_and(|next| now >= next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_every_half_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut said = Vec::new();
        let mut last = None;
        for second in 0..=200 {
            if is_due(start, last, at(second)) {
                last = Some(at(second));
                said.push(second);
            }
        }
        assert_eq!(said, [30, 60, 90, 120, 150, 180]);
    }

    #[test]
    fn a_line_says_what_how_far_and_what_is_left() {
        let start = Instant::now();
        let now = start + Duration::from_secs(60);
        let part = |done, of| Part {
            done,
            of,
            since: start,
        };
        let standing = |part| Standing {
            prefix: Some("[2/5] gpt2"),
            what: "layers".to_owned(),
            unit: Unit::Steps,
            part,
        };
        let line = |part| standing(part).line(15, 30, start, now);
        assert_eq!(
            line(Some(part(0, 2))),
            "[2/5] gpt2: walk 1 of 2: layers 15 of 30, about 3 minutes left"
        );
        assert_eq!(
            line(Some(part(0, 1))),
            "[2/5] gpt2: layers 15 of 30, about 60 seconds left"
        );
        let bytes = Standing {
            prefix: None,
            what: "model.safetensors".to_owned(),
            unit: Unit::Bytes,
            part: None,
        };
        assert_eq!(
            bytes.line(1 << 30, 4 << 30, start, now),
            "model.safetensors 1.00 GiB of 4.00 GiB, about 3 minutes left"
        );
        assert_eq!(
            bytes.line(0, 0, start, start),
            "model.safetensors 0 B of 0 B"
        );
    }
}
