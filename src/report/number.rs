//! Numbers as people read them.

/// Four significant digits, no exponent in the usual range.
pub fn significant(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.3e}");
    if !(1e-4..1e7).contains(&magnitude) {
        return scientific;
    }
    // The exponent after rounding: 0.0099999 shows as 0.01000.
    let exponent = scientific
        .rsplit_once('e')
        .and_then(|(_, power)| power.parse::<i32>().ok());
    let digits = (3 - exponent.unwrap_or(0)).max(0) as usize;
    format!("{value:.digits$}")
}

/// `1, 2, 9`.
pub fn listed<'a>(numbers: impl IntoIterator<Item = &'a usize>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(usize::to_string).collect();
    numbers.join(", ")
}

/// `2-5, 9`, of numbers in ascending order; a dash for none.
pub fn ranges(sorted: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &value in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == value => *last = value,
            _ => runs.push((value, value)),
        }
    }
    if runs.is_empty() {
        return "-".to_owned();
    }
    let texts = runs.into_iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_digits() {
        for (value, text) in [
            (0.0, "0"),
            (2412.7, "2413"),
            (123_456.0, "123456"),
            (0.012_345, "0.01235"),
            (1.0, "1.000"),
            (0.009_999_97, "0.01000"),
            (-999.96, "-1000"),
            (1e-7, "1.000e-7"),
        ] {
            assert_eq!(significant(value), text);
        }
    }

    #[test]
    fn lists_and_ranges() {
        assert_eq!(listed(&[]), "");
        assert_eq!(listed(&[3, 1]), "3, 1");
        assert_eq!(ranges(&[]), "-");
        assert_eq!(ranges(&[3]), "3");
        assert_eq!(ranges(&[2, 3, 4, 7, 9, 10]), "2-4, 7, 9-10");
    }
}
