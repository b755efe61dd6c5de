//! The pixels of a page.

use image::RgbaImage;
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Ref};
use resvg::tiny_skia::Transform;
use resvg::usvg::{Image, ImageKind};

use super::{Numbers, deflated, matrix};
use crate::error::{Error, Result};

/// The pictures of a page, in their order.
#[derive(Default)]
pub(super) struct Images(Vec<RgbaImage>);

impl Images {
    /// Draws a picture, which is a PNG.
    pub(super) fn draw(&mut self, picture: &Image, content: &mut Content) -> Result<()> {
        let ImageKind::PNG(data) = picture.kind() else {
            return Err(Error::new(
                "figure",
                "a PDF of pictures other than PNG is not supported",
            ));
        };
        let decoded = image::load_from_memory(data).map_err(|e| Error::new("figure", e))?;
        let (width, height) = (picture.size().width(), picture.size().height());
        // PDF draws pictures into the unit square, whose y axis points upwards.
        let square = Transform::from_row(width, 0.0, 0.0, -height, 0.0, height);
        content
            .save_state()
            .transform(matrix(picture.abs_transform().pre_concat(square)))
            .x_object(Name(name(self.0.len()).as_bytes()))
            .restore_state();
        self.0.push(decoded.to_rgba8());
        Ok(())
    }

    /// Writes the pictures; returns their names in the resources.
    pub(super) fn write(self, pdf: &mut Pdf, numbers: &mut Numbers) -> Result<Vec<(String, Ref)>> {
        let mut written = Vec::new();
        for (index, picture) in self.0.into_iter().enumerate() {
            let id = numbers.next();
            let (width, height) = (picture.width() as i32, picture.height() as i32);
            let (colours, alpha): (Vec<[u8; 3]>, Vec<u8>) = picture
                .pixels()
                .map(|pixel| {
                    let [r, g, b, alpha] = pixel.0;
                    ([r, g, b], alpha)
                })
                .unzip();
            let opaque = alpha.iter().all(|alpha| *alpha == u8::MAX);
            let mask = (!opaque).then(|| numbers.next());
            let packed = deflated(colours.as_flattened())?;
            let mut object = pdf.image_xobject(id, &packed);
            object.filter(Filter::FlateDecode);
            object.width(width).height(height).bits_per_component(8);
            object.color_space().device_rgb();
            if let Some(mask) = mask {
                object.s_mask(mask);
            }
            object.finish();
            if let Some(mask) = mask {
                let packed = deflated(&alpha)?;
                let mut object = pdf.image_xobject(mask, &packed);
                object.filter(Filter::FlateDecode);
                object.width(width).height(height).bits_per_component(8);
                object.color_space().device_gray();
                object.finish();
            }
            written.push((name(index), id));
        }
        Ok(written)
    }
}

fn name(index: usize) -> String {
    format!("I{index}")
}
