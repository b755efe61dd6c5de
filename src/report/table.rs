//! Tables: aligned text for the terminal, and other forms for files.

mod export;
mod fit;

use std::io::{self, ErrorKind, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};

use self::fit::{Grid, Style};
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
        self.render_within(None, styled)
    }

    /// As [`Table::render`], in lines of at most `width`, as far as that is possible: a table that is
    /// too wide is turned, so that its rows stand side by side, or split into blocks of columns.
    pub fn render_within(&self, width: Option<usize>, styled: bool) -> String {
        let grid = self.grid();
        let Some(width) = width.filter(|width| grid.width() > *width) else {
            return grid.text(styled);
        };
        let turned = grid.turned();
        if self.rows.len() < self.columns.len() && turned.width() <= width {
            return turned.text(styled);
        }
        let blocks = grid.blocks(width).into_iter();
        let blocks: Vec<String> = blocks.map(|block| block.text(styled)).collect();
        blocks.join("\n")
    }

    /// The header and the rows as they are shown.
    fn grid(&self) -> Grid {
        let shown = |cells: &[String], style| {
            let cells = cells.iter().map(|cell| (visible(cell).into_owned(), style));
            cells.collect()
        };
        let titles: Vec<String> = self
            .columns
            .iter()
            .map(|(title, _)| title.clone())
            .collect();
        let header = shown(&titles, Style::Header);
        let rows = self.rows.iter().map(|row| {
            let style = if row.emphasis {
                Style::Bold
            } else {
                Style::Plain
            };
            shown(&row.cells, style)
        });
        Grid {
            aligns: self.columns.iter().map(|(_, align)| *align).collect(),
            lines: std::iter::once(header).chain(rows).collect(),
        }
    }

    /// Prints to stdout: fitted to a terminal, and styled as `--color`, `NO_COLOR` and the like say.
    /// A reader that has gone away (`massact ... | head`) is no error.
    pub fn print(&self) -> Result<()> {
        let mut stdout = io::stdout().lock();
        let styled = AutoStream::choice(&stdout) != ColorChoice::Never;
        // What reads a pipe or a file gets whole lines.
        let width = stdout.is_terminal().then(terminal_width);
        let text = self.render_within(width, styled);
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
}

/// Columns of a terminal that does not say.
const USUAL_WIDTH: usize = 80;

/// Columns of the terminal that stdout is.
fn terminal_width() -> usize {
    let size = terminal_size::terminal_size_of(io::stdout());
    size.map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0))
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

    /// Three checkpoints, and more columns than a terminal is wide.
    fn wide() -> Table {
        let titles = (0..12).map(|i| (format!("column {i}"), Align::Right));
        let titles = std::iter::once(("checkpoint".to_owned(), Align::Left)).chain(titles);
        let mut table = Table::new(titles);
        for row in 0..3 {
            let values = (0..12).map(|i| format!("{row}.{i}"));
            let cells = std::iter::once(format!("model-{row}")).chain(values);
            table.push(Row::new(cells).emphasised(row == 1));
        }
        table
    }

    fn widest(text: &str) -> usize {
        text.lines()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn a_wide_table_with_few_rows_is_turned() {
        let whole = wide().render(false);
        assert!(widest(&whole) > 100);
        let text = wide().render_within(Some(80), false);
        assert!(widest(&text) <= 80, "{text}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 13);
        assert_eq!(lines[0], "checkpoint  model-0  model-1  model-2");
        assert_eq!(lines[12], "column 11      0.11     1.11     2.11");
        assert_eq!(wide().render_within(Some(200), false), whole);
        let styled = wide().render_within(Some(80), true);
        assert_eq!(styled.matches("\x1b[1m").count(), 13, "{styled}");
    }

    #[test]
    fn a_wide_table_with_many_rows_is_split() {
        let mut table = wide();
        for row in 3..20 {
            table.push(Row::new([format!("model-{row}"), "7".into()]));
        }
        let text = table.render_within(Some(60), false);
        assert!(widest(&text) <= 60, "{text}");
        let blocks: Vec<&str> = text.split("\n\n").collect();
        assert!(blocks.len() > 1, "{text}");
        for block in &blocks {
            assert_eq!(block.lines().count(), 21, "{block}");
            assert!(block.starts_with("checkpoint"), "{block}");
            assert!(block.contains("\nmodel-19"), "{block}");
        }
        for column in 0..12 {
            assert_eq!(
                text.matches(&format!("column {column}\n")).count()
                    + text.matches(&format!("column {column} ")).count(),
                1,
                "{column}"
            );
        }
        // Not even two columns fit: nothing is lost.
        assert!(table.render_within(Some(5), false).contains("2.11"));
    }

    #[test]
    fn empty() {
        assert_eq!(Table::default().render(false), "\n");
    }
}
