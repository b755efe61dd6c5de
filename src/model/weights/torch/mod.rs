//! PyTorch's own files of weights (`pytorch_model.bin`): a zip archive whose entries are stored as
//! they are, with a pickle that describes the tensors and a file of bytes a storage. The pickle is
//! read as data: of its functions only those that describe a tensor are known, and none is run.
//!
//! Memory follows from the description, which is small: the bytes of storages are not touched.
#![forbid(unsafe_code)]

mod pickle;
mod state_dict;
mod zip;

use std::{ops::Range, path::PathBuf};

use safetensors::Dtype;

use super::{shard::Stored, storage::Storage, store::WeightStore};
use crate::{
    error::{Error, Result},
    lfs,
};

/// How every zip archive begins.
pub(super) const START: &[u8] = b"PK";
/// Bytes at the end of a file in which its directory lies, of a state dict of ordinary size.
pub(super) const DIRECTORY: usize = 1 << 20;

/// Where one tensor lies in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TorchTensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Its bytes, from its first element to its last.
    range: Range<usize>,
    /// Distances in elements, one a dimension; none where it lies row after row without gaps.
    strides: Option<Vec<usize>>,
}

/// How the format before PyTorch 1.6 begins: a pickled number, in protocol 2.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// Where a tar archive says that it is one.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// What to do about a file that cannot be read here and may be fine.
const CONVERT: &str = "load it in Python and save it as safetensors: AutoModelForCausalLM.from_pretrained(..).save_pretrained(..)";
/// What to do about a file that is not whole.
const DAMAGED: &str = "it is truncated or corrupt; download it again";

/// Adds the file alone, and returns its tensors.
pub(super) fn tensors(
    store: &mut WeightStore,
    name: String,
    path: Option<PathBuf>,
    storage: Storage,
) -> Result<Vec<(String, Stored)>> {
    let subject = path
        .as_ref()
        .map_or_else(|| name.clone(), |path| path.display().to_string());
    let shard = store.add_file(name, path, storage);
    let bytes = shard.bytes();
    lfs::refuse_pointer(&subject, bytes)?;
    let tensors = read(&subject, bytes)?;
    let mut found = Vec::with_capacity(tensors.len());
    // Views of one storage may be many; together they are no larger than the file, or something is odd.
    let mut left = bytes.len();
    for tensor in tensors {
        let TorchTensor {
            name,
            dtype,
            shape,
            range,
            strides,
        } = tensor;
        let stored = match strides {
            None => Stored::new(&shard, dtype, shape, range),
            Some(strides) => {
                let size = state_dict::bytes_of(dtype);
                let needed = shape.iter().product::<usize>() * size;
                left = left.checked_sub(needed).ok_or_else(|| {
                    Error::new(
                        &subject,
                        format!("tensor `{name}` and others lie across each other in it"),
                    )
                    .remedy(CONVERT)
                })?;
                let ordered = state_dict::in_order(&bytes[range], &shape, &strides, size);
                Stored::in_order(&shard, dtype, shape, ordered)
            }
        };
        found.push((name, stored));
    }
    Ok(found)
}

/// Finds the tensors of the file `bytes`, which messages call `subject`.
fn read(subject: &str, bytes: &[u8]) -> Result<Vec<TorchTensor>> {
    let refuse = |reason: &str, remedy: &str| Err(Error::new(subject, reason).remedy(remedy));
    let tar = bytes.get(TAR.0..).is_some_and(|end| end.starts_with(TAR.1));
    if bytes.starts_with(LEGACY) || tar {
        return refuse(
            "it is in the format that PyTorch wrote before version 1.6, which massact does not read",
            CONVERT,
        );
    }
    if !bytes.starts_with(START) {
        return refuse("not a file that PyTorch has written", DAMAGED);
    }
    let archive = zip::Archive::open(bytes).map_err(|reason| damaged(subject, &reason))?;
    if archive.is_program() {
        return refuse(
            "it is a TorchScript program, not a file of weights",
            "take the file of weights of the same model",
        );
    }
    if let Some(order) = archive.get("byteorder")
        && bytes.get(order.clone()) != Some(b"little".as_slice())
    {
        return refuse("its numbers are stored big end first", CONVERT);
    }
    let Some(described) = archive.get("data.pkl") else {
        return Err(damaged(subject, "it has no entry data.pkl"));
    };
    let described = bytes.get(described).unwrap_or_default();
    let unpickled = pickle::read(described).map_err(|problem| match problem {
        pickle::Problem::Damaged(reason) => damaged(subject, &reason),
        pickle::Problem::Forbidden(function) => Error::new(
            subject,
            format!("its pickle asks to run `{function}`, which no file of weights needs and massact never does"),
        )
        .remedy("take the weights as safetensors, and from a source that you trust: PyTorch may run it"),
        pickle::Problem::Unknown(kind) => Error::new(
            subject,
            format!("it holds {kind}, which massact does not read"),
        )
        .remedy(CONVERT),
    })?;
    state_dict::tensors(subject, &unpickled, &archive)
}

