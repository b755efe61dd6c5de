//! The room of a 3-D plot, in oblique projection.

use super::palette::{GRID, INK, WALL};
use super::svg::{Svg, Text};
use super::ticks;

/// Step on the page along the token axis, from the front left corner of the floor.
pub(super) const TOKENS: (f64, f64) = (212.0, 62.0);
/// Step along the dimension axis.
pub(super) const DIMENSIONS: (f64, f64) = (96.0, -88.0);
/// Step of the largest value.
const UP: f64 = -118.0;
/// Of the values.
const LABEL_SIZE: f64 = 12.0;

/// Where things of one plot are on the page.
pub(super) struct Scene {
    /// Front left corner of the floor.
    pub(super) corner: (f64, f64),
    /// Value at the top.
    pub(super) high: f64,
}

impl Scene {
    /// The page position of a share of the token axis, a share of the dimension axis and a value.
    pub(super) fn place(&self, along: f64, depth: f64, value: f64) -> (f64, f64) {
        (
            self.corner.0 + along * TOKENS.0 + depth * DIMENSIONS.0,
            self.corner.1 + along * TOKENS.1 + depth * DIMENSIONS.1 + value / self.high * UP,
        )
    }

    /// x of the floor's right edge at height `y` of the page.
    pub(super) fn edge_at(&self, y: f64) -> f64 {
        let (x, front) = self.place(1.0, 0.0, 0.0);
        let depth = ((y - front) / DIMENSIONS.1).clamp(0.0, 1.0);
        x + depth * DIMENSIONS.0
    }

    /// Floor, walls and the scale of the values.
    pub(super) fn draw_walls(&self, svg: &mut Svg, axis: &ticks::Axis) {
        let (low, high) = (0.0, axis.high);
        let at = |along, depth, value| self.place(along, depth, value);
        let left = [
            at(0.0, 0.0, low),
            at(0.0, 1.0, low),
            at(0.0, 1.0, high),
            at(0.0, 0.0, high),
        ];
        let back = [
            at(0.0, 1.0, low),
            at(1.0, 1.0, low),
            at(1.0, 1.0, high),
            at(0.0, 1.0, high),
        ];
        let floor = [
            at(0.0, 0.0, low),
            at(1.0, 0.0, low),
            at(1.0, 1.0, low),
            at(0.0, 1.0, low),
        ];
        for wall in [left, back, floor] {
            svg.area(&wall, WALL, 1.0);
        }
        for tick in &axis.ticks {
            let bend = [
                at(0.0, 0.0, tick.value),
                at(0.0, 1.0, tick.value),
                at(1.0, 1.0, tick.value),
            ];
            svg.polyline(&bend, GRID, 1.0);
            // The floor needs no label, and dimensions near the back have theirs there.
            if tick.value > 0.0 {
                let (x, y) = bend[2];
                svg.line((x, y), (x + 4.0, y), INK, 1.0);
                svg.text(Text::new(
                    &tick.label,
                    x + 7.0,
                    y + LABEL_SIZE * 0.36,
                    LABEL_SIZE,
                ));
            }
        }
        svg.polyline(
            &[at(0.0, 0.0, low), at(1.0, 0.0, low), at(1.0, 1.0, low)],
            INK,
            1.0,
        );
        svg.line(at(1.0, 1.0, low), at(1.0, 1.0, high), INK, 1.0);
    }
}

/// Leaves out points on the floor between points on the floor: most of a line, beside a massive
/// value.
pub(super) fn without_flat(outline: &[(f64, f64)], scene: &Scene, along: f64) -> Vec<(f64, f64)> {
    let (from, to) = (scene.place(along, 0.0, 0.0), scene.place(along, 1.0, 0.0));
    let flat = |index: usize| {
        outline.get(index).is_none_or(|(x, y)| {
            let floor = from.1 + (x - from.0) / (to.0 - from.0) * (to.1 - from.1);
            (floor - y).abs() < 0.15
        })
    };
    (0..outline.len())
        .filter(|index| !(flat(index.wrapping_sub(1)) && flat(*index) && flat(index + 1)))
        .map(|index| outline[index])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_line_keeps_its_spike() {
        let scene = Scene {
            corner: (0.0, 0.0),
            high: 1.0,
        };
        let outline: Vec<(f64, f64)> = (0..100)
            .map(|point| {
                let height = if point == 40 { 0.5 } else { 0.0 };
                scene.place(0.3, (point as f64 + 0.5) / 100.0, height)
            })
            .collect();
        let kept = without_flat(&outline, &scene, 0.3);
        assert_eq!(kept, outline[39..42]);
    }
}
