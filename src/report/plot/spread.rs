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

/// A label that is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) label: usize,
    /// Where it belongs, from the begin of the axis.
    pub(super) at: f64,
    /// Where it is written: beside that, where others of its kind are in the way.
    pub(super) shown: f64,
}

impl Spread {
    /// All of `first`, moved apart where they would touch, then every n-th that does not touch them.
    /// Only where `first` alone is more than the axis has room for, it is thinned out, too.
    pub(super) fn choose(self, first: &BTreeSet<usize>) -> Vec<Place> {
        // The clearance is in whole labels; a hair of tolerance keeps 9.0 / 9.0 from becoming 2.
        let clearance = (self.pitch / self.unit - 1e-6).ceil().max(1.0) as usize;
        let at = |label: usize| (label as f64 + 0.5) * self.unit;
        let length = self.count as f64 * self.unit;
        let mut kept: Vec<usize> = first.iter().copied().filter(|l| *l < self.count).collect();
        if kept.len() as f64 * self.pitch > length.max(self.pitch) {
            let mut next = 0;
            kept.retain(|label| {
                let room = *label >= next;
                if room {
                    next = label + clearance;
                }
                room
            });
        }
        let wanted: Vec<f64> = kept.iter().map(|label| at(*label)).collect();
        let mut shown = apart(&wanted, self.pitch);
        inside(&mut shown, self.pitch, length);
        let placed = kept.iter().zip(&shown);
        let mut places: Vec<Place> = placed
            .map(|(label, shown)| Place {
                label: *label,
                at: at(*label),
                shown: *shown,
            })
            .collect();
        for label in (0..self.count).step_by(clearance) {
            // Neither the label nor its place may lie where one of the first is written.
            let near = |other: &f64| (other - at(label)).abs() < self.pitch * (1.0 - 1e-6);
            if !shown.iter().any(near) && !kept.contains(&label) {
                places.push(Place {
                    label,
                    at: at(label),
                    shown: at(label),
                });
            }
        }
        places.sort_by_key(|place| place.label);
        places
    }
}

/// Moves places that are `pitch` apart back onto an axis of this length, which has room for them.
fn inside(places: &mut [f64], pitch: f64, length: f64) {
    let count = places.len();
    for (index, place) in places.iter_mut().enumerate() {
        let behind = (count - 1 - index) as f64;
        *place = place.min(length - pitch * behind);
    }
    for (index, place) in places.iter_mut().enumerate() {
        *place = place.max(pitch * index as f64);
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

    fn choose(count: usize, unit: f64, first: &[usize]) -> Vec<Place> {
        let spread = Spread {
            count,
            unit,
            pitch: 9.0,
        };
        spread.choose(&first.iter().copied().collect())
    }

    fn labels(places: &[Place]) -> Vec<usize> {
        places.iter().map(|place| place.label).collect()
    }

    #[test]
    fn labels_thin_out_but_keep_the_emphasised() {
        assert_eq!(labels(&choose(4, 20.0, &[0, 7])), [0, 1, 2, 3]);
        assert_eq!(labels(&choose(12, 3.0, &[0, 7])), [0, 3, 7]);
        assert_eq!(labels(&choose(12, 3.0, &[])), [0, 3, 6, 9]);
        assert_eq!(labels(&choose(3, 9.0, &[])), [0, 1, 2]);
        assert!(choose(0, 9.0, &[]).is_empty());
    }

    /// Neighbours that are all massive are all named, at readable distances.
    #[test]
    fn the_emphasised_are_never_thinned_away() {
        let places = choose(60, 3.0, &[0, 1, 2, 30, 31, 59]);
        for label in [0, 1, 2, 30, 31, 59] {
            assert!(labels(&places).contains(&label), "{label}: {places:?}");
        }
        for pair in places.windows(2) {
            assert!(pair[1].shown - pair[0].shown > 9.0 - 1e-6, "{pair:?}");
        }
        let ends = (places[0].shown, places[places.len() - 1].shown);
        assert!(ends.0 >= 0.0 && ends.1 <= 180.0, "{ends:?}");
        // Sixty labels have no room on 180 units: as many as have.
        let all: Vec<usize> = (0..60).collect();
        assert_eq!(choose(60, 3.0, &all).len(), 20);
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
        fn chosen_labels_do_not_touch(
            count in 1usize..200,
            unit in 0.5f64..20.0,
            first in prop::collection::btree_set(0usize..200, 0..30),
        ) {
            let places = Spread { count, unit, pitch: 9.0 }.choose(&first);
            for pair in places.windows(2) {
                prop_assert!(pair[0].label < pair[1].label);
                prop_assert!(pair[1].shown - pair[0].shown > 9.0 - 1e-3, "{:?}", pair);
            }
        }

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
