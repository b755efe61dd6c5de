//! What a page draws anew in the reader's browser: the data of a static figure and what a static figure has
//! no room for. Made from the figures, so that both have the same values, labels and colours.

use serde::Serialize;

use super::maps::MapSet;
use crate::report::plot::{
    Interval, IntervalChart, LayerMap, LayerMaps, LineChart, Marker, Scale, Series, StackChart,
    StackPanel,
};

/// Name and value pairs about one point, shown beside the pointer.
pub type Notes = Vec<(String, String)>;

/// A chart of one kind; `assets/page/` has a script for each.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Chart {
    /// Lines over the layers.
    Lines(Lines),
    /// Values with intervals.
    Intervals(Intervals),
    /// Cells with layers across.
    Grid(Grid),
    /// Stacked bars over the layers, with a choice of what they add up to.
    Stacks(Stacks),
    /// Attention maps with a choice of layer and head.
    Maps(MapSet),
}

/// Lines over the layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lines {
    /// Below the x axis.
    pub x: String,
    /// Beside the y axis.
    pub y: String,
    /// Whether y begins logarithmic, as the figure's; the reader can switch.
    pub log: bool,
    /// The lines; later ones lie on top.
    pub series: Vec<Line>,
    /// Positions on x that are marked behind the lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marked: Option<Marked>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Name in the legend.
    pub label: String,
    /// CSS colour.
    pub color: String,
    /// `circle`, `square`, `diamond` or `triangle`.
    pub marker: &'static str,
    /// (x, y); what is not finite becomes null and interrupts the line.
    pub points: Vec<(f64, f64)>,
    /// By point.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Notes>,
}

/// Positions with a name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Marked {
    /// Name in the legend.
    pub label: String,
    /// Each takes one unit of x.
    pub xs: Vec<f64>,
}

/// Values with intervals, in groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Intervals {
    /// Below the axis.
    pub x: String,
    /// A value that is always in view.
    pub reference: f64,
    /// Ranges with names, left to right.
    pub bands: Vec<Range>,
    /// Top to bottom.
    pub groups: Vec<Group>,
}

/// A range of an axis with a name; an end that is missing is the axis' own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Range {
    /// Its name.
    pub label: String,
    /// Where it begins.
    pub from: Option<f64>,
    /// Where it ends.
    pub to: Option<f64>,
}

/// Rows under a heading.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The heading.
    pub label: String,
    /// The rows.
    pub rows: Vec<Row>,
}

/// One value with its interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Beside the row.
    pub label: String,
    /// The value; null if it is not finite.
    pub value: f64,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// CSS colour.
    pub color: String,
}

/// Cells with layers across.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grid {
    /// What the colours mean.
    pub title: String,
    /// Whether colours begin logarithmic.
    pub log: bool,
    /// Layers across.
    pub layers: usize,
    /// Top to bottom.
    pub rows: Vec<GridRow>,
}

/// One row of cells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GridRow {
    /// Beside the row.
    pub label: String,
    /// A value a layer; what is not finite becomes null and stays blank.
    pub values: Vec<f64>,
    /// By layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Notes>,
}

/// Bars over the layers with a line through them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stacks {
    /// Beside the y axis.
    pub y: String,
    /// Name of the line in the legend.
    pub line: String,
    /// The parts, in the order of stacking.
    pub parts: Vec<Part>,
    /// One of them is shown at a time.
    pub panels: Vec<Panel>,
}

/// A part of the stacks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Name in the legend.
    pub label: String,
    /// CSS colour.
    pub color: String,
}

/// The stacks of one value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Panel {
    /// Its name.
    pub label: String,
    /// By layer, a value a part; what is not finite becomes null and has no bar.
    pub stacks: Vec<Vec<f64>>,
    /// By layer.
    pub line: Vec<f64>,
    /// Layers with a mark, and what it says.
    pub marks: Vec<(usize, &'static str)>,
}

impl Chart {
    /// The maps of a figure, one chart each.
    pub fn grids(figure: &LayerMaps) -> Vec<Self> {
        let maps = figure.maps.iter();
        maps.map(|map| Self::Grid(Grid::of(map, figure.layers)))
            .collect()
    }
}

impl From<&LineChart> for Chart {
    fn from(figure: &LineChart) -> Self {
        Self::Lines(figure.into())
    }
}

