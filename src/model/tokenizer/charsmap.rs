//! SentencePiece's table of what characters are normalised to: its length as four bytes, the table, and texts that
//! end with NUL.
#![forbid(unsafe_code)]

/// The most bytes that a character may become; NFKC has 33. An error for a table that the library would make room
/// for before it looks how much there is.
pub(super) fn longest(bytes: &[u8]) -> Result<usize, String> {
    let damaged = || "its rules of normalisation are damaged".to_owned();
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let texts = rest
        .get(length..)
        .filter(|_| length >= 4)
        .ok_or_else(damaged)?;
    let lengths = texts.split(|byte| *byte == 0).map(<[u8]>::len);
    Ok(lengths.max().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked_first() {
        let table = |length: u32, texts: &[u8]| {
            let rest = [&[0; 4], texts].concat();
            longest(&[&length.to_le_bytes()[..], &rest].concat())
        };
        assert_eq!(table(4, b"a\0bc\0"), Ok(2));
        for length in [0, 3, 5, u32::MAX] {
            assert!(table(length, b"").is_err(), "{length}");
        }
        assert!(longest(b"\xff\xff\xff").is_err());
    }
}
