//! Measured points with curves through them, over an axis that may span decades; the colour tells the
//! number of a curve, such as its layer.

use super::bar::draw_bar;
use super::colour::viridis;
use super::font::{fit, text_width};
use super::palette::{GRID, INK};
use super::svg::{Anchor, Svg, Text};
use super::ticks::{self, Axis, Tick};
use crate::error::Result;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 360.0;
const TITLE_SIZE: f64 = 19.0;
const LABEL_SIZE: f64 = 15.0;
const TICK_SIZE: f64 = 13.0;
const MARGIN: f64 = 18.0;
/// Room for the scale of colours.
const BAR_ROOM: f64 = 84.0;
/// Between the frame and the ends of the axes.
const INSET: f64 = 9.0;
/// Values over so many powers of ten are shown on a logarithmic axis.
const DECADES: f64 = 2.0;
/// How far left of the least positive value 0 is shown on a logarithmic axis, in powers of ten.
const ZERO_ROOM: f64 = 0.5;

/// Points of a curve from which on they are drawn smaller.
const MANY: usize = 60;

/// Points and the curve through them.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Decides the colour.
    pub number: usize,
    /// What was measured: (x, y) with x of 0 or more, ascending.
    pub points: Vec<(f64, f64)>,
    /// The curve, ascending in x.
    pub line: Vec<(f64, f64)>,
}

/// A chart of curves. Each axis is logarithmic where its values span more than two decades.
#[derive(Debug, Clone, PartialEq)]
pub struct CurveChart {
    /// Below the x axis.
    pub x_label: String,
    /// Beside the y axis.
    pub y_label: String,
    /// What the numbers of the curves are.
    pub number_label: String,
    /// The curves; later ones lie on top.
    pub curves: Vec<Curve>,
}

impl CurveChart {
    /// Charts one below the other, under one title.
    pub fn column(title: &str, charts: &[Self]) -> Result<String> {
        let parts: Result<Vec<Svg>> = charts.iter().map(Self::draw).collect();
        let mut svg = Svg::column(title, MARGIN + TITLE_SIZE, &parts?);
        let shown = fit(title, TITLE_SIZE, true, WIDTH - 2.0 * MARGIN);
        svg.text(Text {
            anchor: Anchor::Middle,
            bold: true,
            ..Text::new(&shown, WIDTH / 2.0, MARGIN + TITLE_SIZE, TITLE_SIZE)
        });
        Ok(svg.finish())
    }

    fn draw(&self) -> Result<Svg> {
        let mut svg = Svg::new(WIDTH, HEIGHT, &self.y_label);
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = Scale::of_x(points().map(|(x, _)| *x));
        let y = Scale::of_y(points().map(|(_, y)| *y));
        let widths = y
            .axis
            .ticks
            .iter()
            .map(|tick| text_width(&tick.label, TICK_SIZE, false));
        let left = MARGIN + LABEL_SIZE + 20.0 + widths.fold(0.0, f64::max);
        let frame = Frame {
            left,
            right: WIDTH - MARGIN - BAR_ROOM,
            top: MARGIN,
            bottom: HEIGHT - MARGIN - LABEL_SIZE - TICK_SIZE - 22.0,
            x,
            y,
        };
        self.draw_axes(&mut svg, &frame);
        let (first, last) = self.numbers();
        for curve in &self.curves {
            draw_points(
                &mut svg,
                &frame,
                curve,
                viridis(share(curve.number, first, last)),
            );
        }
        for curve in &self.curves {
            draw_line(
                &mut svg,
                &frame,
                curve,
                viridis(share(curve.number, first, last)),
            );
        }
        self.draw_numbers(&mut svg, &frame, (first, last))?;
        Ok(svg)
    }

    fn numbers(&self) -> (usize, usize) {
        let numbers = || self.curves.iter().map(|curve| curve.number);
        (numbers().min().unwrap_or(0), numbers().max().unwrap_or(0))
    }

