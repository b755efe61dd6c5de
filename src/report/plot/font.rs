//! The embedded fonts and the width of text set in them.

use std::sync::{Arc, OnceLock};

use resvg::usvg::fontdb;
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

use crate::report::visible::visible;

/// First choice of figures; browsers without it fall back to a font that runs no wider.
pub(super) const FAMILY: &str = "DejaVu Sans";

const REGULAR: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans.subset.ttf");
const BOLD: &[u8] = include_bytes!("../../../assets/fonts/DejaVuSans-Bold.subset.ttf");

/// Width in em of characters that the fonts lack: ideographs and emoji are about square.
const UNKNOWN_EM: f64 = 1.0;

/// The fonts for rendering; parsed once.
pub(super) fn database() -> Arc<fontdb::Database> {
    static DATABASE: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    DATABASE
        .get_or_init(|| {
            let mut database = fontdb::Database::new();
            database.load_font_data(REGULAR.to_vec());
            database.load_font_data(BOLD.to_vec());
            database.set_sans_serif_family(FAMILY);
            Arc::new(database)
        })
        .clone()
}

/// Width of `text` at `size`, without kerning.
pub(super) fn text_width(text: &str, size: f64, bold: bool) -> f64 {
    // As it is drawn.
    visible(text).chars().map(|c| char_em(c, bold)).sum::<f64>() * size
}

/// `text`, shortened with an ellipsis where it exceeds `width`.
pub(super) fn fit(text: &str, size: f64, bold: bool, width: f64) -> String {
    let text = visible(text);
    if text_width(&text, size, bold) <= width {
        return text.into_owned();
    }
    let mut left = width / size - char_em('…', bold);
    let mut short: String = text
        .chars()
        .take_while(|&c| {
            left -= char_em(c, bold);
            left >= 0.0
        })
        .collect();
    short.push('…');
    short
}

/// Units of the em square, which both faces share.
pub(super) fn units_per_em() -> f32 {
    static UNITS: OnceLock<f32> = OnceLock::new();
    *UNITS.get_or_init(|| {
        let font = FontRef::new(REGULAR).ok();
        let metrics = font.map(|font| font.metrics(Size::unscaled(), LocationRef::default()));
        metrics.map_or(1000.0, |metrics| f32::from(metrics.units_per_em))
    })
}

fn char_em(c: char, bold: bool) -> f64 {
    static TABLES: OnceLock<[Option<FontRef<'static>>; 2]> = OnceLock::new();
    let tables = TABLES.get_or_init(|| [FontRef::new(REGULAR).ok(), FontRef::new(BOLD).ok()]);
    let Some(font) = &tables[usize::from(bold)] else {
        return UNKNOWN_EM;
    };
    let Some(glyph) = font.charmap().map(c) else {
        return UNKNOWN_EM;
    };
    font.glyph_metrics(Size::new(1.0), LocationRef::default())
        .advance_width(glyph)
        .map_or(UNKNOWN_EM, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_the_embedded_fonts() {
        // Advance widths of DejaVu Sans: 0.318 em for the space, 0.6362 for digits.
        assert!((text_width(" ", 100.0, false) - 31.8).abs() < 0.1);
        assert!((text_width("00", 100.0, false) - 127.2).abs() < 0.1);
        assert!(text_width("abc", 10.0, true) > text_width("abc", 10.0, false));
        assert_eq!(text_width("模", 10.0, false), 10.0);
    }

    #[test]
    fn shortens_only_when_needed() {
        assert_eq!(fit("abc", 10.0, false, 100.0), "abc");
        let short = fit("abcdefghij", 10.0, false, 40.0);
        assert!(short.ends_with('…') && short.starts_with("abc"), "{short}");
        assert!(text_width(&short, 10.0, false) <= 40.0);
        assert_eq!(fit("abc", 10.0, false, 0.0), "…");
    }

    #[test]
    fn both_faces_are_there() {
        let names: Vec<_> = database()
            .faces()
            .map(|face| (face.families[0].0.clone(), face.weight.0))
            .collect();
        assert_eq!(names, [(FAMILY.to_owned(), 400), (FAMILY.to_owned(), 700)]);
    }
}
