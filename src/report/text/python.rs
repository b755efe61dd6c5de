//! Python's `repr` of floats, strings and containers.

use std::fmt::{Display, Write};

use unicode_general_category::{GeneralCategory, get_general_category};

/// `repr(float)`: the shortest digits that read back as the same number.
///
/// ```
/// use massact::report::text::python_float;
/// assert_eq!(python_float(2400.0), "2400.0");
/// assert_eq!(python_float(1e-5), "1e-05");
/// assert_eq!(python_float(f64::INFINITY), "inf");
/// ```
pub fn python_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    let scientific = shortest(value);
    let Some((digits, exponent)) = scientific
        .split_once('e')
        .and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?)))
    else {
        return scientific;
    };
    // Python changes notation outside 1e-4 ..= 1e16.
    if (-4..16).contains(&exponent) {
        plain(digits, exponent)
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
    }
}

/// The shortest digits that read back as the same number, in scientific notation. Where two of that
/// length are equally near, which a float32 widened to float64 often meets, Python takes the even
/// one and Rust's own shortest form does not; its rounding to a given length does.
fn shortest(value: f64) -> String {
    let shortest = format!("{value:e}");
    let mantissa = shortest.split('e').next().unwrap_or(&shortest);
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let rounded = format!("{value:.*e}", digits.saturating_sub(1));
    match rounded.parse::<f64>() {
        Ok(same) if same == value => rounded,
        _ => shortest,
    }
}

/// Scientific digits in plain notation, with at least one decimal.
fn plain(digits: &str, exponent: i32) -> String {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let mut digits = digits.replace('.', "");
    let before = exponent + 1;
    if before <= 0 {
        let zeros = "0".repeat(before.unsigned_abs() as usize);
        return format!("{sign}0.{zeros}{digits}");
    }
    let before = before as usize;
    while digits.len() <= before {
        digits.push('0');
    }
    digits.insert(before, '.');
    sign.to_owned() + &digits
}

/// `repr(str)`: single quotes unless the text holds one and no double quote; what does not print is
/// escaped.
pub fn python_str_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut repr = String::with_capacity(text.len() + 2);
    repr.push(quote);
    for c in text.chars() {
        match c {
            '\\' => repr.push_str("\\\\"),
            '\n' => repr.push_str("\\n"),
            '\r' => repr.push_str("\\r"),
            '\t' => repr.push_str("\\t"),
            c if c == quote => repr.extend(['\\', c]),
            c if is_printable(c) => repr.push(c),
            c => {
                let code = u32::from(c);
                // Writing into a String cannot fail.
                let _ = match code {
                    0..=0xff => write!(repr, "\\x{code:02x}"),
                    0x100..=0xffff => write!(repr, "\\u{code:04x}"),
                    _ => write!(repr, "\\U{code:08x}"),
                };
            }
        }
    }
    repr.push(quote);
    repr
}

/// `str.isprintable` for one character.
fn is_printable(c: char) -> bool {
    use GeneralCategory as G;
    c == ' '
        || !matches!(
            get_general_category(c),
            G::Control
                | G::Format
                | G::Surrogate
                | G::PrivateUse
                | G::Unassigned
                | G::LineSeparator
                | G::ParagraphSeparator
                | G::SpaceSeparator
        )
}

/// `[a, b]` of items that are formatted already.
pub(super) fn python_list(items: impl IntoIterator<Item = impl Display>) -> String {
    format!("[{}]", joined(items))
}

/// `{a, b}`, or `set()` when empty, of items that are formatted already.
pub(super) fn python_set(items: impl IntoIterator<Item = impl Display>) -> String {
    let items = joined(items);
    if items.is_empty() {
        "set()".into()
    } else {
        format!("{{{items}}}")
    }
}

/// `{k: v}` of pairs that are formatted already.
pub(super) fn python_dict<K: Display, V: Display>(
    pairs: impl IntoIterator<Item = (K, V)>,
) -> String {
    let pairs = pairs
        .into_iter()
        .map(|(key, value)| format!("{key}: {value}"));
    format!("{{{}}}", joined(pairs))
}

