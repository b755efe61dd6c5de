//! The safetensors format.
#![forbid(unsafe_code)]

use std::{collections::HashSet, fmt, path::PathBuf};

use safetensors::SafeTensors;
use serde::{
    Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};

use super::{shard::Stored, storage::Storage, store::WeightStore};
use crate::{
    error::{Error, Result},
    lfs,
};

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
    // Checks the header's JSON, offsets, sizes and that they cover the file exactly.
    let parsed = SafeTensors::deserialize(bytes).map_err(|error| {
        Error::new(&subject, format!("not a valid safetensors file: {error}"))
            .remedy("it is truncated or corrupt; download it again")
    })?;
    if let Some(twice) = repeated_name(bytes) {
        return Err(Error::new(
            &subject,
            format!("not a valid safetensors file: tensor `{twice}` is described twice"),
        )
        .remedy("it is truncated or corrupt; download it again"));
    }
    let base = bytes.as_ptr().addr();
    let tensors = parsed.iter().map(|(tensor, view)| {
        let start = view.data().as_ptr().addr() - base;
        let range = start..start + view.data().len();
        let stored = Stored::new(&shard, view.dtype(), view.shape().to_vec(), range);
        (tensor.to_owned(), stored)
    });
    Ok(tensors.collect())
}

/// A name that a valid header has twice: the format forbids it, and the parser would keep either.
fn repeated_name(bytes: &[u8]) -> Option<String> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a safetensors header")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut seen = HashSet::new();
            let mut twice = None;
            while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                if !seen.insert(name.clone()) {
                    twice = Some(name);
                }
            }
            Ok(twice)
        }
    }
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let mut header = serde_json::Deserializer::from_slice(rest.get(..length)?);
    header.deserialize_map(Names).ok()?
}
