//! In which forms a run leaves its figures and tables.

use clap::{Args, ValueEnum};

use crate::{
    error::Result,
    report::{
        plot::{figure_png, svg_to_pdf},
        records::Records,
        table::Table,
    },
};

/// What is asked for. It changes no number.
#[derive(Debug, Clone, Args)]
pub(crate) struct Formats {
    /// Files of every figure.
    #[arg(long, value_enum, value_name = "FORMATS", value_delimiter = ',',
        default_values_t = [FigureFormat::Svg, FigureFormat::Png, FigureFormat::Pdf])]
    pub(crate) figure_format: Vec<FigureFormat>,
    /// No files of figures; the page has them in any case.
    #[arg(long, conflicts_with = "figure_format")]
    no_figures: bool,
    /// Files of every table: csv has full digits and the JSON's names, latex is for booktabs.
    #[arg(long, value_enum, value_name = "FORMATS", value_delimiter = ',')]
    pub(crate) tables: Vec<TableFormat>,
}

impl Formats {
    /// The forms of every figure.
    pub(super) fn figures(&self) -> &[FigureFormat] {
        match self.no_figures {
            true => &[],
            false => &self.figure_format,
        }
    }
}

/// Choices of `--figure-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FigureFormat {
    /// Vectors, for the web.
    Svg,
    /// Pixels.
    Png,
    /// Vectors with embedded fonts, for papers.
    Pdf,
}

/// Choices of `--tables`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// Comma-separated values.
    Csv,
    /// A tabular for booktabs.
    Latex,
    /// Markdown.
    Markdown,
}

/// A figure on its way to files.
#[derive(Debug)]
pub(super) struct Figure {
    /// Without an ending.
    pub(super) name: String,
    pub(super) svg: String,
}

/// A table on its way to files, for people and for programs.
#[derive(Debug)]
pub(super) struct Sheet {
    /// Without an ending.
    pub(super) name: &'static str,
    pub(super) table: Table,
    pub(super) records: Records,
}

impl Figure {
    /// Name and contents of its file.
    pub(super) fn file(&self, format: FigureFormat) -> Result<(String, Vec<u8>)> {
        let (ending, bytes) = match format {
            FigureFormat::Svg => ("svg", self.svg.clone().into_bytes()),
            FigureFormat::Png => ("png", figure_png(&self.svg)?),
            FigureFormat::Pdf => ("pdf", svg_to_pdf(&self.svg, &self.name)?),
        };
        Ok((format!("{}.{ending}", self.name), bytes))
    }
}

impl Sheet {
    /// Name and contents of its file.
    pub(super) fn file(&self, format: TableFormat) -> (String, Vec<u8>) {
        let (ending, text) = match format {
            TableFormat::Csv => ("csv", self.records.csv()),
            TableFormat::Latex => ("tex", self.table.latex()),
            TableFormat::Markdown => ("md", self.table.markdown()),
        };
        (format!("{}.{ending}", self.name), text.into_bytes())
    }
}
