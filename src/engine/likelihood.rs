//! Which predictions of a micro-batch the head is computed for.
#![forbid(unsafe_code)]

use super::{
    batch::Batch,
    plan::{Plan, Scored},
};

/// The rows of a micro-batch that predict.
pub(super) struct Predictions {
    /// They, in order; none for all rows.
    pub(super) rows: Option<Vec<usize>>,
    /// What each predicts.
    pub(super) targets: Vec<Option<u32>>,
    /// How many rows each sequence has among them, and how many of these have a target.
    lengths: Vec<(usize, usize)>,
}

impl Predictions {
    /// Of the sequences of a micro-batch: all, unless the plan says which.
    pub(super) fn of(plan: &Plan, batch: &Batch, sequences: &[Vec<u32>]) -> Self {
        let scored: Vec<Scored> = batch
            .sequences
            .iter()
            .map(|sequence| match &plan.scored {
                Some(scored) => scored[*sequence],
                None => Scored::default(),
            })
            .collect();
        // The rows of whole sequences are left where they are: their numbers keep every bit.
        let whole = scored.iter().all(|scored| scored.from == 0);
        let mut found = Self {
            rows: (!whole).then(Vec::new),
            targets: Vec::new(),
            lengths: Vec::new(),
        };
        let places = batch.sequences.iter().zip(&batch.rows).zip(&scored);
        for ((sequence, rows), scored) in places {
            let tokens = &sequences[*sequence];
            let mut targets: Vec<Option<u32>> = tokens[scored.from + 1..]
                .iter()
                .map(|token| Some(*token))
                .chain([scored.next])
                .collect();
            let with_target = targets.len() - usize::from(scored.next.is_none());
            if let Some(all) = &mut found.rows {
                targets.truncate(with_target);
                let first = rows.start + scored.from;
                all.extend(first..first + targets.len());
            }
            found.lengths.push((targets.len(), with_target));
            found.targets.extend(targets);
        }
        found
    }

    /// What a value a row is for each sequence.
    pub(super) fn by_sequence(&self, values: &[f32]) -> Vec<Vec<f32>> {
        let mut rest = values;
        let mut parts = Vec::new();
        for &(rows, with_target) in &self.lengths {
            let (own, later) = rest.split_at(rows);
            parts.push(own[..with_target].to_vec());
            rest = later;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(scored: Option<Vec<Scored>>) -> Predictions {
        let sequences = vec![vec![9], vec![1, 2, 3], vec![4, 5]];
        let batch = Batch {
            number: 0,
            sequences: vec![1, 2],
            rows: vec![0..3, 3..5],
            observed: true,
            edits: Vec::new(),
            heads_off: Vec::new(),
        };
        let plan = Plan {
            nll: true,
            scored,
            ..Plan::default()
        };
        Predictions::of(&plan, &batch, &sequences)
    }

    #[test]
    fn all_rows_unless_some_are_asked_for() {
        let whole = found(None);
        assert_eq!(whole.rows, None);
        assert_eq!(whole.targets, [Some(2), Some(3), None, Some(5), None]);
        let parts = whole.by_sequence(&[0.1, 0.2, 0.3, 0.4, 0.5]);
        assert_eq!(parts, [vec![0.1, 0.2], vec![0.4]]);
    }

    #[test]
    fn some_rows_and_a_token_that_is_not_fed() {
        let of = |from, next| Scored { from, next };
        let some = found(Some(vec![of(0, None), of(1, None), of(1, Some(7))]));
        assert_eq!(some.rows.as_deref(), Some(&[1, 4][..]));
        assert_eq!(some.targets, [Some(3), Some(7)]);
        assert_eq!(some.by_sequence(&[0.1, 0.2]), [vec![0.1], vec![0.2]]);
        // The last position predicts nothing, and there is no other.
        let none = found(Some(vec![of(0, None), of(2, None), of(0, Some(7))]));
        assert_eq!(none.rows.as_deref(), Some(&[3, 4][..]));
        assert_eq!(none.by_sequence(&[0.1, 0.2]), [vec![], vec![0.1, 0.2]]);
    }
}
