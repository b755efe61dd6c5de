//! Routing of a mixture of experts, and the way to the experts and back.

use super::inputs::noise;
use crate::{
    backend::Backend,
    error::Result,
    model::{
        dtype::DType,
        spec::{ExpertGroups, Linear, Routing, Score},
    },
};

/// Each row, summed over the experts that it visits, times their weights, which meet it before and behind
/// the expert: chosen in groups, then one after the other, then by a table.
pub(super) fn experts<B: Backend>(b: &B, dtype: DType) -> Result<Vec<f32>> {
    let (rows, experts) = (37, 40);
    let grouped = Routing {
        router: Linear::new("router".to_owned(), experts, experts),
        score: Score::Sigmoid,
        correction: None,
        table: None,
        groups: Some(ExpertGroups {
            count: 5,
            kept: 3,
            best: 2,
        }),
        top_k: 6,
        renormalise: false,
        epsilon: 0.0,
        scale: 1.5,
    };
    let sparse = Routing {
        router: grouped.router.clone(),
        score: Score::Sparse(0.4),
        correction: None,
        table: None,
        groups: None,
        ..grouped
    };
    let logits = b.upload(rows, experts, noise(rows * experts, 1, dtype))?;
    let correction = b.vector(noise(experts, 2, DType::Float32))?;
    let mut found = Vec::new();
    let by_table = Routing {
        score: Score::SqrtSoftplus,
        groups: None,
        renormalise: true,
        ..grouped.clone()
    };
    // Any that differ within a row.
    let chosen: Vec<u32> = (0..rows * by_table.top_k)
        .map(|place| ((7 * place) % experts) as u32)
        .collect();
    for (routing, correction, chosen) in [
        (&grouped, Some(&correction), None),
        (&sparse, None, None),
        (&by_table, None, Some(&chosen[..])),
    ] {
        let visitors = b.route(&logits, routing, correction, chosen)?;
        let rows = b.visiting_rows(&visitors)?;
        found.extend(rows.into_iter().flatten().map(|row| row as f32));
        let mut out = b.zeros(&logits)?;
        for (expert, visits) in b.visits(&visitors).into_iter().enumerate() {
            if visits > 0 {
                let own = b.gather_visitors(&logits, &visitors, expert)?;
                b.add_visitors(&mut out, &own, &visitors, expert, true)?;
                let mut weighted = b.gather_visitors(&logits, &visitors, expert)?;
                b.weigh_visitors(&mut weighted, &visitors, expert)?;
                b.add_visitors(&mut out, &weighted, &visitors, expert, false)?;
            }
        }
        found.extend(b.download(&out)?);
    }
    Ok(found)
}
