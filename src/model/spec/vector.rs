//! Learned vectors that are no norm's and no bias of a projection's.
#![forbid(unsafe_code)]

/// A tensor, or some neighbouring rows of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    /// Its name.
    pub tensor: String,
    /// Shape of the whole tensor; axes of length one in front of it may be stored, too.
    pub shape: Vec<usize>,
    /// First row that is read.
    pub first: usize,
    /// Rows that are read.
    pub rows: usize,
}

impl Vector {
    /// A whole tensor of one axis.
    pub fn new(tensor: String, length: usize) -> Self {
        Self::of_shape(tensor, vec![length])
    }

    /// A whole tensor.
    pub fn of_shape(tensor: String, shape: Vec<usize>) -> Self {
        Self {
            tensor,
            first: 0,
            rows: shape.first().copied().unwrap_or(1),
            shape,
        }
    }

    /// The rows `first..first + rows`.
    #[must_use]
    pub fn part(mut self, first: usize, rows: usize) -> Self {
        (self.first, self.rows) = (first, rows);
        self
    }
}