fn joined(items: impl IntoIterator<Item = impl Display>) -> String {
    let mut text = String::new();
    for (i, item) in items.into_iter().enumerate() {
        let separator = if i > 0 { ", " } else { "" };
        let _ = write!(text, "{separator}{item}");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Left: what CPython 3.11 prints for the number on the right.
    #[test]
    fn floats_as_cpython_prints_them() {
        for (text, value) in [
            ("0.0", 0.0),
            ("-0.0", -0.0),
            ("2400.0", 2400.0),
            ("1536.1234130859375", f64::from(1_536.123_4_f32)),
            ("5.1327223777771", f64::from(5.132_722_4_f32)),
            // Half-way between two numbers of 16 digits: the even one.
            ("690.7546997070312", f64::from(690.754_7_f32)),
            ("789.3075561523438", f64::from(789.307_56_f32)),
            ("-792.6292114257812", f64::from(-792.629_2_f32)),
            ("100.0", 100.0),
            ("1234567890123456.0", 1_234_567_890_123_456.0),
            ("0.00012345", 0.000_123_45),
            ("0.1", 0.1),
            ("0.0001", 0.0001),
            ("1e-05", 0.00001),
            ("1.5e-05", 0.000015),
            ("9999999999999998.0", 9_999_999_999_999_998.0),
            ("1e+16", 1e16),
            ("1.2345e+22", 1.2345e22),
            ("1e+100", 1e100),
            ("5e-324", f64::from_bits(1)),
            ("1.7976931348623157e+308", f64::MAX),
            ("-42.452797316549116", -42.452797316549116),
            ("inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("nan", f64::NAN),
        ] {
            assert_eq!(python_float(value), text);
        }
    }

    #[test]
    fn strings_as_cpython_prints_them() {
        for (repr, text) in [
            ("'<s>'", "<s>"),
            ("''", ""),
            ("\"it's\"", "it's"),
            ("'say \"hi\"'", "say \"hi\""),
            ("'it\\'s \"so\"'", "it's \"so\""),
            ("'\\\\'", "\\"),
            ("'\\n\\r\\t'", "\n\r\t"),
            (
                "'\\x00\\x1b\\x7f\\x85\\xa0\\xad'",
                "\0\u{1b}\u{7f}\u{85}\u{a0}\u{ad}",
            ),
            ("'é ▁Ġ 模 🙂'", "é ▁Ġ 模 🙂"),
            (
                "'\\u200b\\u2028\\u3000\\ue000\\ufeff'",
                "\u{200b}\u{2028}\u{3000}\u{e000}\u{feff}",
            ),
            ("'\\U000e0001\\U0010ffff'", "\u{e0001}\u{10ffff}"),
            ("'e\u{301}'", "e\u{301}"),
        ] {
            assert_eq!(python_str_repr(text), repr);
        }
    }

    #[test]
    fn containers() {
        assert_eq!(python_list([0usize; 0]), "[]");
        assert_eq!(python_list([0, 30]), "[0, 30]");
        assert_eq!(python_set([0usize; 0]), "set()");
        assert_eq!(python_dict([(0, "'a'"), (3, "'b'")]), "{0: 'a', 3: 'b'}");
        assert_eq!(python_dict([(0, 0); 0]), "{}");
    }

    proptest! {
        #[test]
        fn floats_read_back_bit_for_bit(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            let text = python_float(value);
            prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits, "{}", text);
        }

        #[test]
        fn floats_keep_pythons_notation(value in -1e20f64..1e20) {
            let text = python_float(value);
            let large = value.abs() >= 1e16 || (value != 0.0 && value.abs() < 1e-4);
            prop_assert_eq!(text.contains('e'), large, "{}", text);
            prop_assert_eq!(text.contains('.') || text.contains('e'), true);
        }

        #[test]
        fn strings_stay_on_one_line_and_end_as_they_begin(text in any::<String>()) {
            let repr = python_str_repr(&text);
            prop_assert!(!repr.chars().any(char::is_control));
            prop_assert_eq!(repr.chars().next(), repr.chars().last());
        }
    }
}