fn damaged(subject: &str, reason: &str) -> Error {
    Error::new(subject, format!("not a valid PyTorch file: {reason}")).remedy(DAMAGED)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use half::{bf16, f16};
    use serde_json::Value;

    use super::*;

    fn file(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layouts/torch");
        std::fs::read(folder.join(name)).expect("a file")
    }

    /// One element as a number.
    fn number(dtype: Dtype, bytes: &[u8]) -> f64 {
        fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
            *bytes.first_chunk().expect("whole")
        }
        match dtype {
            Dtype::F64 => f64::from_le_bytes(first(bytes)),
            Dtype::F32 => f32::from_le_bytes(first(bytes)).into(),
            Dtype::F16 => f16::from_le_bytes(first(bytes)).into(),
            Dtype::BF16 => bf16::from_le_bytes(first(bytes)).into(),
            Dtype::I64 => i64::from_le_bytes(first(bytes)) as f64,
            Dtype::I32 => i32::from_le_bytes(first(bytes)).into(),
            Dtype::I16 => i16::from_le_bytes(first(bytes)).into(),
            Dtype::I8 => i8::from_le_bytes(first(bytes)).into(),
            Dtype::U8 | Dtype::BOOL => bytes[0].into(),
            other => panic!("{other:?}"),
        }
    }

    /// A tensor's values row after row, wherever they lie.
    fn values(tensor: &TorchTensor, bytes: &[u8]) -> Vec<f64> {
        let size = state_dict::bytes_of(tensor.dtype);
        let mut bytes = bytes[tensor.range.clone()].to_vec();
        if let Some(strides) = &tensor.strides {
            bytes = state_dict::in_order(&bytes, &tensor.shape, strides, size);
        }
        let values = bytes.chunks(size);
        values.map(|value| number(tensor.dtype, value)).collect()
    }

    #[test]
    fn every_type_and_layout_as_torch_has_written_them() {
        let bytes = file("kinds.bin");
        let found = read("kinds.bin", &bytes).expect("read");
        let expected: Value = serde_json::from_slice(&file("kinds.json")).expect("JSON");
        let expected = expected.as_object().expect("an object");
        assert_eq!(found.len(), expected.len());
        for tensor in &found {
            let expected = &expected[&tensor.name];
            let name = format!("{:?}", tensor.dtype).to_lowercase();
            let torch = expected["dtype"].as_str().expect("a text");
            let torch = torch.replace("bfloat", "bf").replace("float", "f");
            let torch = torch.replace("uint", "u").replace("int", "i");
            assert_eq!(name, torch, "{}", tensor.name);
            assert_eq!(serde_json::json!(tensor.shape), expected["shape"]);
            assert_eq!(
                serde_json::json!(values(tensor, &bytes)),
                expected["values"],
                "{}",
                tensor.name
            );
        }
        let strided = found.iter().filter(|tensor| tensor.strides.is_some());
        let strided: Vec<&str> = strided.map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(
            strided,
            [
                "columns",
                "every_second",
                "permuted",
                "strided_vector",
                "transposed"
            ]
        );
    }

    #[test]
    fn what_is_no_state_dict_is_refused_by_name() {
        for (name, reason, remedy) in [
            ("legacy.bin", "before version 1.6", "save_pretrained"),
            ("call.bin", "`os.getenv`", "source that you trust"),
            ("training.bin", "`epoch`, `state_dict`", "save_pretrained"),
            ("list.bin", "other than a dictionary", "save_pretrained"),
            (
                "sparse.bin",
                "torch._utils._rebuild_sparse_tensor",
                "save_pretrained",
            ),
            ("program.bin", "TorchScript", "file of weights"),
            ("pickle.bin", "not a file that PyTorch", "download"),
            ("kinds.json", "not a file that PyTorch", "download"),
        ] {
            let error = read(name, &file(name)).expect_err("refused").to_string();
            assert!(
                error.starts_with(name) && error.contains(reason) && error.contains(remedy),
                "{error}"
            );
        }
    }

    #[test]
    fn a_cut_file_is_damaged_wherever_it_is_cut() {
        let whole = file("kinds.bin");
        for length in 0..whole.len() {
            let error = read("x", &whole[..length])
                .expect_err("refused")
                .to_string();
            assert!(error.contains("download it again"), "{length}: {error}");
        }
    }
}
