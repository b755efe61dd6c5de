//! The text of a page: which glyphs it uses, and the subsets of the fonts that have them.

use std::collections::BTreeMap;

use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str};
use resvg::tiny_skia::Transform;
use resvg::usvg::{Tree, fontdb, layout::PositionedGlyph};
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, GlyphId, MetadataProvider};
use subsetter::GlyphRemapper;

use super::{Numbers, deflated, matrix};
use crate::error::{Error, Result};
use crate::report::plot::font;

const CMAP: Name = Name(b"massact");
const IDENTITY: SystemInfo = SystemInfo {
    registry: Str(b"Adobe"),
    ordering: Str(b"Identity"),
    supplement: 0,
};

/// The fonts of a page.
#[derive(Default)]
pub(super) struct Fonts(BTreeMap<fontdb::ID, Used>);

/// The glyphs of a font that are used.
struct Used {
    /// In the page's resources.
    name: String,
    glyphs: GlyphRemapper,
    /// By the subset's glyph, the text it stands for.
    texts: BTreeMap<u16, String>,
    units_per_em: f32,
}

impl Fonts {
    /// Draws a glyph whose outline is `placed` on the page.
    pub(super) fn show(
        &mut self,
        glyph: &PositionedGlyph,
        placed: Transform,
        content: &mut Content,
    ) -> Result<()> {
        let count = self.0.len();
        let used = self.0.entry(glyph.font).or_insert_with(|| Used {
            name: format!("F{count}"),
            glyphs: GlyphRemapper::new(),
            texts: BTreeMap::new(),
            units_per_em: font::units_per_em(),
        });
        let id = used.glyphs.remap(u16::try_from(glyph.id.0).unwrap_or(0));
        // Glyph 0 stands for all that the font lacks.
        if id > 0 && !glyph.text.is_empty() {
            used.texts.entry(id).or_insert_with(|| glyph.text.clone());
        }
        let em = Transform::from_scale(used.units_per_em, used.units_per_em);
        content
            .set_font(Name(used.name.as_bytes()), 1.0)
            .set_text_matrix(matrix(placed.pre_concat(em)))
            .show(Str(&id.to_be_bytes()));
        Ok(())
    }

    /// Writes the subsets; returns their names in the resources.
    pub(super) fn write(
        self,
        tree: &Tree,
        pdf: &mut Pdf,
        numbers: &mut Numbers,
    ) -> Result<Vec<(String, Ref)>> {
        let fonts = self.0.into_iter().map(|(id, used)| {
            let about = tree.fontdb().face(id);
            let name = about.map_or("", |face| face.post_script_name.as_str());
            let written = tree.fontdb().with_face_data(id, |data, index| {
                used.write(name, (data, index), pdf, numbers)
            });
            let written = written.ok_or_else(|| fail("a font is not there"))?;
            Ok((used.name, written?))
        });
        fonts.collect()
    }
}

impl Used {
    fn write(
        &self,
        name: &str,
        (data, index): (&[u8], u32),
        pdf: &mut Pdf,
        numbers: &mut Numbers,
    ) -> Result<Ref> {
        let whole = FontRef::from_index(data, index).map_err(fail)?;
        let subset = subsetter::subset(data, index, &self.glyphs).map_err(fail)?;
        let name = format!("{}+{name}", tag(&subset));
        let [font, descendant, descriptor, file, unicode] = [(); 5].map(|()| numbers.next());
        pdf.type0_font(font)
            .base_font(Name(name.as_bytes()))
            .encoding_predefined(Name(b"Identity-H"))
            .descendant_font(descendant)
            .to_unicode(unicode);
        let metrics = whole.metrics(Size::unscaled(), LocationRef::default());
        let per_mille = |units: f32| units * 1000.0 / self.units_per_em;
        let advances = whole.glyph_metrics(Size::unscaled(), LocationRef::default());
        let widths = self.glyphs.remapped_gids().map(|glyph| {
            let width = advances.advance_width(GlyphId::new(u32::from(glyph)));
            per_mille(width.unwrap_or(0.0))
        });
        let mut cid = pdf.cid_font(descendant);
        cid.subtype(CidFontType::Type2)
            .base_font(Name(name.as_bytes()))
            .system_info(IDENTITY)
            .font_descriptor(descriptor)
            .default_width(0.0)
            .cid_to_gid_map_predefined(Name(b"Identity"));
        cid.widths().consecutive(0, widths);
        cid.finish();
        let bounds = metrics.bounds.unwrap_or_default();
        pdf.font_descriptor(descriptor)
            .name(Name(name.as_bytes()))
            .flags(FontFlags::SYMBOLIC)
            .bbox(Rect::new(
                per_mille(bounds.x_min),
                per_mille(bounds.y_min),
                per_mille(bounds.x_max),
                per_mille(bounds.y_max),
            ))
            .italic_angle(0.0)
            .ascent(per_mille(metrics.ascent))
            .descent(per_mille(metrics.descent))
            .cap_height(per_mille(metrics.cap_height.unwrap_or(metrics.ascent)))
            .stem_v(if name.ends_with("Bold") { 160.0 } else { 80.0 })
            .font_file2(file);
        let packed = deflated(&subset)?;
        pdf.stream(file, &packed)
            .filter(Filter::FlateDecode)
            .pair(Name(b"Length1"), subset.len() as i32);
        let mut map = UnicodeCmap::new(CMAP, IDENTITY);
        for (glyph, text) in &self.texts {
            map.pair_with_multiple(*glyph, text.chars());
        }
        let map = deflated(&map.finish())?;
        pdf.stream(unicode, &map).filter(Filter::FlateDecode);
        Ok(font)
    }
}

/// Six capitals that tell a subset from others of the same font.
fn tag(subset: &[u8]) -> String {
    let hash = blake3::hash(subset);
    let letters = hash.as_bytes().iter().take(6);
    letters.map(|byte| char::from(b'A' + byte % 26)).collect()
}

fn fail(reason: impl std::fmt::Display) -> Error {
    Error::new("figure", reason)
}
