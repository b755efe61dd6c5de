//! The few operations of Python's pickle format that the description of a state dict uses
//! (`pickletools`; protocols 2 to 5), done on a stack of small values. Nothing is ever called: a
//! function is one of the few that are known here by name, or the file is refused.
//!
//! What the values point to lies in flat lists, so that no depth of nesting costs anything, and each
//! operation adds a bounded amount to them.

use safetensors::Dtype;

/// Values on the stack; Python's pickler leaves some thousands there at most.
const STACK: usize = 1 << 16;
/// Bytes of a whole number.
const INTEGER: usize = 8;

/// Why a pickle is not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It breaks the format.
    Damaged(String),
    /// It asks for a function that is not known.
    Forbidden(String),
    /// It holds something that may be right and is not known.
    Unknown(String),
}

type Result<T> = std::result::Result<T, Problem>;

/// What stands on the stack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    /// The start of a group of values.
    Mark,
    /// A value that descriptions of tensors do not use: nothing, a float, bytes, a list.
    Other,
    Bool,
    Integer(i64),
    /// Bytes of the pickle that are UTF-8.
    Text {
        start: u32,
        length: u32,
    },
    Known(Known),
    /// Values in [`Unpickled::items`].
    Tuple {
        start: u32,
        length: u32,
    },
    /// A dictionary, whose entries lie in [`Unpickled::entries`].
    Dictionary(u32),
    /// Index into [`Unpickled::storages`].
    Storage(u32),
    /// Index into [`Unpickled::tensors`].
    Tensor(u32),
}

/// What a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Tensor,
    Parameter,
    Dictionary,
    Storage(Dtype),
}

/// Elements of one type in an entry of the archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    pub(super) dtype: Dtype,
    /// Name of the entry.
    pub(super) key: Value,
    pub(super) length: i64,
}

/// A view of a storage.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tensor {
    pub(super) storage: u32,
    pub(super) offset: i64,
    pub(super) shape: Value,
    pub(super) strides: Value,
}

/// What a pickle describes.
#[derive(Debug, Default)]
pub(super) struct Unpickled<'b> {
    bytes: &'b [u8],
    items: Vec<Value>,
    /// Entries of all dictionaries in their order: which, key, value.
    entries: Vec<(u32, Value, Value)>,
    dictionaries: u32,
    pub(super) storages: Vec<Storage>,
    pub(super) tensors: Vec<Tensor>,
    /// The dictionary that is the whole.
    top: u32,
}

impl<'b> Unpickled<'b> {
    /// A text's content.
    pub(super) fn text(&self, value: Value) -> Option<&'b str> {
        let Value::Text { start, length } = value else {
            return None;
        };
        let range = start as usize..start as usize + length as usize;
        std::str::from_utf8(self.bytes.get(range)?).ok()
    }

    /// A tuple's values.
    pub(super) fn tuple(&self, value: Value) -> Option<&[Value]> {
        let Value::Tuple { start, length } = value else {
            return None;
        };
        self.items
            .get(start as usize..start as usize + length as usize)
    }

    /// Keys and values of the whole, in their order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Value, Value)> {
        let own = self.entries.iter().filter(|(of, _, _)| *of == self.top);
        own.map(|(_, key, value)| (*key, *value))
    }
}

/// Reads a pickle to its end.
pub(super) fn read(bytes: &[u8]) -> Result<Unpickled<'_>> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(Problem::Damaged(
            "its description is beyond 4 GiB".to_owned(),
        ));
    }
    let mut machine = Machine {
        at: 0,
        stack: Vec::new(),
        memo: Vec::new(),
        found: Unpickled {
            bytes,
            ..Unpickled::default()
        },
    };
    while !machine.step()? {}
    match machine.pop()? {
        Value::Dictionary(top) => machine.found.top = top,
        _ => {
            return Err(Problem::Unknown(
                "something other than a dictionary of tensors".to_owned(),
            ));
        }
    }
    Ok(machine.found)
}

struct Machine<'b> {
    at: usize,
    stack: Vec<Value>,
    memo: Vec<Value>,
    found: Unpickled<'b>,
}

