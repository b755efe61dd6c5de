//! Lines of a manifest, counted from 0: `3`, `3,4,5`, `0-2,7`.
#![forbid(unsafe_code)]

use std::{fmt, str::FromStr};

use crate::error::{Error, Result};

/// Some tasks, by their places in the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indices(
    /// First and last of each range; ascending, and never adjacent.
    Vec<(usize, usize)>,
);

impl Indices {
    /// The indices, each once and in order; all must be below `count`.
    pub fn below(&self, count: usize) -> Result<Vec<usize>> {
        if let Some((_, last)) = self.0.last()
            && *last >= count
        {
            return Err(Error::usage(
                format!("--index {self}"),
                format!("the manifest has {count} tasks"),
            )
            .remedy("counting begins with 0"));
        }
        let ranges = self.0.iter();
        Ok(ranges.flat_map(|(first, last)| *first..=*last).collect())
    }

    fn of_ranges(mut ranges: Vec<(usize, usize)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

impl FromIterator<usize> for Indices {
    fn from_iter<T: IntoIterator<Item = usize>>(indices: T) -> Self {
        let indices = indices.into_iter();
        Self::of_ranges(indices.map(|index| (index, index)).collect())
    }
}

impl FromStr for Indices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (range.0 <= range.1).then_some(range)
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        ranges
            .map(Self::of_ranges)
            .ok_or_else(|| "expected numbers and ranges, such as 3 or 0-2,7".to_owned())
    }
}

impl fmt::Display for Indices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_each_once_and_in_order() {
        for (text, shown, indices) in [
            ("3", "3", vec![3]),
            ("5,3,4", "3-5", vec![3, 4, 5]),
            ("7, 0-2,1", "0-2,7", vec![0, 1, 2, 7]),
            ("4-4", "4", vec![4]),
        ] {
            let parsed: Indices = text.parse().expect(text);
            assert_eq!(parsed.to_string(), shown);
            assert_eq!(parsed.below(8).expect(text), indices);
            assert_eq!(indices.into_iter().collect::<Indices>(), parsed);
        }
    }

    #[test]
    fn what_is_no_list_or_beyond_the_manifest_is_refused() {
        for text in ["", "a", "-1", "1-", "2-1", "1,,2", "1-2-3", "0x1"] {
            assert!(text.parse::<Indices>().is_err(), "{text:?}");
        }
        let all: Indices = format!("0-{}", usize::MAX).parse().expect("a range");
        let error = all.below(8).expect_err("beyond");
        assert_eq!(error.exit_code(), 2);
    }
}
