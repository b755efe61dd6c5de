//! Mixtures of experts: who visits whom.
#![forbid(unsafe_code)]

use super::Tensors;
use crate::{error::Result, model::spec::Routing};

/// Routing, and the way to the experts and back.
pub trait Experts: Tensors {
    /// Picks the experts of every row from the router's logits, `[rows, experts]`; `correction` holds
    /// the values of the routing's tensor of that name. Among equals the earlier expert wins. Where a
    /// routing has a table, the experts are `chosen`, `[rows, top_k]`, and no choice takes place.
    fn route(
        &self,
        logits: &Self::Tensor,
        routing: &Routing,
        correction: Option<&Self::Vector>,
        chosen: Option<&[u32]>,
    ) -> Result<Self::Visitors>;
    /// How many rows visit each expert.
    fn visits(&self, visitors: &Self::Visitors) -> Vec<usize>;
    /// The rows that visit each expert, ascending, brought to the host.
    fn visiting_rows(&self, visitors: &Self::Visitors) -> Result<Vec<Vec<usize>>>;
    /// The rows of `x` that visit the expert, in their order.
    fn gather_visitors(
        &self,
        x: &Self::Tensor,
        visitors: &Self::Visitors,
        expert: usize,
    ) -> Result<Self::Tensor>;
    /// Multiplies the expert's gathered visitors by their weights.
    fn weigh_visitors(
        &self,
        x: &mut Self::Tensor,
        visitors: &Self::Visitors,
        expert: usize,
    ) -> Result<()>;
    /// Adds what the expert made of its visitors to their rows of `out`; times their weights, if it is
    /// `weighted` here.
    fn add_visitors(
        &self,
        out: &mut Self::Tensor,
        x: &Self::Tensor,
        visitors: &Self::Visitors,
        expert: usize,
        weighted: bool,
    ) -> Result<()>;
}
