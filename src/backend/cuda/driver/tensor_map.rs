//! Tensor maps, as the driver encodes them.

use cudarc::driver::{result::DriverError, sys};

use crate::{
    backend::cuda::device::{Boxes, Swizzle, TensorMap},
    model::dtype::DType,
};

/// The map of these boxes, with zeros outside the tensor.
pub(super) fn encode(boxes: &Boxes<'_>) -> Result<TensorMap, DriverError> {
    use sys::{
        CUtensorMapDataType_enum as Type, CUtensorMapFloatOOBfill_enum as Fill,
        CUtensorMapInterleave_enum as Interleave, CUtensorMapL2promotion_enum as Promotion,
        CUtensorMapSwizzle_enum as Pattern,
    };
    let axes = boxes.sizes.len();
    if !(2..=4).contains(&axes) || boxes.strides.len() != axes - 1 || boxes.box_sizes.len() != axes
    {
        return Err(DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE));
    }
    let dtype = match boxes.dtype {
        DType::BFloat16 => Type::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
        DType::Float16 => Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        DType::Float32 => return Err(DriverError(sys::CUresult::CUDA_ERROR_INVALID_VALUE)),
    };
    let swizzle = match boxes.swizzle {
        Swizzle::None => Pattern::CU_TENSOR_MAP_SWIZZLE_NONE,
        Swizzle::Bytes32 => Pattern::CU_TENSOR_MAP_SWIZZLE_32B,
        Swizzle::Bytes64 => Pattern::CU_TENSOR_MAP_SWIZZLE_64B,
        Swizzle::Bytes128 => Pattern::CU_TENSOR_MAP_SWIZZLE_128B,
    };
    let long = |values: &[usize]| -> Vec<u64> { values.iter().map(|&size| size as u64).collect() };
    let sizes = long(boxes.sizes);
    let strides = long(boxes.strides);
    let box_sizes: Vec<u32> = boxes.box_sizes.iter().map(|&size| size as u32).collect();
    let steps = [1u32; 4];
    let mut map = sys::CUtensorMap { opaque: [0; 16] };
    // SAFETY: the lists have as many numbers as there are axes, one less of strides; the map is 64-byte
    // aligned, and the tensor's address is only written into it.
    let result = unsafe {
        sys::cuTensorMapEncodeTiled(
            &raw mut map,
            dtype,
            axes as u32,
            boxes.address.0 as *mut _,
            sizes.as_ptr(),
            strides.as_ptr(),
            box_sizes.as_ptr(),
            steps.as_ptr(),
            Interleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle,
            Promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            Fill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    result.result()?;
    Ok(TensorMap(map.opaque))
}
