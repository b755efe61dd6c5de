//! Figures of several lines over the layers.

use crate::report::plot::{LineChart, Marker, ScaleChoice, Series, palette};

const MARKERS: [Marker; 4] = [
    Marker::Circle,
    Marker::Square,
    Marker::Diamond,
    Marker::Triangle,
];

/// Lines over the layers, each with a colour and a marker of its own.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<Series>);

/// The colour of the n-th of several things, the same in every figure.
pub(super) fn color(index: usize) -> &'static str {
    palette::SERIES[index % palette::SERIES.len()]
}

impl Lines {
    /// Adds the line of the `index`-th thing, with a value a layer; layers without one (NaN) interrupt
    /// it, and a line without any value is still named.
    pub(super) fn push(
        &mut self,
        index: usize,
        label: &str,
        values: impl IntoIterator<Item = f64>,
    ) {
        // Nine colours and four markers: 36 pairs before one comes again.
        let marker = MARKERS[index % MARKERS.len()];
        self.add(label, color(index), marker, values);
    }

    /// The same for values that only layers of a kind have: the line goes from one of them to the next.
    pub(super) fn push_known(
        &mut self,
        index: usize,
        label: &str,
        values: impl IntoIterator<Item = f64>,
    ) {
        self.push(index, label, values);
        if let Some(series) = self.0.last_mut() {
            series.points.retain(|point| point.1.is_finite());
        }
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

    /// Whether no line has a value.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|series| series.points.is_empty())
    }

    /// The figure.
    pub(super) fn chart(self, title: &str, y_label: &str, scale: ScaleChoice) -> LineChart {
        let values = self.0.iter().flat_map(|series| &series.points);
        LineChart {
            title: title.to_owned(),
            x_label: "Layer (first is 0)".to_owned(),
            y_label: y_label.to_owned(),
            y_scale: scale.of(values.map(|point| point.1)),
            series: self.0,
            highlight: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_keeps_its_colour_where_others_have_no_value() {
        let chart = |first: &[f64]| {
            let mut lines = Lines::default();
            lines.push(0, "first", first.iter().copied());
            lines.push(1, "second", [1.0, 2.0]);
            lines.chart("title", "y", ScaleChoice::Auto).to_svg()
        };
        for svg in [chart(&[3.0, 4.0]), chart(&[])] {
            assert!(svg.contains(">first<"), "{svg}");
            assert!(svg.contains(&format!("stroke=\"{}\"", palette::VERMILION)));
        }
        assert!(chart(&[]).contains(">none<"));
        assert!(!chart(&[3.0, 4.0]).contains(">none<"));
        assert!(!chart(&[]).contains(palette::BLUE));
    }

    #[test]
    fn known_values_are_joined_over_layers_of_another_kind() {
        let drawn = |push: fn(&mut Lines, [f64; 3])| {
            let mut lines = Lines::default();
            push(&mut lines, [1.0, f64::NAN, 2.0]);
            let chart = lines.chart("title", "y", ScaleChoice::Linear);
            let last = chart.series[0].points.last().copied();
            assert_eq!(last, Some((2.0, 2.0)));
            chart.to_svg().matches("<polyline").count()
        };
        // One is the legend's.
        assert_eq!(drawn(|lines, values| lines.push(0, "a", values)), 1);
        assert_eq!(drawn(|lines, values| lines.push_known(0, "a", values)), 2);
    }

    #[test]
    fn seven_projections_have_seven_colours() {
        let colors: std::collections::BTreeSet<_> = (0..9).map(color).collect();
        assert_eq!(colors.len(), 9);
    }
}
