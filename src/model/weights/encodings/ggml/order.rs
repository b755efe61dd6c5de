//! In which order the rows of a matrix are stored.
#![forbid(unsafe_code)]

/// Where a file keeps the rows of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// As the model has them.
    Kept,
    /// In each head of `head_rows` rows the two halves alternate: the two rows that are rotated with each
    /// other lie beside each other. So llama.cpp keeps queries and keys of Llama and its relatives.
    Rotary {
        /// Rows of a head, an even number.
        head_rows: usize,
    },
    /// The model has query, key and value of a head beside each other; the file has all queries, then
    /// all keys, then all values (GPT-NeoX, Bloom).
    Parted {
        /// Heads.
        heads: usize,
        /// Rows of a head's query.
        head_rows: usize,
    },
}

impl RowOrder {
    /// Where row `row` is stored.
    #[inline]
    pub fn stored(self, row: usize) -> usize {
        match self {
            Self::Kept => row,
            Self::Rotary { head_rows } => {
                let (head, inside) = (row / head_rows, row % head_rows);
                let half = head_rows / 2;
                head * head_rows + inside % half * 2 + inside / half
            }
            Self::Parted { heads, head_rows } => {
                let (head, inside) = (row / (3 * head_rows), row % (3 * head_rows));
                (inside / head_rows * heads + head) * head_rows + inside % head_rows
            }
        }
    }

    /// Whether so many rows can be in this order.
    pub fn fits(self, rows: usize) -> bool {
        match self {
            Self::Kept => true,
            Self::Rotary { head_rows } => {
                head_rows != 0 && head_rows.is_multiple_of(2) && rows.is_multiple_of(head_rows)
            }
            Self::Parted { heads, head_rows } => {
                let of_one = heads.checked_mul(head_rows).filter(|rows| *rows != 0);
                of_one.and_then(|of_one| of_one.checked_mul(3)) == Some(rows)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_head_alternate() {
        let order = RowOrder::Rotary { head_rows: 6 };
        let stored: Vec<usize> = (0..12).map(|row| order.stored(row)).collect();
        assert_eq!(stored, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        assert!(order.fits(12) && !order.fits(8));
        assert!(!RowOrder::Rotary { head_rows: 3 }.fits(6));
    }

    #[test]
    fn queries_keys_and_values_apart() {
        let order = RowOrder::Parted {
            heads: 2,
            head_rows: 2,
        };
        let stored: Vec<usize> = (0..12).map(|row| order.stored(row)).collect();
        assert_eq!(stored, [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11]);
        assert!(order.fits(12) && !order.fits(24));
    }
}
