//! How much memory a command may take.

use std::{fs, path::Path, str::FromStr};

/// Without `--memory-budget`, the share of the available memory that a command takes.
const SHARE: f64 = 0.8;

/// The budget where the system does not tell what is available.
const UNKNOWN: u64 = 4_000_000_000;

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

/// The budget: as asked for, or a share of what is available.
pub(super) fn budget(asked: Option<Bytes>, available: Option<u64>) -> u64 {
    let automatic = || match available {
        Some(bytes) => (bytes as f64 * SHARE) as u64,
        None => UNKNOWN,
    };
    asked.map_or_else(automatic, |bytes| bytes.0)
}

/// Memory that can be had without swapping: the system's, within the control group's limit. Linux
/// only.
pub(super) fn available() -> Option<u64> {
    let system = system_available(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let group = Path::new("/sys/fs/cgroup");
    let read = |name: &str| fs::read_to_string(group.join(name)).ok();
    let limited = || {
        let limit = read("memory.max")?.trim().parse().ok()?;
        let used = read("memory.current")?.trim().parse().ok()?;
        Some(group_available(limit, used, &read("memory.stat")?))
    };
    Some(limited().map_or(system, |group: u64| group.min(system)))
}

fn system_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// What a control group has left; its page cache, which it counts as used, can be dropped.
fn group_available(limit: u64, used: u64, stat: &str) -> u64 {
    let cache: u64 = stat
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| matches!(*name, "inactive_file" | "active_file"))
        .filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok())
        .sum();
    limit.saturating_sub(used.saturating_sub(cache))
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

    #[test]
    fn what_is_available() {
        let meminfo = "MemTotal:       24 kB\nMemFree: 1 kB\nMemAvailable:       12 kB\n";
        assert_eq!(system_available(meminfo), Some(12 * 1024));
        assert_eq!(system_available("MemTotal: 24 kB\n"), None);
        let stat = "anon 600\nactive_file 100\ninactive_file 200\nfile 300\n";
        assert_eq!(group_available(1000, 900, stat), 400);
        assert_eq!(group_available(500, 900, "anon 900\n"), 0);
    }
}
