//! The directory of a zip archive whose entries are stored as they are (APPNOTE 6.3, sections 4.3 and
//! 4.5), as PyTorch writes it: beyond 4 GiB with the fields of zip64.

use std::{collections::HashMap, ops::Range};

/// End of the central directory, without its comment.
const END: usize = 22;
const END_MARK: &[u8] = b"PK\x05\x06";
/// The longest comment after it.
const COMMENT: usize = u16::MAX as usize;
/// What lies before it in an archive of zip64, and says where the end of that kind is.
const LOCATOR: usize = 20;
const LOCATOR_MARK: &[u8] = b"PK\x06\x07";
const END64: usize = 56;
const END64_MARK: &[u8] = b"PK\x06\x06";
/// An entry of the directory, without its name.
const ENTRY: usize = 46;
const ENTRY_MARK: &[u8] = b"PK\x01\x02";
/// What lies before an entry's bytes, without its name.
const LOCAL: usize = 30;
const LOCAL_MARK: &[u8] = b"PK\x03\x04";
/// A field that stands in the extra field of zip64.
const ELSEWHERE: u64 = u32::MAX as u64;

/// Entries by their names below the archive's one folder.
#[derive(Debug)]
pub(super) struct Archive<'b> {
    entries: HashMap<&'b [u8], Range<usize>>,
    /// Whether code lies in it, beside which the format allows entries to be compressed.
    is_program: bool,
}

impl<'b> Archive<'b> {
    /// Reads the directory; the error says what is wrong with it.
    pub(super) fn open(bytes: &'b [u8]) -> Result<Self, String> {
        let (count, directory) = directory(bytes).ok_or("it has no zip directory at its end")?;
        let mut rest = bytes.get(directory).ok_or("its zip directory is cut")?;
        // The count is what the file says; an entry takes some bytes.
        if count > rest.len() / ENTRY {
            return Err(format!(
                "its zip directory is too short for {count} entries"
            ));
        }
        let mut entries = HashMap::with_capacity(count);
        let mut folder = None;
        let mut is_program = false;
        for _ in 0..count {
            let Entry {
                name,
                range,
                length,
            } = entry(bytes, rest)?;
            rest = rest.get(length..).unwrap_or_default();
            let shown = || String::from_utf8_lossy(name).into_owned();
            let slash = name.iter().position(|byte| *byte == b'/');
            let Some(slash) = slash else {
                return Err(format!("its entry `{}` is in no folder", shown()));
            };
            if *folder.get_or_insert(&name[..slash]) != &name[..slash] {
                return Err(format!("its entry `{}` is in a second folder", shown()));
            }
            let name = &name[slash + 1..];
            is_program |= name.starts_with(b"code/");
            // What is compressed is no storage, and missed only where it is needed.
            if let Some(range) = range
                && entries.insert(name, range).is_some()
            {
                return Err(format!("it has two entries `{}`", shown()));
            }
        }
        Ok(Self {
            entries,
            is_program,
        })
    }

    /// Whether it is a program rather than data.
    pub(super) fn is_program(&self) -> bool {
        self.is_program
    }

    /// The bytes of an entry.
    pub(super) fn get(&self, name: &str) -> Option<Range<usize>> {
        self.entries.get(name.as_bytes()).cloned()
    }
}

/// Number of entries, and the bytes that describe them.
fn directory(bytes: &[u8]) -> Option<(usize, Range<usize>)> {
    let last = bytes.len().checked_sub(END)?;
    let first = last.saturating_sub(COMMENT);
    let at = (first..=last).rev().find(|at| {
        bytes[*at..].starts_with(END_MARK)
            && u16_at(bytes, at + 20).map(usize::from) == Some(last - at)
    })?;
    let short = (
        u64::from(u16_at(bytes, at + 10)?),
        u64::from(u32_at(bytes, at + 12)?),
        u64::from(u32_at(bytes, at + 16)?),
    );
    let locator = at.checked_sub(LOCATOR);
    let locator = locator.filter(|at| bytes[*at..].starts_with(LOCATOR_MARK));
    let (count, size, start) = match locator {
        None => short,
        Some(locator) => {
            let end = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
            let end = bytes.get(end..end.checked_add(END64)?)?;
            if !end.starts_with(END64_MARK) {
                return None;
            }
            (u64_at(end, 32)?, u64_at(end, 40)?, u64_at(end, 48)?)
        }
    };
    let start = usize::try_from(start).ok()?;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    (end <= at).then_some((usize::try_from(count).ok()?, start..end))
}

/// An entry as the directory describes it.
struct Entry<'b> {
    name: &'b [u8],
    /// Its bytes, if they are stored as they are.
    range: Option<Range<usize>>,
    /// How long the description is.
    length: usize,
}

/// The entry that `described` begins with.
fn entry<'b>(bytes: &[u8], described: &'b [u8]) -> Result<Entry<'b>, String> {
    let cut = || "its zip directory is cut".to_owned();
    if described.len() < ENTRY || !described.starts_with(ENTRY_MARK) {
        return Err(cut());
    }
    let short = |at| u16_at(described, at).unwrap_or_default();
    let long = |at| u64::from(u32_at(described, at).unwrap_or_default());
    let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(short(at)));
    let length = ENTRY + name + extra + comment;
    if described.len() < length {
        return Err(cut());
    }
    let (name, extra) = described[ENTRY..length - comment].split_at(name);
    let shown = || String::from_utf8_lossy(name).into_owned();
    if short(8) & 1 != 0 {
        return Err(format!("its entry `{}` is encrypted", shown()));
    }
    if short(10) != 0 {
        return Ok(Entry {
            name,
            range: None,
            length,
        });
    }
    let mut sizes = [long(24), long(20), long(42)];
    zip64(extra, &mut sizes).ok_or_else(cut)?;
    let [size, packed, start] = sizes;
    if size != packed {
        return Err(format!("its entry `{}` has two sizes", shown()));
    }
    let range = content(bytes, start, size);
    let range =
        range.ok_or_else(|| format!("its entry `{}` is not where it should be", shown()))?;
    Ok(Entry {
        name,
        range: Some(range),
        length,
    })
}

/// Fills in the numbers that are too large for their fields.
fn zip64(mut extra: &[u8], sizes: &mut [u64; 3]) -> Option<()> {
    if !sizes.contains(&ELSEWHERE) {
        return Some(());
    }
    loop {
        let (kind, length) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let field = extra.get(4..4 + length)?;
        if kind == 1 {
            let mut numbers = field.chunks_exact(8);
            for size in sizes.iter_mut().filter(|size| **size == ELSEWHERE) {
                *size = u64_at(numbers.next()?, 0)?;
            }
            return Some(());
        }
        extra = &extra[4 + length..];
    }
}

/// The bytes of the entry whose own header is at `start`.
fn content(bytes: &[u8], start: u64, size: u64) -> Option<Range<usize>> {
    let start = usize::try_from(start).ok()?;
    let header = bytes.get(start..start.checked_add(LOCAL)?)?;
    if !header.starts_with(LOCAL_MARK) {
        return None;
    }
    let names = usize::from(u16_at(header, 26)?) + usize::from(u16_at(header, 28)?);
    let start = start + LOCAL + names;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