    fn draw_axes(&self, svg: &mut Svg, frame: &Frame) {
        let (width, height) = (frame.right - frame.left, frame.bottom - frame.top);
        for tick in &frame.y.axis.ticks {
            let y = frame.y_at(tick.value);
            svg.line((frame.left, y), (frame.right, y), GRID, 1.0);
            svg.line((frame.left - 5.0, y), (frame.left, y), INK, 1.0);
            svg.text(Text {
                anchor: Anchor::End,
                ..Text::new(
                    &tick.label,
                    frame.left - 8.0,
                    y + TICK_SIZE * 0.36,
                    TICK_SIZE,
                )
            });
        }
        for tick in &frame.x.axis.ticks {
            let x = frame.x_at(tick.value);
            svg.line((x, frame.bottom), (x, frame.bottom + 5.0), INK, 1.0);
            svg.text(Text {
                anchor: Anchor::Middle,
                ..Text::new(&tick.label, x, frame.bottom + 8.0 + TICK_SIZE, TICK_SIZE)
            });
        }
        svg.frame(frame.left, frame.top, width, height, INK);
        let x_label = fit(&self.x_label, LABEL_SIZE, false, width);
        svg.text(Text {
            anchor: Anchor::Middle,
            ..Text::new(
                &x_label,
                frame.left + width / 2.0,
                HEIGHT - MARGIN,
                LABEL_SIZE,
            )
        });
        let y_label = fit(&self.y_label, LABEL_SIZE, false, height);
        svg.text(Text {
            anchor: Anchor::Middle,
            upwards: true,
            ..Text::new(
                &y_label,
                MARGIN + LABEL_SIZE,
                frame.top + height / 2.0,
                LABEL_SIZE,
            )
        });
    }

    /// The scale of colours.
    fn draw_numbers(
        &self,
        svg: &mut Svg,
        frame: &Frame,
        (first, last): (usize, usize),
    ) -> Result<()> {
        let x = frame.right + 22.0;
        let label = fit(&self.number_label, TICK_SIZE, false, BAR_ROOM - 22.0);
        svg.text(Text::new(&label, x, frame.top + TICK_SIZE, TICK_SIZE));
        let (low, high) = (first as f64, last as f64);
        let mut bar = Axis {
            low,
            high,
            ticks: ticks::integers(low, high, 8),
        };
        if first == last {
            // One colour, in the middle of nothing else.
            (bar.low, bar.high) = (low - 1.0, high + 1.0);
            bar.ticks.retain(|tick| tick.value == low);
        }
        let top = frame.top + TICK_SIZE + 10.0;
        draw_bar(svg, &bar, "", (x, top), frame.bottom - top)
    }
}

/// Where a number lies between two; in the middle if they are one.
fn share(number: usize, first: usize, last: usize) -> f64 {
    if first == last {
        return 0.5;
    }
    (number - first) as f64 / (last - first) as f64
}

/// An axis.
struct Scale {
    axis: Axis,
    log: bool,
}

impl Scale {
    fn of_y(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (low, high) = range(values);
        let log = low > 0.0 && (high / low).log10() > DECADES;
        let axis = if log {
            ticks::log(low, high)
        } else {
            ticks::linear(low, high, 6)
        };
        Self { axis, log }
    }

    /// From the first to the last value, with 0 apart where the axis is logarithmic.
    fn of_x(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (low, high) = range(values.clone());
        let (least, _) = range(values.filter(|value| *value > 0.0));
        let log = least > 0.0 && (high / least).log10() > DECADES;
        if !log {
            let axis = ticks::linear_inside(low, high, 8);
            return Self { axis, log };
        }
        let mut axis = ticks::log(least, high);
        axis.ticks
            .retain(|tick| (least..=high).contains(&tick.value));
        (axis.low, axis.high) = (least, high);
        if low <= 0.0 {
            axis.low = least / 10f64.powf(ZERO_ROOM);
            axis.ticks.push(Tick {
                value: 0.0,
                label: "0".to_owned(),
            });
        }
        Self { axis, log }
    }

