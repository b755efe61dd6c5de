//! Which labels of a crowded axis are shown, and where.

use std::collections::BTreeSet;

/// Labels at even distances.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    pub(super) count: usize,
    /// Distance between neighbours.
    pub(super) unit: f64,
    /// Least distance between those that are shown.
    pub(super) pitch: f64,
}

impl Spread {
    /// Those of `first` where they have room, then every n-th that does not touch them.
    pub(super) fn choose(self, first: &BTreeSet<usize>) -> Vec<usize> {
        // The clearance is in whole labels; a hair of tolerance keeps 9.0 / 9.0 from becoming 2.
        let clearance = (self.pitch / self.unit - 1e-6).ceil().max(1.0) as usize;
        let mut shown: BTreeSet<usize> = BTreeSet::new();
        let candidates = first
            .iter()
            .copied()
            .filter(|&label| label < self.count)
            .chain((0..self.count).step_by(clearance));
        for label in candidates {
            let from = label.saturating_sub(clearance - 1);
            if shown.range(from..label + clearance).next().is_none() {
                shown.insert(label);
            }
        }
        shown.into_iter().collect()
    }
}

/// Places at least `pitch` apart, near the `wanted` ones, which ascend.
pub(super) fn apart(wanted: &[f64], pitch: f64) -> Vec<f64> {
    // Groups that touch are centred on the mean of what their members want.
    let mut groups: Vec<(f64, usize)> = Vec::new();
    for place in wanted {
        let (mut centre, mut count) = (*place, 1);
        while let Some((other, members)) = groups.last().copied() {
            let room = pitch * (members + count) as f64 / 2.0;
            if centre - other >= room {
                break;
            }
            groups.pop();
            let sum = other * members as f64 + centre * count as f64;
            count += members;
            centre = sum / count as f64;
        }
        groups.push((centre, count));
    }
    groups
        .into_iter()
        .flat_map(|(centre, count)| {
            let first = centre - pitch * (count - 1) as f64 / 2.0;
            (0..count).map(move |index| first + pitch * index as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_thin_out_but_keep_the_emphasised() {
        let emphasised = BTreeSet::from([0, 7]);
        let choose = |count, unit, first: &BTreeSet<usize>| {
            Spread {
                count,
                unit,
                pitch: 9.0,
            }
            .choose(first)
        };
        assert_eq!(choose(4, 20.0, &emphasised), [0, 1, 2, 3]);
        assert_eq!(choose(12, 3.0, &emphasised), [0, 3, 7]);
        assert_eq!(choose(12, 3.0, &BTreeSet::new()), [0, 3, 6, 9]);
        assert_eq!(choose(3, 9.0, &BTreeSet::new()), [0, 1, 2]);
        assert!(choose(0, 9.0, &emphasised).is_empty());
    }

    #[test]
    fn labels_move_apart() {
        assert_eq!(apart(&[0.0, 20.0], 10.0), [0.0, 20.0]);
        assert_eq!(apart(&[0.0, 0.0, 40.0], 10.0), [-5.0, 5.0, 40.0]);
        assert_eq!(apart(&[0.0, 8.0, 13.0], 10.0), [-3.0, 7.0, 17.0]);
        assert!(apart(&[], 10.0).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_touches(mut wanted in prop::collection::vec(-100f64..100.0, 0..20)) {
            wanted.sort_by(f64::total_cmp);
            let given = apart(&wanted, 7.0);
            prop_assert_eq!(given.len(), wanted.len());
            for pair in given.windows(2) {
                prop_assert!(pair[1] - pair[0] > 7.0 - 1e-6);
            }
        }
    }
}
