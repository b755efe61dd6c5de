//! Tensor maps, as `cpp/tensor_map.h` reads them; refused where the driver would refuse.

use massact::{
    Error, Result,
    backend::cuda::{Boxes, Swizzle, TensorMap},
    model::dtype::DType,
};

/// `EncodedTensorMap` of `cpp/tensor_map.h`, in the first bytes of a map.
const MAGIC: u64 = 0x7a;

/// The map of these boxes.
pub(crate) fn encode(boxes: &Boxes<'_>) -> Result<TensorMap> {
    let refuse = |reason: String| Err(Error::new("tensor map", reason));
    let axes = boxes.sizes.len();
    if !(2..=4).contains(&axes) || boxes.strides.len() != axes - 1 || boxes.box_sizes.len() != axes
    {
        return refuse(format!("{axes} axes, or not as many strides and box sizes"));
    }
    if boxes.dtype == DType::Float32 {
        return refuse("of float32".to_owned());
    }
    if !boxes.address.0.is_multiple_of(16) || boxes.strides.iter().any(|step| step % 16 != 0) {
        return refuse(format!(
            "address {:#x} or strides {:?} not 16-byte aligned",
            boxes.address.0, boxes.strides
        ));
    }
    if boxes
        .sizes
        .iter()
        .any(|&size| size == 0 || size > u32::MAX as usize)
        || boxes.box_sizes.iter().any(|&size| size == 0 || size > 256)
    {
        return refuse(format!(
            "boxes of {:?} of {:?}",
            boxes.box_sizes, boxes.sizes
        ));
    }
    let row = boxes.box_sizes[0] * boxes.dtype.size();
    let (units, span) = match boxes.swizzle {
        Swizzle::None => (1, row),
        Swizzle::Bytes32 => (2, 32),
        Swizzle::Bytes64 => (4, 64),
        Swizzle::Bytes128 => (8, 128),
    };
    // The driver takes narrower rows, too, which nobody has.
    if !row.is_multiple_of(16) || row != span {
        return refuse(format!("rows of {row} bytes for {:?}", boxes.swizzle));
    }
    let size = |axis: usize| boxes.sizes.get(axis).map_or(1, |&size| size as u64);
    let stride = |axis: usize| boxes.strides.get(axis).map_or(0, |&step| step as u64);
    let side = |axis: usize| boxes.box_sizes.get(axis).map_or(1, |&size| size as u64);
    let mut words = [0; 16];
    words[0] = boxes.address.0;
    words[1] = size(0) | size(1) << 32;
    words[2] = size(2) | size(3) << 32;
    words[3..6].copy_from_slice(&[stride(0), stride(1), stride(2)]);
    words[6] = side(0) | side(1) << 16 | side(2) << 32 | side(3) << 48;
    words[7] = axes as u64 | (boxes.dtype.size() as u64) << 8 | units << 16 | MAGIC << 24;
    Ok(TensorMap(words))
}