impl<'b> Machine<'b> {
    /// Does the next operation; true when it is the last.
    fn step(&mut self) -> Result<bool> {
        let operation = self.byte()?;
        match operation {
            // PROTO, FRAME: nothing to do.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'.' => return Ok(true),
            b'(' => self.push(Value::Mark)?,
            // NONE, EMPTY_LIST
            b'N' | b']' => self.push(Value::Other)?,
            // NEWTRUE, NEWFALSE
            0x88 | 0x89 => self.push(Value::Bool)?,
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let number = self
                    .take(4)?
                    .first_chunk()
                    .map(|four| i32::from_le_bytes(*four));
                self.push(Value::Integer(number.unwrap_or_default().into()))?;
            }
            b'K' | b'M' => {
                let number = self.length(if operation == b'K' { 1 } else { 2 })?;
                self.push(Value::Integer(number as i64))?;
            }
            0x8a => {
                let length = self.length(1)?;
                let number = integer(self.take(length)?);
                self.push(number)?;
            }
            // BINFLOAT
            b'G' => {
                self.take(8)?;
                self.push(Value::Other)?;
            }
            // BINBYTES, SHORT_BINBYTES
            b'B' | b'C' => {
                let length = self.length(if operation == b'B' { 4 } else { 1 })?;
                self.take(length)?;
                self.push(Value::Other)?;
            }
            // BINUNICODE, SHORT_BINUNICODE; BINSTRING, SHORT_BINSTRING of Python 2
            b'X' | b'T' | 0x8c | b'U' => {
                let length = self.length(if matches!(operation, b'X' | b'T') {
                    4
                } else {
                    1
                })?;
                let text = self.text(length)?;
                self.push(text)?;
            }
            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
            b')' => self.tuple(0)?,
            0x85..=0x87 => self.tuple(usize::from(operation - 0x84))?,
            b't' => {
                let count = self.above_mark()?;
                self.tuple(count)?;
                let tuple = self.pop()?;
                self.pop()?;
                self.push(tuple)?;
            }
            // EMPTY_DICT
            b'}' => self.dictionary()?,
            // APPEND, APPENDS: what lists hold is not used.
            b'a' => drop(self.pop()?),
            b'e' => {
                let count = self.above_mark()?;
                self.stack.truncate(self.stack.len() - count - 1);
            }
            // SETITEM, SETITEMS
            b's' => {
                self.set_items(2)?;
            }
            b'u' => {
                let count = self.above_mark()?;
                let mark = self.stack.len() - count - 1;
                self.stack.remove(mark);
                self.set_items(count)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE
            b'q' | b'r' => {
                let place = self.length(if operation == b'q' { 1 } else { 4 })?;
                self.put(place)?;
            }
            0x94 => self.put(self.memo.len())?,
            // BINGET, LONG_BINGET
            b'h' | b'j' => {
                let place = self.length(if operation == b'h' { 1 } else { 4 })?;
                let value = self.memo.get(place).copied();
                self.push(value.ok_or_else(|| damaged("it fetches what it never put away"))?)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let texts = (self.found.text(module), self.found.text(name));
                let (Some(module), Some(name)) = texts else {
                    return Err(damaged("it names a function by something other than text"));
                };
                self.global(module, name)?;
            }
            // BINPERSID
            b'Q' => self.storage()?,
            // REDUCE, BUILD
            b'R' => self.reduce()?,
            // What a dictionary has beside its entries: versions of modules.
            b'b' => drop(self.pop()?),
            other => {
                return Err(Problem::Damaged(format!(
                    "its pickle has the operation {other:#04x}, which no state dict uses"
                )));
            }
        }
        Ok(false)
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8]> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.found.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| damaged("its pickle is cut"))?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A number without sign.
    fn length(&mut self, bytes: usize) -> Result<usize> {
        let bytes = self.take(bytes)?.iter().rev();
        Ok(bytes.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn line(&mut self) -> Result<&'b str> {
        let rest = self.found.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = self.take(end.ok_or_else(|| damaged("its pickle is cut"))?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| damaged("it has a name that is not UTF-8"))
    }

    fn text(&mut self, length: usize) -> Result<Value> {
        let start = self.at;
        if std::str::from_utf8(self.take(length)?).is_err() {
            return Err(damaged("it has a text that is not UTF-8"));
        }
        Ok(Value::Text {
            start: small(start)?,
            length: small(length)?,
        })
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.stack.len() >= STACK {
            return Err(damaged("its pickle is piled too high"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack
            .pop()
            .ok_or_else(|| damaged("its pickle takes more than there is"))
    }

    /// How many values lie above the last mark.
    fn above_mark(&self) -> Result<usize> {
        let above = self
            .stack
            .iter()
            .rev()
            .position(|value| *value == Value::Mark);
        above.ok_or_else(|| damaged("it closes a group that it never opened"))
    }

    fn tuple(&mut self, count: usize) -> Result<()> {
        let from = self.stack.len().checked_sub(count);
        let from = from.ok_or_else(|| damaged("its pickle takes more than there is"))?;
        let start = small(self.found.items.len())?;
        self.found.items.extend(self.stack.drain(from..));
        self.push(Value::Tuple {
            start,
            length: small(count)?,
        })
    }

    fn dictionary(&mut self) -> Result<()> {
        let dictionary = self.found.dictionaries;
        self.found.dictionaries += 1;
        self.push(Value::Dictionary(dictionary))
    }

    /// Sets the `count` values on the stack, keys and values by turns, in the dictionary below them.
    fn set_items(&mut self, count: usize) -> Result<()> {
        let below = self.stack.len().checked_sub(count + 1);
        let below = below.and_then(|below| Some((below, *self.stack.get(below)?)));
        let Some((below, Value::Dictionary(dictionary))) = below else {
            return Err(damaged(
                "it sets entries of something other than a dictionary",
            ));
        };
        if !count.is_multiple_of(2) {
            return Err(damaged("it sets a key without a value"));
        }
        let pairs = self.stack[below + 1..].chunks_exact(2);
        let pairs = pairs.map(|pair| (dictionary, pair[0], pair[1]));
        self.found.entries.extend(pairs);
        self.stack.truncate(below + 1);
        Ok(())
    }

    fn put(&mut self, place: usize) -> Result<()> {
        let Some(value) = self.stack.last().copied() else {
            return Err(damaged("its pickle takes more than there is"));
        };
        if place >= self.memo.len() {
            // Python numbers the places from 0, Python 2 from 1; so there are no more than operations.
            if place > self.memo.len() + 1 {
                return Err(damaged("it puts values away in places far apart"));
            }
            self.memo.resize(place + 1, Value::Other);
        }
        self.memo[place] = value;
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let known = match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2") => Known::Tensor,
            ("torch._utils", "_rebuild_parameter") => Known::Parameter,
            ("collections", "OrderedDict") => Known::Dictionary,
            ("torch", name) => Known::Storage(match name {
                "FloatStorage" => Dtype::F32,
                "BFloat16Storage" => Dtype::BF16,
                "HalfStorage" => Dtype::F16,
                "DoubleStorage" => Dtype::F64,
                "LongStorage" => Dtype::I64,
                "IntStorage" => Dtype::I32,
                "ShortStorage" => Dtype::I16,
                "CharStorage" => Dtype::I8,
                "ByteStorage" => Dtype::U8,
                "BoolStorage" => Dtype::BOOL,
                _ => return Err(unknown(module, name)),
            }),
            _ => return Err(unknown(module, name)),
        };
        self.push(Value::Known(known))
    }

    /// `("storage", type, entry, device, elements)`
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let storage = match self.found.tuple(id) {
            Some(
                &[
                    kind,
                    Value::Known(Known::Storage(dtype)),
                    key @ Value::Text { .. },
                    Value::Text { .. },
                    Value::Integer(length),
                ],
            ) if self.found.text(kind) == Some("storage") => Storage { dtype, key, length },
            _ => return Err(damaged("it names bytes in a way that PyTorch does not")),
        };
        let index = small(self.found.storages.len())?;
        self.found.storages.push(storage);
        self.push(Value::Storage(index))
    }

    /// What a function makes of its arguments.
    fn reduce(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Some(arguments) = self.found.tuple(arguments) else {
            return Err(damaged("it gives a function no arguments"));
        };
        match (function, arguments) {
            (Value::Known(Known::Dictionary), []) => self.dictionary(),
            // The rest says whether it was trained, and how.
            (
                Value::Known(Known::Tensor),
                &[
                    Value::Storage(storage),
                    Value::Integer(offset),
                    shape @ Value::Tuple { .. },
                    strides @ Value::Tuple { .. },
                    Value::Bool,
                    ..,
                ],
            ) => {
                let index = small(self.found.tensors.len())?;
                self.found.tensors.push(Tensor {
                    storage,
                    offset,
                    shape,
                    strides,
                });
                self.push(Value::Tensor(index))
            }
            (Value::Known(Known::Parameter), &[tensor @ Value::Tensor(_), ..]) => self.push(tensor),
            _ => Err(damaged(
                "it describes a tensor in a way that PyTorch does not",
            )),
        }
    }
}

fn damaged(reason: &str) -> Problem {
    Problem::Damaged(reason.to_owned())
}

/// A name that is not known: a kind of tensor, or a function that has no place here.
fn unknown(module: &str, name: &str) -> Problem {
    let shown: String = format!("{module}.{name}").chars().take(200).collect();
    let kind = name.ends_with("Storage") || name.starts_with("_rebuild_");
    if kind && (module == "torch" || module.starts_with("torch.")) {
        Problem::Unknown(format!("tensors of the kind `{shown}`"))
    } else {
        Problem::Forbidden(shown)
    }
}

fn small(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| damaged("its description is beyond 4 GiB"))
}

/// Two's complement, lowest byte first.
fn integer(bytes: &[u8]) -> Value {
    let sign = match bytes.last() {
        Some(last) if last & 0x80 != 0 => u8::MAX,
        _ => 0,
    };
    // No size of a tensor needs more.
    if bytes.len() > INTEGER {
        return Value::Other;
    }
    let mut whole = [sign; INTEGER];
    whole[..bytes.len()].copy_from_slice(bytes);
    Value::Integer(i64::from_le_bytes(whole))
}
