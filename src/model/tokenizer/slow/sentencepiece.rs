//! sentencepiece's `tokenizer.model`: a protobuf message (`sentencepiece_model.proto`), of which the
//! pieces and a few settings are read.

/// Bytes of a piece; the longest in use are runs of spaces of some dozens. It bounds the work of finding
/// in how many ways a piece is made of two others.
const LONGEST: usize = 1024;

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    /// Stands for no text.
    Control,
    /// Never cut and never merged.
    UserDefined,
    /// Unknown, unused, or one byte.
    Other,
}

/// One entry of the vocabulary.
#[derive(Debug)]
pub(super) struct Piece<'b> {
    pub(super) text: &'b str,
    pub(super) score: f32,
    pub(super) kind: Kind,
}

/// What the file says.
#[derive(Debug)]
pub(super) struct Model<'b> {
    pub(super) pieces: Vec<Piece<'b>>,
    pub(super) unigram: bool,
    pub(super) byte_fallback: bool,
    pub(super) unk: Named<'b>,
    pub(super) bos: Named<'b>,
    pub(super) eos: Named<'b>,
    /// Rules of normalisation, in a form of their own; empty if there are none.
    pub(super) charsmap: &'b [u8],
    pub(super) add_dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
    pub(super) escape_whitespaces: bool,
}

/// A piece with a role: its id, below 0 if there is none, and its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'b> {
    pub(super) id: i32,
    pub(super) text: &'b str,
}

impl<'b> Model<'b> {
    /// Reads the message; the error says what is wrong with it.
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, String> {
        let named = |id, text| Named { id, text };
        let mut model = Self {
            pieces: Vec::new(),
            unigram: true,
            byte_fallback: false,
            unk: named(0, "<unk>"),
            bos: named(1, "<s>"),
            eos: named(2, "</s>"),
            charsmap: &[],
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        let mut fields = Fields(bytes);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Field::Bytes(piece)) => model.pieces.push(self::piece(piece)?),
                (2, Field::Bytes(trainer)) => model.trainer(trainer)?,
                (3, Field::Bytes(normalizer)) => model.normalizer(normalizer)?,
                _ => {}
            }
        }
        if model.pieces.is_empty() {
            return Err("it has no pieces".to_owned());
        }
        Ok(model)
    }

    fn trainer(&mut self, bytes: &'b [u8]) -> Result<(), String> {
        let mut fields = Fields(bytes);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (3, Field::Number(kind)) => match kind {
                    1 => self.unigram = true,
                    2 => self.unigram = false,
                    _ => return Err("it is neither BPE nor unigram".to_owned()),
                },
                (35, Field::Number(value)) => self.byte_fallback = value != 0,
                (40, Field::Number(id)) => self.unk.id = id as i32,
                (41, Field::Number(id)) => self.bos.id = id as i32,
                (42, Field::Number(id)) => self.eos.id = id as i32,
                (45, Field::Bytes(piece)) => self.unk.text = text(piece)?,
                (46, Field::Bytes(piece)) => self.bos.text = text(piece)?,
                (47, Field::Bytes(piece)) => self.eos.text = text(piece)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn normalizer(&mut self, bytes: &'b [u8]) -> Result<(), String> {
        let mut fields = Fields(bytes);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (2, Field::Bytes(charsmap)) => self.charsmap = charsmap,
                (3, Field::Number(value)) => self.add_dummy_prefix = value != 0,
                (4, Field::Number(value)) => self.remove_extra_whitespaces = value != 0,
                (5, Field::Number(value)) => self.escape_whitespaces = value != 0,
                _ => {}
            }
        }
        Ok(())
    }
}

fn piece(bytes: &[u8]) -> Result<Piece<'_>, String> {
    let mut piece = Piece {
        text: "",
        score: 0.0,
        kind: Kind::Normal,
    };
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Field::Bytes(bytes)) => piece.text = text(bytes)?,
            (2, Field::Four(four)) => piece.score = f32::from_le_bytes(four),
            (3, Field::Number(kind)) => {
                piece.kind = match kind {
                    1 => Kind::Normal,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    _ => Kind::Other,
                }
            }
            _ => {}
        }
    }
    if piece.text.is_empty() {
        return Err("it has a piece without text".to_owned());
    }
    if piece.text.len() > LONGEST {
        return Err(format!("it has a piece of more than {LONGEST} bytes"));
    }
    if !piece.score.is_finite() {
        return Err(format!("the score of {:?} is {}", piece.text, piece.score));
    }
    Ok(piece)
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "it has a text that is not UTF-8".to_owned())
}

/// The value of a field of a message.
enum Field<'b> {
    Number(u64),
    Bytes(&'b [u8]),
    Four([u8; 4]),
    Eight,
}

/// The fields of a message, in the wire format of protobuf.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    fn next(&mut self) -> Result<Option<(u64, Field<'b>)>, String> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let cut = || "it is cut, or no file of sentencepiece".to_owned();
        let key = self.number().ok_or_else(cut)?;
        let value = match key & 7 {
            0 => self.number().map(Field::Number),
            1 => self.take(8).map(|_| Field::Eight),
            2 => {
                let length = self
                    .number()
                    .and_then(|length| usize::try_from(length).ok());
                length
                    .and_then(|length| self.take(length))
                    .map(Field::Bytes)
            }
            5 => {
                let four = self.take(4).and_then(<[u8]>::first_chunk);
                four.map(|four| Field::Four(*four))
            }
            _ => None,
        };
        Ok(Some((key >> 3, value.ok_or_else(cut)?)))
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * place).min(63);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}
