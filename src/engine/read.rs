//! What a part of a layer reads.
#![forbid(unsafe_code)]

/// A tensor that is read: one's own, to be dropped as soon as it was, or someone's who needs it later. Beside long
/// sequences every tensor of `[rows, hidden]` counts.
#[derive(Debug)]
pub(super) enum Read<'a, T> {
    Own(T),
    Lent(&'a T),
}

impl<T> Read<'_, T> {
    pub(super) fn get(&self) -> &T {
        match self {
            Self::Own(tensor) => tensor,
            Self::Lent(tensor) => tensor,
        }
    }
}
