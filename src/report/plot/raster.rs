//! SVG to PNG.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use super::font;
use crate::error::{Error, Result};

/// Pixels across a figure that is not so wide anyway: sharp on a dense screen and in print.
const WIDTH: f64 = 1600.0;
/// Least and most pixels per unit of a figure.
const SCALES: (f64, f64) = (2.0, 3.0);

/// Larger pictures are rendered at a smaller scale: viewers and web pages choke on more.
const MAX_PIXELS: f64 = 36e6;

/// `svg` as shapes and glyphs of the embedded fonts.
pub(super) fn parse(svg: &str) -> Result<Tree> {
    let options = Options {
        fontdb: font::database(),
        font_family: font::FAMILY.into(),
        ..Options::default()
    };
    Tree::from_str(svg, &options).map_err(|error| Error::new("figure", error))
}

/// Renders a figure in print quality.
pub fn figure_png(svg: &str) -> Result<Vec<u8>> {
    let tree = parse(svg)?;
    let width = f64::from(tree.size().width());
    render(&tree, (WIDTH / width).clamp(SCALES.0, SCALES.1))
}

/// Renders `svg` at `scale` pixels per unit, on white.
pub fn svg_to_png(svg: &str, scale: f64) -> Result<Vec<u8>> {
    render(&parse(svg)?, scale)
}

fn render(tree: &Tree, scale: f64) -> Result<Vec<u8>> {
    let (width, height) = (
        f64::from(tree.size().width()),
        f64::from(tree.size().height()),
    );
    let scale = scale.min((MAX_PIXELS / (width * height)).sqrt());
    let pixels = |length: f64| ((length * scale).round().max(1.0)) as u32;
    let mut pixmap = Pixmap::new(pixels(width), pixels(height))
        .ok_or_else(|| Error::new("figure", "too large to be drawn"))?;
    pixmap.fill(resvg::tiny_skia::Color::WHITE);
    resvg::render(
        tree,
        Transform::from_scale(scale as f32, scale as f32),
        &mut pixmap.as_mut(),
    );
    // On a white ground every pixel is opaque, so that alpha can be dropped.
    let rgb: Vec<u8> = pixmap
        .data()
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    encode_png(
        &rgb,
        pixmap.width(),
        pixmap.height(),
        ExtendedColorType::Rgb8,
    )
}

/// Encodes raw pixels.
pub fn encode_png(
    pixels: &[u8],
    width: u32,
    height: u32,
    colour: ExtendedColorType,
) -> Result<Vec<u8>> {
    let mut png = Vec::new();
    PngEncoder::new_with_quality(&mut png, CompressionType::Default, FilterType::Adaptive)
        .write_image(pixels, width, height, colour)
        .map_err(|error| Error::new("figure", error))?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(png: &[u8]) -> image::RgbImage {
        image::load_from_memory(png).unwrap().to_rgb8()
    }

    #[test]
    fn renders_at_scale_and_caps_the_size() {
        let svg = r##"<svg xmlns="http://www.w3.org/2000/svg" width="20" height="10"><rect width="10" height="10" fill="#ff0000"/></svg>"##;
        let picture = decode(&svg_to_png(svg, 2.0).unwrap());
        assert_eq!(picture.dimensions(), (40, 20));
        assert_eq!(picture.get_pixel(5, 5).0, [255, 0, 0]);
        assert_eq!(picture.get_pixel(35, 5).0, [255, 255, 255]);
        let large = decode(&svg_to_png(svg, 1e6).unwrap());
        assert!(f64::from(large.width() * large.height()) <= MAX_PIXELS * 1.001);
    }

    #[test]
    fn text_is_drawn_with_the_embedded_font() {
        let dark = |text: &str| {
            let svg = format!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" width="200" height="40" font-family="'DejaVu Sans', sans-serif"><text x="5" y="30" font-size="24">{text}</text></svg>"#
            );
            let picture = decode(&svg_to_png(&svg, 1.0).unwrap());
            picture.pixels().filter(|pixel| pixel.0[0] < 128).count()
        };
        assert!(dark("Layer αβ →") > 100);
        assert_eq!(dark(""), 0);
        // Glyphs the font lacks must not fail the figure.
        dark("模型 🙂 \u{10ffff}");
    }

    #[test]
    fn broken_svg_is_an_error() {
        let error = svg_to_png("<svg", 1.0).unwrap_err().to_string();
        assert!(error.starts_with("figure: "), "{error}");
    }
}
