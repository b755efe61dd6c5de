//! Which figures there are, and what they show.

use std::collections::BTreeSet;

use clap::ValueEnum;

use crate::engine::Site;

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Figure {
    /// |hidden state| over tokens and dimensions, a 3-D plot a layer.
    OutputFeatureTokenwise,
    /// Magnitudes of queries, keys and values.
    Qkv,
    /// Magnitudes in the MLP.
    Mlp,
    /// Magnitudes before and after the norms.
    Layernorm,
}

/// One panel of a figure of magnitudes: its y label, and the sites with what they are called.
pub(super) type Panel = (&'static str, &'static [(Site, &'static str)]);

impl Figure {
    /// Name of its files.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::OutputFeatureTokenwise => "output_feature_tokenwise",
            Self::Qkv => "qkv",
            Self::Mlp => "mlp",
            Self::Layernorm => "layernorm",
        }
    }

    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::OutputFeatureTokenwise => "Output features by token and dimension",
            Self::Qkv => "Queries, keys and values",
            Self::Mlp => "MLP",
            Self::Layernorm => "Norms",
        }
    }

    pub(super) fn panels(self) -> &'static [Panel] {
        match self {
            Self::OutputFeatureTokenwise => &[],
            Self::Qkv => &[(
                "Magnitude",
                &[(Site::Q, "queries"), (Site::K, "keys"), (Site::V, "values")],
            )],
            Self::Mlp => &[(
                "Magnitude",
                &[
                    (Site::Gate, "activation"),
                    (Site::MlpInner, "down input"),
                    (Site::MlpOutput, "output"),
                ],
            )],
            Self::Layernorm => &[
                (
                    "Attention's norm",
                    &[
                        (Site::LayerInput, "input"),
                        (Site::AttentionInput, "output"),
                    ],
                ),
                (
                    "MLP's norm",
                    &[(Site::ResidualMid, "input"), (Site::MlpInput, "output")],
                ),
            ],
        }
    }

    /// Whether no layer has anything that it shows.
    pub(super) fn is_absent(self, absent: &[Site]) -> bool {
        let lacks = |sites: &[(Site, &str)]| {
            let mut sites = sites.iter().map(|(site, _)| absent.contains(site));
            match self {
                // Before and after a norm.
                Self::Layernorm => sites.any(|lacks| lacks),
                _ => sites.all(|lacks| lacks),
            }
        };
        let panels = self.panels();
        !panels.is_empty() && panels.iter().all(|(_, sites)| lacks(sites))
    }

    /// The sites that some figures need.
    pub(crate) fn sites(which: &[Self]) -> Vec<Site> {
        let panels = which.iter().flat_map(|figure| figure.panels());
        let sites = panels.flat_map(|(_, sites)| sites.iter().map(|(site, _)| *site));
        let sites: BTreeSet<Site> = sites.collect();
        sites.into_iter().collect()
    }
}
