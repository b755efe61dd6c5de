//! Looks at the figures that commands leave.

use std::path::Path;

/// The PNG decodes, the SVG parses, the PDF is one, all are of one shape and are not blank.
#[track_caller]
pub(crate) fn assert_pictures(folder: &Path, name: &str) {
    let png = std::fs::read(folder.join(format!("{name}.png"))).expect("the PNG");
    let image = image::load_from_memory(&png).expect("decodes").to_rgb8();
    let (width, height) = image.dimensions();
    assert!(
        (600..6000).contains(&width) && (400..6000).contains(&height),
        "{width} x {height}"
    );
    let paper = *image.get_pixel(0, 0);
    let ink = image.pixels().filter(|pixel| **pixel != paper).count();
    assert!(ink > 1000, "{ink} pixels of ink");

    let svg = std::fs::read_to_string(folder.join(format!("{name}.svg"))).expect("the SVG");
    let tree = resvg::usvg::Tree::from_str(&svg, &resvg::usvg::Options::default()).expect("parses");
    let shape = f64::from(tree.size().width()) / f64::from(tree.size().height());
    assert!(
        (shape - f64::from(width) / f64::from(height)).abs() < 0.01,
        "{shape}"
    );

    let pdf = std::fs::read(folder.join(format!("{name}.pdf"))).expect("the PDF");
    assert!(
        pdf.starts_with(b"%PDF-") && pdf.ends_with(b"%%EOF"),
        "{name}"
    );
    let text = String::from_utf8_lossy(&pdf);
    let page = text.split("/MediaBox [0 0 ").nth(1).expect("a page");
    let page = page.split(']').next().expect("closed");
    let sides: Vec<f64> = page
        .split(' ')
        .map(|side| side.parse().expect(page))
        .collect();
    assert!((shape - sides[0] / sides[1]).abs() < 0.01, "{page}");
}
