//! SVG to PDF: what the figures use of SVG, which is paths, pixels and text, drawn from the tree that
//! the PNG is made of. Text stays text, in subsets of the embedded fonts; equal figures are equal bytes.

mod fonts;
mod images;

use std::collections::BTreeMap;
use std::io::Write;

use flate2::{Compression, write::ZlibEncoder};
use pdf_writer::types::{LineCapStyle, LineJoinStyle};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, TextStr};
use resvg::tiny_skia::{PathSegment, Transform};
use resvg::usvg::{
    Color, FillRule, Group, LineCap, LineJoin, Node, Opacity, Paint, Path, Text, Tree,
};

use self::fonts::Fonts;
use self::images::Images;
use super::raster::parse;
use crate::error::{Error, Result};

/// Points of a page in a unit of SVG, which is 1/96 inch.
const POINTS: f32 = 0.75;

/// `svg` as a page of its own size, with `title` in its properties.
pub fn svg_to_pdf(svg: &str, title: &str) -> Result<Vec<u8>> {
    let tree = parse(svg)?;
    let mut page = Page {
        content: Content::new(),
        fonts: Fonts::default(),
        images: Images::default(),
        opacities: BTreeMap::new(),
    };
    let (width, height) = (tree.size().width(), tree.size().height());
    // The y axis of a page points upwards.
    page.content
        .transform([POINTS, 0.0, 0.0, -POINTS, 0.0, POINTS * height]);
    page.group(tree.root())?;
    page.finish(&tree, (POINTS * width, POINTS * height), title)
}

/// Numbers objects.
struct Numbers(i32);

impl Numbers {
    fn next(&mut self) -> Ref {
        self.0 += 1;
        Ref::new(self.0)
    }
}

/// A page being drawn, and what it needs.
struct Page {
    content: Content,
    fonts: Fonts,
    images: Images,
    /// By opacity, in percent: its name.
    opacities: BTreeMap<u8, String>,
}

impl Page {
    fn group(&mut self, group: &Group) -> Result<()> {
        for node in group.children() {
            match node {
                Node::Group(group) => self.group(group)?,
                Node::Path(path) => self.path(path)?,
                Node::Image(image) => self.images.draw(image, &mut self.content)?,
                Node::Text(text) => self.text(text)?,
            }
        }
        Ok(())
    }

    fn path(&mut self, path: &Path) -> Result<()> {
        if !path.is_visible() {
            return Ok(());
        }
        self.content.save_state();
        self.content.transform(matrix(path.abs_transform()));
        let opacities = (
            path.fill().map(|fill| fill.opacity()),
            path.stroke().map(|stroke| stroke.opacity()),
        );
        self.opacity(opacities.0.or(opacities.1));
        if let Some(fill) = path.fill() {
            let [r, g, b] = rgb(fill.paint())?;
            self.content.set_fill_rgb(r, g, b);
        }
        if let Some(stroke) = path.stroke() {
            let [r, g, b] = rgb(stroke.paint())?;
            self.content
                .set_stroke_rgb(r, g, b)
                .set_line_width(stroke.width().get())
                .set_line_cap(match stroke.linecap() {
                    LineCap::Butt => LineCapStyle::ButtCap,
                    LineCap::Round => LineCapStyle::RoundCap,
                    LineCap::Square => LineCapStyle::ProjectingSquareCap,
                })
                .set_line_join(match stroke.linejoin() {
                    LineJoin::Round => LineJoinStyle::RoundJoin,
                    LineJoin::Bevel => LineJoinStyle::BevelJoin,
                    LineJoin::Miter | LineJoin::MiterClip => LineJoinStyle::MiterJoin,
                });
        }
        self.outline(path);
        let even_odd = path.fill().is_some_and(|f| f.rule() == FillRule::EvenOdd);
        match (path.fill().is_some(), path.stroke().is_some(), even_odd) {
            (true, true, false) => self.content.fill_nonzero_and_stroke(),
            (true, true, true) => self.content.fill_even_odd_and_stroke(),
            (true, false, false) => self.content.fill_nonzero(),
            (true, false, true) => self.content.fill_even_odd(),
            (false, true, _) => self.content.stroke(),
            (false, false, _) => self.content.end_path(),
        };
        self.content.restore_state();
        Ok(())
    }

