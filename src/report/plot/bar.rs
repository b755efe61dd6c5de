//! Colour bars: what the colours of a map mean.

use image::ExtendedColorType;

use super::colour::viridis;
use super::font::{fit, text_width};
use super::palette::INK;
use super::raster::encode_png;
use super::svg::{Anchor, Svg, Text};
use super::ticks::Axis;
use crate::error::Result;

const BAR_WIDTH: f64 = 10.0;
const TICK_SIZE: f64 = 12.0;
const TICK_ROOM: f64 = 46.0;
const LABEL_SIZE: f64 = 13.0;

/// A bar with its ticks and its label.
pub(super) const WIDTH: f64 = BAR_WIDTH + TICK_ROOM + LABEL_SIZE + 12.0;

/// Draws a bar from its upper left corner downwards, with the label beside the ticks.
pub(super) fn draw_bar(
    svg: &mut Svg,
    axis: &Axis,
    label: &str,
    (x, y): (f64, f64),
    height: f64,
) -> Result<()> {
    const STEPS: usize = 128;
    let pixels: Vec<u8> = (0..STEPS)
        .rev()
        .flat_map(|step| viridis(step as f64 / (STEPS - 1) as f64))
        .collect();
    let png = encode_png(&pixels, 1, STEPS as u32, ExtendedColorType::Rgb8)?;
    svg.pixels(x, y, BAR_WIDTH, height, &png);
    svg.frame(x, y, BAR_WIDTH, height, INK);
    let mut widest = 0.0f64;
    for tick in &axis.ticks {
        let at = y + height * (axis.high - tick.value) / (axis.high - axis.low);
        let right = x + BAR_WIDTH;
        svg.line((right, at), (right + 3.0, at), INK, 1.0);
        let label = fit(&tick.label, TICK_SIZE, false, TICK_ROOM);
        widest = widest.max(text_width(&label, TICK_SIZE, false));
        svg.text(Text::new(
            &label,
            right + 5.0,
            at + TICK_SIZE * 0.36,
            TICK_SIZE,
        ));
    }
    svg.text(Text {
        anchor: Anchor::Middle,
        upwards: true,
        ..Text::new(
            &fit(label, LABEL_SIZE, false, height.max(60.0)),
            x + BAR_WIDTH + 5.0 + widest + 4.0 + LABEL_SIZE,
            y + height / 2.0,
            LABEL_SIZE,
        )
    });
    Ok(())
}
