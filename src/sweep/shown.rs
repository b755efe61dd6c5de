//! What tables and pages of a sweep call its models.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use crate::report::visible::visible;

/// A model of a plan, and everything that is put on its weights in turn.
pub(super) struct Shown<'a> {
    pub(super) pretrained: &'a str,
    /// The plan's own name for it.
    pub(super) label: Option<&'a str>,
    /// The adapters of its tasks, as the plan has them.
    pub(super) adapters: BTreeSet<String>,
}

impl Shown<'_> {
    /// What tables call it; the revision has a column.
    pub(super) fn model(&self, adapter: Option<&str>) -> String {
        match (self.label, adapter) {
            (None, None) => self.pretrained.to_owned(),
            _ => self.named(adapter),
        }
    }

    /// What figures and pages of a run call it, if that is not the last part of its name.
    pub(super) fn label(&self, revision: Option<&str>, adapter: Option<&str>) -> Option<String> {
        match (self.label, adapter, revision) {
            (None, None, None) => None,
            (_, _, None) => Some(self.named(adapter)),
            (_, _, Some(revision)) => Some(format!("{} {revision}", self.named(adapter))),
        }
    }

    /// A label is the name of the model with its adapter, if that is the only one.
    fn named(&self, adapter: Option<&str>) -> String {
        let base = self.label.unwrap_or_else(|| last(self.pretrained));
        match adapter {
            Some(adapter) if self.label.is_none() || self.adapters.len() > 1 => {
                let own = last(adapter);
                let alike = |other: &&String| last(other) == own;
                let distinct = self.adapters.iter().filter(alike).count() < 2;
                let adapter = if distinct { own } else { adapter };
                format!("{base} + {}", visible(adapter))
            }
            _ => base.to_owned(),
        }
    }
}

/// The last part of a name or path.
fn last(name: &str) -> &str {
    let name = name.trim_end_matches('/');
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<'a>(label: Option<&'a str>, adapters: &[&str]) -> Shown<'a> {
        Shown {
            pretrained: "owner/base",
            label,
            adapters: adapters.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn names_tell_adapters_apart() {
        let found = |label, adapters: &[&str]| {
            let shown = shown(label, adapters);
            let adapters = adapters.iter().map(|adapter| shown.model(Some(adapter)));
            adapters.collect::<Vec<_>>()
        };
        assert_eq!(found(None, &["x/a", "b/"]), ["base + a", "base + b"]);
        assert_eq!(found(None, &["x/a", "y/a"]), ["base + x/a", "base + y/a"]);
        assert_eq!(found(Some("L"), &["x/a", "b"]), ["L + a", "L + b"]);
        assert_eq!(found(Some("L"), &["x/a"]), ["L"]);
        assert_eq!(shown(None, &[]).model(None), "owner/base");
        let label = |revision, adapter| shown(None, &["a"]).label(revision, adapter);
        assert_eq!(label(None, None), None);
        assert_eq!(label(Some("s1"), None).as_deref(), Some("base s1"));
        assert_eq!(label(Some("s1"), Some("a")).as_deref(), Some("base + a s1"));
    }
}
