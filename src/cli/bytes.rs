//! Sizes of memory as people write them.

use std::str::FromStr;

/// Below this a number without a unit is a slip.
const SMALLEST: f64 = 1024.0;

/// A number of bytes as people write it: `8GB`, `512 MiB`, `1.5e9`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a size such as 8GB, 512MiB or 4000000000".to_owned();
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        let (number, unit) = [
            ("kib", 1024.0),
            ("mib", 1024.0 * 1024.0),
            ("gib", 1024.0 * 1024.0 * 1024.0),
            ("kb", 1e3),
            ("mb", 1e6),
            ("gb", 1e9),
            ("b", 1.0),
        ]
        .into_iter()
        .find_map(|(unit, factor)| Some((lower.strip_suffix(unit)?, factor)))
        .unwrap_or((&lower, 1.0));
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let bytes = number * unit;
        // Nobody means eight bytes.
        if lower.ends_with(|last: char| last.is_ascii_digit()) && bytes < SMALLEST {
            return Err(format!(
                "{text} bytes are too few: give a unit, as in {text}GB"
            ));
        }
        if bytes.is_finite() && bytes >= 1.0 {
            Ok(Self(bytes as u64))
        } else {
            Err(wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("8GB", 8_000_000_000),
            ("512 MiB", 512 << 20),
            ("1.5e9", 1_500_000_000),
            ("4096", 4096),
            ("2gib", 2 << 30),
            ("64kb", 64_000),
            ("7 B", 7),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for bad in [
            "", "GB", "8", "1e2", "-1", "0", "nan", "inf", "1 TBB", "4 apples",
        ] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }
}
