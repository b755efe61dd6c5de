//! Safetensors files written tensor by tensor, in any order.
//!
//! The format wants all offsets in its header, before the data. The shapes of a capture are known
//! before it runs, so the header goes first and each tensor goes to its place when it comes; the
//! whole file never has to be in memory.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{Seek, SeekFrom, Write},
    path::PathBuf,
};

use serde_json::{Map, Value, json};

use super::{AtomicFile, RunFolder};
use crate::{
    error::{Error, Result},
    interrupt,
};

/// A map of every head may have gigabytes, and the disk may be slow.
const BYTES_BETWEEN_CHECKS: usize = 4 << 20;

/// A float32 safetensors file being written.
#[derive(Debug)]
pub struct TensorFile {
    file: AtomicFile,
    /// Offset in the file and number of values of each tensor.
    places: HashMap<String, (u64, usize)>,
    /// Those still to come.
    missing: HashSet<String>,
}

impl TensorFile {
    /// Lays out `tensors` (name and shape) in `name`, with what the file says `about` them; nothing is
    /// visible before `commit`.
    pub fn create(
        folder: &RunFolder,
        name: &str,
        tensors: &[(String, Vec<usize>)],
        about: &BTreeMap<&str, String>,
    ) -> Result<Self> {
        let mut header = Map::new();
        header.insert("__metadata__".into(), json!(about));
        let mut places = Vec::with_capacity(tensors.len());
        let mut end = 0u64;
        for (tensor, shape) in tensors {
            let values: usize = shape.iter().product();
            let start = end;
            end += 4 * values as u64;
            header.insert(
                tensor.clone(),
                json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] }),
            );
            places.push((tensor.clone(), (start, values)));
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        // Padding keeps the data aligned, as the format asks.
        header.resize(header.len().next_multiple_of(8), b' ');
        let data = 8 + header.len() as u64;
        let mut file = folder.stream(name)?;
        file.write_all(&(header.len() as u64).to_le_bytes())
            .and_then(|()| file.write_all(&header))
            .map_err(|error| file.error(&error))?;
        Ok(Self {
            file,
            missing: places.iter().map(|(tensor, _)| tensor.clone()).collect(),
            places: places
                .into_iter()
                .map(|(tensor, (start, values))| (tensor, (data + start, values)))
                .collect(),
        })
    }

    /// Writes one tensor to its place; again, if a run starts again.
    pub fn write(&mut self, name: &str, values: &[f32]) -> Result<()> {
        match self.places.get(name).copied() {
            Some((offset, count)) if count == values.len() => {
                #[cfg(target_endian = "little")]
                let bytes: &[u8] = bytemuck::cast_slice(values);
                #[cfg(not(target_endian = "little"))]
                let bytes: &[u8] = &values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect::<Vec<u8>>();
                self.file
                    .seek(SeekFrom::Start(offset))
                    .map_err(|error| self.file.error(&error))?;
                for part in bytes.chunks(BYTES_BETWEEN_CHECKS) {
                    interrupt::check()?;
                    self.file
                        .write_all(part)
                        .map_err(|error| self.file.error(&error))?;
                }
                self.missing.remove(name);
                Ok(())
            }
            Some((_, count)) => Err(Error::new(
                format!("tensor `{name}`"),
                format!("{} values, laid out for {count}", values.len()),
            )),
            None => Err(Error::new(format!("tensor `{name}`"), "not laid out")),
        }
    }

    /// Gives the complete file its name.
    pub fn commit(self) -> Result<PathBuf> {
        if let Some(name) = self.missing.iter().next() {
            return Err(Error::new(format!("tensor `{name}`"), "never written"));
        }
        self.file.commit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_order_reads_back() -> Result<()> {
        let temp = tempfile::tempdir().expect("temporary folder");
        let folder = RunFolder::create(temp.path(), "m", "capture", "0")?;
        let layout = [("b".to_owned(), vec![2, 2]), ("a".to_owned(), vec![1])];
        let about = BTreeMap::from([("token_ids", "[[1]]".to_owned())]);
        let mut file = TensorFile::create(&folder, "x.safetensors", &layout, &about)?;
        file.write("a", &[7.0])?;
        assert!(file.write("b", &[1.0]).is_err());
        assert!(file.write("c", &[1.0]).is_err());
        drop(file);
        let mut file = TensorFile::create(&folder, "x.safetensors", &layout, &about)?;
        file.write("a", &[5.0])?;
        file.write("b", &[1.0, 2.0, 3.0, 4.0])?;
        // The run starts again.
        file.write("a", &[7.0])?;
        let path = file.commit()?;
        let bytes = std::fs::read(path).expect("written");
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("valid");
        let said = header.metadata().as_ref().expect("metadata");
        assert_eq!(said["token_ids"], "[[1]]");
        let parsed = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
        let b = parsed.tensor("b").expect("b");
        assert_eq!(b.shape(), [2, 2]);
        assert_eq!(
            bytemuck::pod_collect_to_vec::<u8, f32>(b.data()),
            [1.0, 2.0, 3.0, 4.0]
        );
        assert_eq!(parsed.tensor("a").expect("a").data(), 7f32.to_le_bytes());
        Ok(())
    }
}
