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
    let names = names(bytes);
    if matches!(names, Names::TooMany) {
        return Err(Error::new(
            &subject,
            format!("it describes more than {MOST_TENSORS} tensors"),
        )
        .remedy("store the model in several files, as save_pretrained does"));
    }
    // Checks the header's JSON, offsets, sizes and that they cover the file exactly.
    let parsed = SafeTensors::deserialize(bytes).map_err(|error| {
        Error::new(&subject, format!("not a valid safetensors file: {error}"))
            .remedy("it is truncated or corrupt; download it again")
    })?;
    if let Names::Twice(twice) = names {
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

/// Tensors of a file: the largest models have some 200,000, in hundreds of files.
const MOST_TENSORS: usize = 1 << 18;

/// What the names in a header are, before anything is made of it.
enum Names {
    /// Of different tensors, as far as they can be read.
    Distinct,
    /// The format forbids this name, and the parser would keep either tensor.
    Twice(String),
    TooMany,
}

fn names(bytes: &[u8]) -> Names {
    struct Header;
    impl<'de> Visitor<'de> for Header {
        type Value = Names;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a safetensors header")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut seen = HashSet::new();
            let mut twice = None;
            while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                if seen.len() > MOST_TENSORS {
                    // Who visits a map has to visit all of it.
                    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                    return Ok(Names::TooMany);
                }
                if !seen.insert(name.clone()) {
                    twice = Some(name);
                }
            }
            Ok(twice.map_or(Names::Distinct, Names::Twice))
        }
    }
    let header = bytes.split_first_chunk::<8>().and_then(|(length, rest)| {
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        rest.get(..length)
    });
    // What cannot be read the parser tells.
    header
        .and_then(|header| {
            let mut header = serde_json::Deserializer::from_slice(header);
            header.deserialize_map(Header).ok()
        })
        .unwrap_or(Names::Distinct)
}
