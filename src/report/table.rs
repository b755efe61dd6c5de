//! Aligned text tables for the terminal.

use std::io::{self, ErrorKind, IsTerminal, Write};

use unicode_width::UnicodeWidthStr;

use super::visible::visible;
use crate::error::{Error, Result};

/// Which side a column's text leans to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// One line of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// Text by column.
    pub cells: Vec<String>,
    /// Shown bold where colours are on.
    pub emphasis: bool,
}

impl Row {
    /// An ordinary row.
    pub fn new(cells: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            cells: cells.into_iter().map(Into::into).collect(),
            emphasis: false,
        }
    }

    /// Sets the emphasis.
    #[must_use]
    pub fn emphasised(mut self, emphasis: bool) -> Self {
        self.emphasis = emphasis;
        self
    }
}

/// A header and rows. Rows may be shorter than the header; further cells are left aligned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Title and alignment of each column.
    pub columns: Vec<(String, Align)>,
    /// The body.
    pub rows: Vec<Row>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: impl IntoIterator<Item = (impl Into<String>, Align)>) -> Self {
        Self {
            columns: columns
                .into_iter()
                .map(|(title, align)| (title.into(), align))
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// The table as lines. `styled` marks the header and emphasised rows with ANSI codes, which take
    /// no width, so that both forms have the same layout.
    pub fn render(&self, styled: bool) -> String {
        let header: Vec<String> = self
            .columns
            .iter()
            .map(|(title, _)| title.clone())
            .collect();
        let lines: Vec<Vec<String>> = std::iter::once(&header)
            .chain(self.rows.iter().map(|row| &row.cells))
            .map(|cells| {
                cells
                    .iter()
                    .map(|cell| visible(cell).into_owned())
                    .collect()
            })
            .collect();
        let count = lines.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..count)
            .map(|column| {
                let cells = lines.iter().filter_map(|cells| cells.get(column));
                cells.map(|cell| cell.width()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for (number, cells) in lines.iter().enumerate() {
            let line = self.line(cells, &widths);
            let code = match number.checked_sub(1).and_then(|row| self.rows.get(row)) {
                None => "\x1b[2m",
                Some(row) if row.emphasis => "\x1b[1m",
                Some(_) => "",
            };
            if styled && !code.is_empty() {
                text.extend([code, &line, "\x1b[0m"]);
            } else {
                text.push_str(&line);
            }
            text.push('\n');
        }
        text
    }

    /// Prints to stdout; styled only on a terminal that is not dumb, without `NO_COLOR`. A reader that has gone away
    /// (`massact ... | head`) is no error.
    pub fn print(&self) -> Result<()> {
        let mut stdout = io::stdout().lock();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|kind| kind == "dumb");
        let text = self.render(stdout.is_terminal() && !no_color && !dumb);
        match stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
        {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Error::new("standard output", error))
            }
            _ => Ok(()),
        }
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            if column > 0 {
                line.push_str("  ");
            }
            let padding = " ".repeat(width - cell.width().min(*width));
            match self.columns.get(column) {
                Some((_, Align::Right)) => line.extend([&padding, cell.as_str()]),
                _ => line.extend([cell.as_str(), &padding]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new([
            ("layer", Align::Right),
            ("top-1", Align::Right),
            ("token", Align::Left),
        ]);
        table.push(Row::new(["0", "3.1", "模型"]));
        table.push(Row::new(["11", "2400.0", "<s>", "*"]).emphasised(true));
        table.push(Row::new(["2", "9", "a\nb", "x"]));
        table.push(Row::new(["3"]));
        table
    }

    #[test]
    fn aligns_by_display_width() {
        let expected = "\
layer   top-1  token
    0     3.1  模型
   11  2400.0  <s>    *
    2       9  a⏎b    x
    3
";
        assert_eq!(sample().render(false), expected);
    }

    #[test]
    fn styles_take_no_width() {
        let styled = sample().render(true);
        let plain = ["\x1b[0m", "\x1b[1m", "\x1b[2m"]
            .iter()
            .fold(styled.clone(), |text, code| text.replace(code, ""));
        assert_eq!(plain, sample().render(false));
        assert_eq!(styled.matches("\x1b[1m").count(), 1);
    }

    #[test]
    fn empty() {
        assert_eq!(Table::default().render(false), "\n");
    }
}
