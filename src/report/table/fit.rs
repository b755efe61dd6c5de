//! How a table fits the width of a terminal.

use unicode_width::UnicodeWidthStr;

use super::Align;

/// Between columns.
const GAP: &str = "  ";

/// How a cell is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Header,
    Bold,
    Plain,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Header => "\x1b[2m",
            Self::Bold => "\x1b[1m",
            Self::Plain => "",
        }
    }
}

/// Lines of cells; the first is the header. Lines may be shorter than others.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    /// Of the columns that have one; others lean left.
    pub(super) aligns: Vec<Align>,
    pub(super) lines: Vec<Vec<(String, Style)>>,
}

impl Grid {
    fn widths(&self) -> Vec<usize> {
        let count = self.lines.iter().map(Vec::len).max().unwrap_or(0);
        let column = |index: usize| {
            let cells = self.lines.iter().filter_map(move |line| line.get(index));
            cells.map(|(text, _)| text.width()).max().unwrap_or(0)
        };
        (0..count).map(column).collect()
    }

    /// Of the longest line.
    pub(super) fn width(&self) -> usize {
        line_width(&self.widths())
    }

    /// Columns as lines: the first column becomes the header.
    pub(super) fn turned(&self) -> Self {
        let count = self.widths().len();
        let line = |index: usize| {
            let cells = self.lines.iter().enumerate().map(|(number, line)| {
                let empty = (String::new(), Style::Plain);
                let (text, style) = line.get(index).cloned().unwrap_or(empty);
                // What named a column names a line now.
                let named = (number == 0 || index == 0) && style != Style::Bold;
                (text, if named { Style::Header } else { style })
            });
            cells.collect()
        };
        Self {
            aligns: std::iter::once(Align::Left)
                .chain(self.lines.iter().skip(1).map(|_| Align::Right))
                .collect(),
            lines: (0..count).map(line).collect(),
        }
    }

    /// Parts that are at most `width` wide if any two columns are; each begins with the first column.
    pub(super) fn blocks(&self, width: usize) -> Vec<Self> {
        let widths = self.widths();
        let mut blocks: Vec<Vec<usize>> = Vec::new();
        for column in 1..widths.len() {
            let fits = |block: &Vec<usize>| {
                let columns = block.iter().chain([&column]);
                line_width(&columns.map(|c| widths[*c]).collect::<Vec<_>>()) <= width
            };
            match blocks.last_mut() {
                Some(block) if fits(block) => block.push(column),
                _ => blocks.push(vec![0, column]),
            }
        }
        blocks.iter().map(|columns| self.columns(columns)).collect()
    }

    fn columns(&self, columns: &[usize]) -> Self {
        let lines = self.lines.iter().map(|line| {
            // Lines that end before these columns still have their place in the block.
            let cells = columns.iter().map_while(|column| line.get(*column));
            cells.cloned().collect()
        });
        Self {
            aligns: columns
                .iter()
                .map_while(|column| self.aligns.get(*column))
                .copied()
                .collect(),
            lines: lines.collect(),
        }
    }

    pub(super) fn text(&self, styled: bool) -> String {
        let widths = self.widths();
        let mut text = String::new();
        for line in &self.lines {
            self.line(line, &widths, styled, &mut text);
            text.push('\n');
        }
        text
    }

    /// Neighbours of one style are marked together.
    fn line(&self, cells: &[(String, Style)], widths: &[usize], styled: bool, text: &mut String) {
        // Nothing follows the last cell that says something.
        let said = cells
            .iter()
            .rposition(|(cell, _)| !cell.trim_end().is_empty());
        let cells = &cells[..said.map_or(0, |last| last + 1)];
        let mut marked = Style::Plain;
        for (column, ((cell, style), width)) in cells.iter().zip(widths).enumerate() {
            if styled && *style != marked {
                if marked != Style::Plain {
                    text.push_str("\x1b[0m");
                }
                text.push_str(style.code());
                marked = *style;
            }
            if column > 0 {
                text.push_str(GAP);
            }
            let padding = " ".repeat(width - cell.width().min(*width));
            let last = column + 1 == cells.len();
            match self.aligns.get(column) {
                Some(Align::Right) => text.extend([&padding, cell.as_str()]),
                _ if last => text.push_str(cell.trim_end()),
                _ => text.extend([cell.as_str(), &padding]),
            }
        }
        if styled && marked != Style::Plain {
            text.push_str("\x1b[0m");
        }
    }
}

fn line_width(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
}