    fn outline(&mut self, path: &Path) {
        let content = &mut self.content;
        let mut from = (0.0, 0.0);
        for segment in path.data().segments() {
            from = match segment {
                PathSegment::MoveTo(p) => {
                    content.move_to(p.x, p.y);
                    (p.x, p.y)
                }
                PathSegment::LineTo(p) => {
                    content.line_to(p.x, p.y);
                    (p.x, p.y)
                }
                PathSegment::QuadTo(c, p) => {
                    // PDF has cubic curves only.
                    let between = |end: f32, c: f32| end + (c - end) * 2.0 / 3.0;
                    content.cubic_to(
                        between(from.0, c.x),
                        between(from.1, c.y),
                        between(p.x, c.x),
                        between(p.y, c.y),
                        p.x,
                        p.y,
                    );
                    (p.x, p.y)
                }
                PathSegment::CubicTo(a, b, p) => {
                    content.cubic_to(a.x, a.y, b.x, b.y, p.x, p.y);
                    (p.x, p.y)
                }
                PathSegment::Close => {
                    content.close_path();
                    from
                }
            };
        }
    }

    fn text(&mut self, text: &Text) -> Result<()> {
        for span in text.layouted().iter().filter(|span| span.visible) {
            let Some(fill) = &span.fill else {
                continue;
            };
            let [r, g, b] = rgb(fill.paint())?;
            self.content.save_state();
            self.opacity(Some(fill.opacity()));
            self.content.set_fill_rgb(r, g, b).begin_text();
            for glyph in &span.positioned_glyphs {
                let placed = text.abs_transform().pre_concat(glyph.outline_transform());
                self.fonts.show(glyph, placed, &mut self.content)?;
            }
            self.content.end_text().restore_state();
        }
        Ok(())
    }

    fn opacity(&mut self, opacity: Option<Opacity>) {
        let percent = opacity.map_or(100, |opacity| (100.0 * opacity.get()).round() as u8);
        if percent < 100 {
            let name = self.opacities.entry(percent);
            let name = name.or_insert_with(|| format!("A{percent}"));
            self.content.set_parameters(Name(name.as_bytes()));
        }
    }

    fn finish(self, tree: &Tree, (width, height): (f32, f32), title: &str) -> Result<Vec<u8>> {
        let mut pdf = Pdf::new();
        let mut numbers = Numbers(0);
        let [catalog, pages, page_id, content_id, info] = [(); 5].map(|()| numbers.next());
        pdf.catalog(catalog).pages(pages);
        pdf.pages(pages).kids([page_id]).count(1);
        pdf.document_info(info)
            .title(TextStr(title))
            .producer(TextStr("massact"));
        let fonts = self.fonts.write(tree, &mut pdf, &mut numbers)?;
        let images = self.images.write(&mut pdf, &mut numbers)?;
        let mut opacities = Vec::new();
        for (percent, name) in self.opacities {
            let id = numbers.next();
            let share = f32::from(percent) / 100.0;
            pdf.ext_graphics(id)
                .non_stroking_alpha(share)
                .stroking_alpha(share);
            opacities.push((name, id));
        }
        let content = deflated(&self.content.finish())?;
        pdf.stream(content_id, &content).filter(Filter::FlateDecode);
        let mut page = pdf.page(page_id);
        page.parent(pages)
            .media_box(Rect::new(0.0, 0.0, width, height))
            .contents(content_id);
        let mut resources = page.resources();
        let mut faces = resources.fonts();
        for (name, id) in &fonts {
            faces.pair(Name(name.as_bytes()), *id);
        }
        faces.finish();
        let mut objects = resources.x_objects();
        for (name, id) in &images {
            objects.pair(Name(name.as_bytes()), *id);
        }
        objects.finish();
        let mut states = resources.ext_g_states();
        for (name, id) in &opacities {
            states.pair(Name(name.as_bytes()), *id);
        }
        states.finish();
        resources.finish();
        page.finish();
        Ok(pdf.finish())
    }
}

/// Of figures, which have nothing but plain colours.
fn rgb(paint: &Paint) -> Result<[f32; 3]> {
    match paint {
        Paint::Color(Color { red, green, blue }) => {
            Ok([*red, *green, *blue].map(|part| f32::from(part) / 255.0))
        }
        _ => Err(Error::new("figure", "a PDF of patterns is not supported")),
    }
}

fn matrix(transform: Transform) -> [f32; 6] {
    let t = transform;
    [t.sx, t.ky, t.kx, t.sy, t.tx, t.ty]
}