    /// Share of the axis.
    fn share(&self, value: f64) -> f64 {
        let Axis { low, high, .. } = self.axis;
        let share = if self.log {
            (value.max(low) / low).log10() / (high / low).log10()
        } else {
            (value - low) / (high - low)
        };
        // Equal ends leave no number.
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.5
        }
    }
}

/// The least and the largest; 0 and 0 of none.
fn range(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let low = finite.clone().fold(f64::INFINITY, f64::min);
    let high = finite.fold(f64::NEG_INFINITY, f64::max);
    if low <= high { (low, high) } else { (0.0, 0.0) }
}

/// The rectangle of the curves.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x: Scale,
    y: Scale,
}

impl Frame {
    fn x_at(&self, x: f64) -> f64 {
        self.left + INSET + self.x.share(x) * (self.right - self.left - 2.0 * INSET)
    }

    fn y_at(&self, y: f64) -> f64 {
        self.bottom - INSET - self.y.share(y) * (self.bottom - self.top - 2.0 * INSET)
    }
}

/// On a logarithmic axis 0 lies apart, and no line leads there.
fn apart(frame: &Frame, x: f64) -> bool {
    frame.x.log && x <= 0.0
}

fn finite(points: &[(f64, f64)]) -> impl Iterator<Item = &(f64, f64)> {
    let finite = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
    points.iter().filter(finite)
}

/// What was measured, in a tint, so that the line above it is seen.
fn draw_points(svg: &mut Svg, frame: &Frame, curve: &Curve, color: [u8; 3]) {
    let tint = hex(color.map(|part| part / 2 + 127));
    let radius = if curve.points.len() > MANY { 1.6 } else { 2.6 };
    for (x, y) in finite(&curve.points) {
        let fill = if apart(frame, *x) { "#ffffff" } else { &tint };
        svg.circle(frame.x_at(*x), frame.y_at(*y), radius, fill, &tint);
    }
}

fn draw_line(svg: &mut Svg, frame: &Frame, curve: &Curve, color: [u8; 3]) {
    let low = frame.x.axis.low;
    let shown = |(x, _): &&(f64, f64)| !apart(frame, *x) && (!frame.x.log || *x >= low);
    let line: Vec<(f64, f64)> = finite(&curve.line)
        .filter(shown)
        .map(|(x, y)| (frame.x_at(*x), frame.y_at(*y)))
        .collect();
    if line.len() > 1 {
        svg.polyline(&line, &hex(color), 1.8);
    }
}

fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)]) -> CurveChart {
        CurveChart {
            x_label: "step".to_owned(),
            y_label: "value".to_owned(),
            number_label: "layer".to_owned(),
            curves: vec![Curve {
                number: 3,
                points: points.to_vec(),
                line: points.to_vec(),
            }],
        }
    }

    #[test]
    fn an_axis_over_decades_is_logarithmic_and_has_zero_apart() {
        let x = Scale::of_x([0.0, 1.0, 10.0, 1e5].into_iter());
        assert!(x.log);
        let shares = [0.0, 1.0, 10.0, 1e5].map(|value| x.share(value));
        assert!(
            shares.is_sorted() && shares[0] == 0.0 && shares[3] == 1.0,
            "{shares:?}"
        );
        assert!(shares[1] > 0.05, "{shares:?}");
        assert!(x.axis.ticks.iter().any(|tick| tick.label == "0"));
        assert!(!Scale::of_x([1000.0, 2000.0].into_iter()).log);
        assert!(!Scale::of_y([-5.0, 2000.0].into_iter()).log);
        assert!(Scale::of_y([0.1, 2000.0].into_iter()).log);
    }

    #[test]
    fn draws_whatever_there_is() {
        for points in [
            &[][..],
            &[(0.0, 0.0)],
            &[(5.0, 7.0)],
            &[(0.0, 1.0), (1e6, 1e6)],
            &[(1.0, f64::NAN), (2.0, 3.0)],
            &[(1.0, 3.0), (2.0, 3.0)],
        ] {
            let svg = CurveChart::column("title", &[chart(points)]).expect("drawn");
            assert!(
                !svg.contains("NaN") && !svg.contains("inf"),
                "{points:?}: {svg}"
            );
        }
    }
}
