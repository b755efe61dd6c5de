//! Figures of several lines over the layers.

use crate::report::plot::{LineChart, Marker, Scale, Series, palette};

const COLORS: [&str; 5] = [
    palette::BLUE,
    palette::VERMILION,
    palette::GREEN,
    palette::PURPLE,
    palette::SKY,
];
const MARKERS: [Marker; 4] = [
    Marker::Circle,
    Marker::Square,
    Marker::Diamond,
    Marker::Triangle,
];

/// Lines over the layers, each with a colour and a marker of its own.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<Series>);

impl Lines {
    /// Adds a line with a value a layer; layers without one (NaN) interrupt it.
    pub(super) fn push(&mut self, label: &str, values: impl IntoIterator<Item = f64>) {
        // Five colours and four markers: twenty pairs before one comes again.
        let index = self.0.len();
        let color = COLORS[index % COLORS.len()];
        self.add(label, color, MARKERS[index % MARKERS.len()], values);
    }

    /// Adds a line behind those that count.
    pub(super) fn push_gray(&mut self, label: &str, values: impl IntoIterator<Item = f64>) {
        self.add(label, palette::GRAY, Marker::Square, values);
    }

    fn add(
        &mut self,
        label: &str,
        color: &'static str,
        marker: Marker,
        values: impl IntoIterator<Item = f64>,
    ) {
        let numbered = values.into_iter().enumerate();
        self.0.push(Series {
            label: label.to_owned(),
            color,
            marker,
            points: numbered.map(|(layer, y)| (layer as f64, y)).collect(),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The figure.
    pub(super) fn chart(self, title: &str, y_label: &str, y_scale: Scale) -> LineChart {
        LineChart {
            title: title.to_owned(),
            x_label: "Layer (first is 0)".to_owned(),
            y_label: y_label.to_owned(),
            series: self.0,
            y_scale,
            highlight: None,
        }
    }
}