fn deflated(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|error| Error::new("figure", error))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::ZlibDecoder;

    use super::*;
    use crate::report::plot::{Heatmap, HeatmapGrid, LineChart, Marker, Scale, Series, palette};

    fn chart() -> String {
        let chart = LineChart {
            title: "Modell é".into(),
            x_label: "Layer".into(),
            y_label: "Magnitude".into(),
            series: vec![Series {
                label: "top-1".into(),
                color: palette::BLUE,
                marker: Marker::Circle,
                points: (0..6).map(|x| (f64::from(x), f64::from(x * x))).collect(),
            }],
            y_scale: Scale::Linear,
            highlight: None,
        };
        chart.to_svg()
    }

    /// The streams of a PDF, unpacked.
    fn streams(pdf: &[u8]) -> Vec<Vec<u8>> {
        let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|w| w == what);
        let mut rest = pdf;
        let mut found = Vec::new();
        while let Some(at) = find(rest, b"\nstream\n") {
            rest = &rest[at + 8..];
            let end = find(rest, b"\nendstream").expect("closed");
            let mut unpacked = Vec::new();
            let read = ZlibDecoder::new(&rest[..end]).read_to_end(&mut unpacked);
            read.expect("deflated");
            found.push(unpacked);
            rest = &rest[end..];
        }
        found
    }

    #[test]
    fn text_stays_text_in_an_embedded_subset() {
        let pdf = svg_to_pdf(&chart(), "a title").expect("a PDF");
        assert!(pdf.starts_with(b"%PDF-1.7"));
        let text = String::from_utf8_lossy(&pdf);
        for part in ["+DejaVuSans", "+DejaVuSans-Bold", "/FontFile2", "(a title)"] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("Date"), "equal figures are equal bytes");
        // All in one dictionary: of two, readers see one.
        assert_eq!(text.matches("/Font <<").count(), 1);
        assert!(text.contains("/F0 ") && text.contains("/F1 "));
        // Its letters can be found and copied: é is U+00E9.
        let maps = streams(&pdf);
        let maps = maps.iter().filter_map(|s| std::str::from_utf8(s).ok());
        let maps: String = maps.filter(|s| s.contains("begincmap")).collect();
        assert!(maps.contains("<00E9>") && maps.contains("<004D>"), "{maps}");
        // The whole fonts are ten times as large.
        assert!(pdf.len() < 60_000, "{}", pdf.len());
    }

    #[test]
    fn equal_figures_are_equal_bytes() {
        let [one, two] = [(); 2].map(|()| svg_to_pdf(&chart(), "x").expect("a PDF"));
        assert!(one == two);
        assert!(one != svg_to_pdf(&chart(), "y").expect("a PDF"));
    }

    #[test]
    fn the_page_has_the_figures_shape() {
        let svg = r##"<svg xmlns="http://www.w3.org/2000/svg" width="200" height="100"><rect width="10" height="10" fill="#ff0000" fill-opacity="0.65"/></svg>"##;
        let pdf = svg_to_pdf(svg, "").expect("a PDF");
        let text = String::from_utf8_lossy(&pdf);
        assert!(text.contains("/MediaBox [0 0 150 75]"), "{text}");
        let drawn = String::from_utf8(streams(&pdf).swap_remove(0)).expect("ASCII");
        assert!(
            drawn.contains("1 0 0 rg") && drawn.contains("/A65 gs"),
            "{drawn}"
        );
        assert!(text.contains("/ca 0.65"), "{text}");
    }

    /// Blank cells are not black ones.
    #[test]
    fn pixels_keep_their_transparency() {
        let grid = HeatmapGrid {
            title: "maps".into(),
            note: String::new(),
            maps: vec![Heatmap::new("one".into(), &[1.0, f32::NAN, 2.0, 3.0], 2, 2)],
            row_labels: vec!["a".into(), "b".into()],
            column_labels: vec!["a".into(), "b".into()],
            emphasised: Default::default(),
            bright: Default::default(),
            bar_label: "logit".into(),
            shared: false,
        };
        let pdf = svg_to_pdf(&grid.to_svg().expect("an SVG"), "").expect("a PDF");
        let text = String::from_utf8_lossy(&pdf);
        assert_eq!(text.matches("/SMask").count(), 1, "the map, not its bar");
        assert!(streams(&pdf).contains(&vec![255, 0, 255, 255]));
        assert!(svg_to_pdf("<svg", "").is_err());
    }
}
