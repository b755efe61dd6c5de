//! Tables for papers and readmes.

use super::{Align, Table};
use crate::report::visible::visible;

/// The last character that pdfLaTeX's usual fonts have.
const LAST_LATIN: char = '\u{24f}';

/// Those beyond it that have a command.
const KNOWN: &str = "▁␣⏎→…";

impl Table {
    /// A LaTeX `tabular` in the style of booktabs.
    pub fn latex(&self) -> String {
        let columns: String = self
            .columns
            .iter()
            .map(|(_, align)| latex_align(*align))
            .collect();
        let titles = self.columns.iter().map(|(title, _)| latex(title));
        let cells = self.rows.iter().flat_map(|row| &row.cells);
        let beyond = cells
            .flat_map(|cell| cell.chars())
            .any(|c| c > LAST_LATIN && !KNOWN.contains(c));
        let engine = if beyond {
            "% has characters beyond Latin: XeLaTeX or LuaLaTeX\n"
        } else {
            ""
        };
        let mut text = format!(
            "% needs \\usepackage{{booktabs}}\n{engine}\\begin{{tabular}}{{{columns}}}\n\\toprule\n{} \\\\\n\\midrule\n",
            titles.collect::<Vec<_>>().join(" & ")
        );
        for cells in self.full_rows() {
            let cells: Vec<String> = cells.iter().map(|cell| latex(cell)).collect();
            text.push_str(&cells.join(" & "));
            text.push_str(" \\\\\n");
        }
        text.push_str("\\bottomrule\n\\end{tabular}\n");
        text
    }

    /// A table of GitHub's Markdown.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let titles: Vec<String> = self
            .columns
            .iter()
            .map(|(title, _)| markdown(title))
            .collect();
        let rules = self.columns.iter().map(|(_, align)| match align {
            Align::Left => ":---".to_owned(),
            Align::Right => "---:".to_owned(),
        });
        let mut text = line(&titles) + &line(&rules.collect::<Vec<_>>());
        for cells in self.full_rows() {
            let cells: Vec<String> = cells.iter().map(|cell| markdown(cell)).collect();
            text.push_str(&line(&cells));
        }
        text
    }

    /// The rows, all as long as the header.
    fn full_rows(&self) -> impl Iterator<Item = Vec<&str>> {
        self.rows.iter().map(|row| {
            let cells = row.cells.iter().map(String::as_str);
            let cells = cells.chain(std::iter::repeat(""));
            cells.take(self.columns.len()).collect()
        })
    }
}

fn latex_align(align: Align) -> char {
    match align {
        Align::Left => 'l',
        Align::Right => 'r',
    }
}

/// A cell as LaTeX: numbers in mathematics, so that a minus is one, everything else as text.
fn latex(cell: &str) -> String {
    if let Some(number) = latex_number(cell) {
        return number;
    }
    let mut text = String::with_capacity(cell.len() + 8);
    let mut before = None;
    for c in visible(cell).chars() {
        match c {
            '\\' => text.push_str("\\textbackslash{}"),
            '~' => text.push_str("\\textasciitilde{}"),
            '^' => text.push_str("\\textasciicircum{}"),
            '<' => text.push_str("\\textless{}"),
            '>' => text.push_str("\\textgreater{}"),
            '|' => text.push_str("\\textbar{}"),
            '▁' => text.push_str("\\textunderscore{}"),
            '␣' => text.push_str("\\textvisiblespace{}"),
            '⏎' => text.push_str("$\\hookleftarrow$"),
            '→' => text.push_str("$\\rightarrow$"),
            '…' => text.push_str("\\dots{}"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => text.extend(['\\', c]),
            // At the begin of a row it would give the distance to the row before.
            '[' => text.push_str("{[}"),
            // Two of them would be a dash.
            '-' if before == Some('-') => text.push_str("{}-"),
            c => text.push(c),
        }
        before = Some(c);
    }
    text
}

/// `-3.5`, `1.2e-7` and `inf` in mathematics; other numbers are the same as text.
fn latex_number(cell: &str) -> Option<String> {
    let value: f64 = cell.parse().ok()?;
    if value.is_nan() {
        return None;
    }
    if value.is_infinite() {
        let sign = if value < 0.0 { "-" } else { "" };
        return Some(format!("${sign}\\infty$"));
    }
    match cell.split_once('e') {
        Some((mantissa, exponent)) => Some(format!("${mantissa}\\times10^{{{exponent}}}$")),
        None if value < 0.0 => Some(format!("${cell}$")),
        None => Some(cell.to_owned()),
    }
}

/// A cell as Markdown.
fn markdown(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len() + 4);
    for c in visible(cell).chars() {
        if "\\`*_[]<>|~&".contains(c) {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Row;
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new([("layer", Align::Right), ("95 % of a_b", Align::Left)]);
        table.push(Row::new(["0", "<s>|x_1 50%"]));
        table.push(Row::new(["-3.5", "[a] \\n ␣&"]).emphasised(true));
        table.push(Row::new(["1.2e-7"]));
        table
    }

    #[test]
    fn latex_is_escaped() {
        let expected = r"% needs \usepackage{booktabs}
\begin{tabular}{rl}
\toprule
layer & 95 \% of a\_b \\
\midrule
0 & \textless{}s\textgreater{}\textbar{}x\_1 50\% \\
$-3.5$ & {[}a] \textbackslash{}n \textvisiblespace{}\& \\
$1.2\times10^{-7}$ &  \\
\bottomrule
\end{tabular}
";
        assert_eq!(sample().latex(), expected);
        assert_eq!(latex("inf"), "$\\infty$");
        assert_eq!(latex("model-7b --x"), "model-7b -{}-x");
    }

    #[test]
    fn markdown_is_escaped() {
        let expected = r"| layer | 95 % of a\_b |
| ---: | :--- |
| 0 | \<s\>\|x\_1 50% |
| -3.5 | \[a\] \\n ␣\& |
| 1.2e-7 |  |
";
        assert_eq!(sample().markdown(), expected);
    }
}
