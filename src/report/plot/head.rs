//! Title and note above a sheet of panels.

use super::font::{fit, text_width};
use super::palette::MUTED;
use super::svg::{Svg, Text};

const TITLE_SIZE: f64 = 22.0;
const NOTE_SIZE: f64 = 15.0;
const NOTE_LINE: f64 = 20.0;
/// A title makes a sheet of few panels wider, up to here; a note takes more lines instead.
const WIDEST: f64 = 1200.0;
const NARROWEST: f64 = 420.0;

/// The head of a sheet.
pub(super) struct Head {
    title: String,
    note: Vec<String>,
    /// Of the sheet without its margins.
    pub(super) width: f64,
    /// From the upper end of the sheet, its margin included, to the panels.
    pub(super) height: f64,
    margin: f64,
}

impl Head {
    /// Over panels of this width; the parts of the note are separated by semicolons.
    pub(super) fn new(title: &str, note: &str, panels: f64, margin: f64) -> Self {
        let wanted = text_width(title, TITLE_SIZE, true).clamp(NARROWEST, WIDEST);
        let width = panels.max(wanted);
        let note = wrap(note, width);
        Self {
            title: fit(title, TITLE_SIZE, true, width),
            height: margin + TITLE_SIZE + 6.0 + NOTE_LINE * note.len() as f64 + 16.0,
            note,
            width,
            margin,
        }
    }

    pub(super) fn draw(&self, svg: &mut Svg) {
        let base = self.margin + TITLE_SIZE;
        svg.text(Text {
            bold: true,
            ..Text::new(&self.title, self.margin, base, TITLE_SIZE)
        });
        for (number, line) in self.note.iter().enumerate() {
            let y = base + 6.0 + NOTE_LINE * (number + 1) as f64;
            svg.text(Text {
                fill: MUTED,
                ..Text::new(line, self.margin, y, NOTE_SIZE)
            });
        }
    }
}

/// Lines of whole parts, as far as one fits.
fn wrap(note: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in note.split("; ").filter(|part| !part.is_empty()) {
        let longer = lines.last().map(|line| format!("{line}; {part}"));
        match (longer, lines.last_mut()) {
            (Some(longer), Some(line)) if text_width(&longer, NOTE_SIZE, false) <= width => {
                *line = longer;
            }
            _ => lines.push(fit(part, NOTE_SIZE, false, width)),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_takes_more_lines() {
        let note = "queries down, keys across; red: massive; some token labels are left out";
        assert_eq!(wrap(note, 2000.0), [note]);
        let lines = wrap(note, 360.0);
        assert_eq!(
            lines,
            [
                "queries down, keys across; red: massive",
                "some token labels are left out"
            ]
        );
        assert!(wrap("", 300.0).is_empty());
        assert!(wrap("a part that is longer than that", 60.0)[0].ends_with('…'));
    }
}
