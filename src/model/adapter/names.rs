//! From the names that an adapter has for a model's modules to the tensors that the model reads.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    names::{self, Names},
    spec::{DecoderSpec, Linear, WeightLayout},
    weights::WeightStore,
};
use crate::error::Result;

/// A tensor that the model reads.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) tensor: String,
    /// How it is laid out, if it is one matrix.
    pub(super) axes: Option<WeightLayout>,
}

impl Place {
    /// Whether its rows are the inputs'.
    pub(super) fn by_input(&self) -> bool {
        self.axes == Some(WeightLayout::InOut)
    }
}

/// Everything that an adapter may be about.
#[derive(Debug)]
pub(super) struct Modules {
    places: BTreeMap<String, Place>,
    prefix: &'static str,
    prefixes: Vec<&'static str>,
    /// Of its layers: matrices that are modules of their own in the library, too.
    pub(super) projections: BTreeSet<String>,
    /// Matrices that several layers use.
    shared: BTreeSet<String>,
    /// Tables and head.
    pub(super) ends: BTreeSet<String>,
    /// Embedding and head, if they are one tensor.
    tied: Option<Tied>,
}

#[derive(Debug)]
struct Tied {
    /// The tensor that is stored.
    both: String,
    embedding: String,
    head: String,
}

impl Modules {
    pub(super) fn new(
        spec: &DecoderSpec,
        prefix: &'static str,
        prefixes: &[&'static str],
        weights: &WeightStore,
    ) -> Result<Self> {
        let mut places = BTreeMap::new();
        let mut add = |tensor: String, axes: Option<WeightLayout>| {
            let place = Place {
                tensor: tensor.clone(),
                axes,
            };
            places.insert(tensor, place);
        };
        for tensor in spec.tensors() {
            add(tensor, None);
        }
        let mut linear = |linear: &Linear| {
            let axes = linear.stacked.is_none().then_some(linear.layout);
            add(linear.weight.clone(), axes);
        };
        for layer in &spec.layers {
            layer.linears().into_iter().for_each(&mut linear);
            if let Some(experts) = layer.experts() {
                for expert in 0..experts.count {
                    for one in experts.expert.linears() {
                        linear(&one.of_expert(expert));
                    }
                }
            }
        }
        let (embedding, head) = (&spec.embedding, &spec.head);
        let projections = embedding.projection.iter().chain(&head.projection);
        projections.chain([&head.linear]).for_each(&mut linear);
        let tables = embedding.positions.iter().map(|learned| &learned.table);
        for table in tables.chain([&embedding.tokens]) {
            add(table.clone(), Some(WeightLayout::OutIn));
        }
        let mut projections = BTreeSet::new();
        let mut shared = BTreeSet::new();
        for layer in &spec.layers {
            let router = layer
                .experts()
                .map(|experts| &experts.routing.router.weight);
            let own = layer.linears().into_iter();
            let own = own.filter(|linear| linear.stacked.is_none());
            let own = own.map(|linear| &linear.weight);
            let own: BTreeSet<_> = own.filter(|name| Some(*name) != router).collect();
            for name in own {
                if !projections.insert(name.clone()) {
                    shared.insert(name.clone());
                }
            }
        }
        let mut ends = BTreeSet::from([embedding.tokens.clone(), head.linear.weight.clone()]);
        let names = Names::with_prefix(weights, prefix);
        let tied = head.linear.weight == embedding.tokens;
        let tied = tied.then(|| {
            let stored = names.stored_head();
            let head = stored.clone().unwrap_or_else(|| names.root(names::HEAD));
            add(head.clone(), Some(WeightLayout::OutIn));
            ends.insert(head.clone());
            let both = match (weights.contains(&embedding.tokens), stored) {
                (false, Some(stored)) => stored,
                _ => embedding.tokens.clone(),
            };
            Tied {
                both,
                embedding: embedding.tokens.clone(),
                head,
            }
        });
        Ok(Self {
            places,
            prefix,
            prefixes: prefixes.to_vec(),
            projections,
            shared,
            ends,
            tied,
        })
    }

    /// Whether layers use matrices together. Each of them is a module of its own in the library, with its own
    /// adapter.
    pub(super) fn are_shared(&self) -> bool {
        !self.shared.is_empty()
    }

    /// Whether several layers use the tensor.
    pub(super) fn is_shared(&self, tensor: &str) -> bool {
        self.shared.contains(tensor)
    }

    /// The place of a tensor that the model reads.
    pub(super) fn of(&self, tensor: &str) -> Option<&Place> {
        self.places.get(tensor)
    }

    /// The same, by any spelling of its name that the family has.
    pub(super) fn find(&self, name: &str) -> Option<&Place> {
        if let Some(place) = self.places.get(name) {
            return Some(place);
        }
        let mut prefixes = self.prefixes.clone();
        prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
        let bare = prefixes.into_iter().filter(|prefix| !prefix.is_empty());
        let mut bare = bare.filter_map(|prefix| name.strip_prefix(prefix));
        let bare = bare.next().unwrap_or(name);
        let spellings = [
            format!("{}{bare}", self.prefix),
            names::beside(self.prefix, bare),
        ];
        spellings.iter().find_map(|name| self.places.get(name))
    }

    /// Embedding and head become two where only one of the two modules is touched, or both are. Whether they do.
    pub(super) fn untie(&self, touched: BTreeSet<&str>, weights: &mut WeightStore) -> bool {
        let Some(tied) = &self.tied else {
            return false;
        };
        if !touched.contains(tied.embedding.as_str()) && !touched.contains(tied.head.as_str()) {
            return false;
        }
        for name in [&tied.embedding, &tied.head] {
            if !weights.contains(name) {
                weights.copy(&tied.both, name.clone());
            }
        }
        true
    }
}
