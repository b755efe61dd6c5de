//! A map that holds so many entries; the one that was not used for longest makes room.

use std::{collections::HashMap, hash::Hash};

/// The entries, each with when it was used last.
pub(super) struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    most: usize,
    uses: u64,
}

impl<K: Eq + Hash + Clone, V> Recent<K, V> {
    /// For `most` entries, at least one.
    pub(super) fn new(most: usize) -> Self {
        Self {
            entries: HashMap::new(),
            most: most.max(1),
            uses: 0,
        }
    }

    /// The entry of this key, made if there is none.
    pub(super) fn get<E>(&mut self, key: &K, make: impl FnOnce() -> Result<V, E>) -> Result<&V, E> {
        self.uses += 1;
        if !self.entries.contains_key(key) {
            let made = make()?;
            if self.entries.len() == self.most {
                self.drop_oldest();
            }
            self.entries.insert(key.clone(), (0, made));
        }
        let entry = self.entries.get_mut(key).expect("there or just inserted");
        entry.0 = self.uses;
        Ok(&entry.1)
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    fn drop_oldest(&mut self) {
        let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.entries.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible};

    use super::*;

    #[test]
    fn keeps_the_latest_and_makes_each_once() {
        let made = Cell::new(0);
        let mut recent = Recent::new(3);
        let mut get = |key: u32| {
            let make = || {
                made.set(made.get() + 1);
                Ok::<_, Infallible>(key * 10)
            };
            *recent.get(&key, make).expect("made")
        };
        // The first is asked for again and again, so it is the second that makes room.
        get(0);
        for key in 1..50 {
            assert_eq!([key, 0, key].map(&mut get), [key * 10, 0, key * 10]);
            assert_eq!(made.get(), key + 1);
        }
        assert_eq!([49, 48, 0].map(&mut get), [490, 480, 0]);
        assert_eq!(made.get(), 50);
        get(47);
        assert_eq!(made.get(), 51);
        assert_eq!(recent.entries.len(), 3);
    }

    #[test]
    fn what_cannot_be_made_is_not_kept() {
        let mut recent: Recent<u32, u32> = Recent::new(1);
        assert_eq!(recent.get(&1, || Err("no")), Err("no"));
        assert_eq!(recent.get(&1, || Ok::<_, &str>(5)), Ok(&5));
    }
}