impl From<&IntervalChart> for Chart {
    fn from(figure: &IntervalChart) -> Self {
        Self::Intervals(figure.into())
    }
}

impl From<&StackChart> for Chart {
    fn from(figure: &StackChart) -> Self {
        let parts = figure.parts.iter().map(|part| Part {
            label: part.label.clone(),
            color: part.color.to_owned(),
        });
        Self::Stacks(Stacks {
            y: "Value of the residual stream".to_owned(),
            line: figure.line_label.clone(),
            parts: parts.collect(),
            panels: figure.panels.iter().map(Panel::from).collect(),
        })
    }
}

impl From<&StackPanel> for Panel {
    fn from(panel: &StackPanel) -> Self {
        Self {
            label: panel.title.clone(),
            stacks: panel.stacks.clone(),
            line: panel.line.clone(),
            marks: panel.marks.clone(),
        }
    }
}

impl From<&LineChart> for Lines {
    fn from(figure: &LineChart) -> Self {
        Self {
            x: figure.x_label.clone(),
            y: figure.y_label.clone(),
            log: figure.y_scale == Scale::Log,
            series: figure.series.iter().map(Line::from).collect(),
            marked: figure.highlight.as_ref().map(|marked| Marked {
                label: marked.label.clone(),
                xs: marked.xs.clone(),
            }),
        }
    }
}

impl From<&Series> for Line {
    fn from(series: &Series) -> Self {
        Self {
            label: series.label.clone(),
            color: series.color.to_owned(),
            marker: match series.marker {
                Marker::Circle => "circle",
                Marker::Square => "square",
                Marker::Diamond => "diamond",
                Marker::Triangle => "triangle",
            },
            points: series.points.clone(),
            notes: Vec::new(),
        }
    }
}

impl Lines {
    /// Adds what is known of the points of the line `label`, in their order.
    #[must_use]
    pub fn noted(mut self, label: &str, notes: Vec<Notes>) -> Self {
        let line = self.series.iter_mut().find(|line| line.label == label);
        if let Some(line) = line {
            line.notes = notes;
        }
        self
    }
}

impl From<&IntervalChart> for Intervals {
    fn from(figure: &IntervalChart) -> Self {
        let bands = figure.bands.iter().map(|band| Range {
            label: band.label.clone(),
            from: band.from,
            to: band.to,
        });
        let groups = figure.groups.iter().map(|group| Group {
            label: group.label.clone(),
            rows: group.rows.iter().map(Row::from).collect(),
        });
        Self {
            x: figure.x_label.clone(),
            reference: figure.reference,
            bands: bands.collect(),
            groups: groups.collect(),
        }
    }
}

impl From<&Interval> for Row {
    fn from(interval: &Interval) -> Self {
        Self {
            label: interval.label.clone(),
            value: interval.value,
            low: interval.ends.map(|(low, _)| low),
            high: interval.ends.map(|(_, high)| high),
            color: interval.color.to_owned(),
        }
    }
}

impl Grid {
    fn of(map: &LayerMap, layers: usize) -> Self {
        let rows = map.rows.iter().map(|(label, values)| GridRow {
            label: label.clone(),
            values: values.clone(),
            notes: Vec::new(),
        });
        Self {
            title: map.title.clone(),
            log: map.scale == Scale::Log,
            layers,
            rows: rows.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figure(values: &[f64]) -> LineChart {
        LineChart {
            title: String::new(),
            x_label: "Layer".to_owned(),
            y_label: "Magnitude".to_owned(),
            series: vec![Series {
                label: "top-1".to_owned(),
                color: "#0072b2",
                marker: Marker::Diamond,
                points: values.iter().map(|y| (0.0, *y)).collect(),
            }],
            y_scale: Scale::Linear,
            highlight: None,
        }
    }

    #[test]
    fn has_what_the_figure_has() {
        let lines = Lines::from(&figure(&[0.5, f64::NAN]));
        let notes = vec![vec![("token".to_owned(), "<s>".to_owned())], Vec::new()];
        let chart = Chart::Lines(lines.noted("top-1", notes));
        let expected = json!({
            "kind": "lines", "x": "Layer", "y": "Magnitude", "log": false,
            "series": [{
                "label": "top-1", "color": "#0072b2", "marker": "diamond",
                "points": [[0.0, 0.5], [0.0, null]],
                "notes": [[["token", "<s>"]], []],
            }],
        });
        assert_eq!(json!(chart), expected);
    }
}
