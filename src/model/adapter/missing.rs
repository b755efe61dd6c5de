//! Modules that an adapter names and has no tensors for.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use super::{Work, names::Modules, settings::Settings, weights::WeightStore};
use crate::error::Result;

/// Names in a message.
const NAMED: usize = 4;

/// Those modules, in the adapter's spelling. Experts and routers are not asked for: the library has them in
/// tensors that are no modules.
pub(super) fn of(
    settings: &Settings,
    modules: &Modules,
    work: &Work,
    weights: &WeightStore,
) -> Result<Vec<String>> {
    // A name that the library would choose by the kind of the model.
    if settings.target_modules.is_null() {
        return Ok(Vec::new());
    }
    let touched = work.pairs.keys().map(|(tensor, _)| tensor);
    let touched: BTreeSet<&String> = touched
        .chain(work.replaced.iter().map(|(tensor, _)| tensor))
        .collect();
    let mut pairs = work.pairs.iter();
    let known = pairs.find_map(|((tensor, _), (module, _))| {
        let own = modules.projections.contains(tensor);
        own.then(|| before_common_end(bare(tensor), module))
    });
    let (stored, spelt) = known.unwrap_or_default();
    let projections = modules.projections.iter().map(|tensor| {
        let module = bare(tensor);
        let rest = module.strip_prefix(stored);
        let spelling = rest.map(|rest| format!("{spelt}{rest}"));
        (tensor, spelling.unwrap_or_else(|| module.to_owned()))
    });
    let ends = modules.ends.iter().filter(|_| settings.names_modules());
    let ends = ends.map(|tensor| (tensor, bare(tensor).to_owned()));
    let mut missing = Vec::new();
    for (tensor, module) in projections.chain(ends) {
        let there = weights.contains(tensor) || modules.ends.contains(tensor);
        if there && !touched.contains(tensor) && settings.targets(&module)? {
            missing.push(module);
        }
    }
    Ok(missing)
}

/// The library warns of them, too; what it has for them adds nothing.
pub(super) fn notice(missing: &[String]) -> Option<String> {
    (!missing.is_empty()).then(|| {
        format!(
            "the adapter has no tensors for some modules that its `target_modules` names, which stay as the base has them: {}",
            list(missing)
        )
    })
}

/// The first of them by name.
pub(super) fn list(missing: &[String]) -> String {
    let named = missing.iter().take(NAMED).map(|name| format!("`{name}`"));
    let named = named.collect::<Vec<_>>().join(", ");
    match missing.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn bare(tensor: &str) -> &str {
    tensor.strip_suffix(".weight").unwrap_or(tensor)
}

/// What stands before the longest end that two names have in common.
fn before_common_end<'a>(one: &'a str, other: &'a str) -> (&'a str, &'a str) {
    let pairs = one.chars().rev().zip(other.chars().rev());
    let common = pairs.take_while(|(a, b)| a == b);
    let length: usize = common.map(|(a, _)| a.len_utf8()).sum();
    (&one[..one.len() - length], &other[..other.len() - length])
}
