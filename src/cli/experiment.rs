//! The commands that run one model and leave one folder: what a sweep's tasks are.

use clap::Subcommand;

use super::{
    args::{ModelArgs, OutputArgs},
    capture::{self, CaptureArgs},
    existence_validation::{self, ExistenceArgs},
    figures::{self, FiguresArgs},
    intervention_analysis::{self, InterventionArgs},
    life::{self, LifeArgs},
    profile::{self, ProfileArgs},
    run::Done,
    self_attention::{self, SelfAttentionArgs},
    shared::{CorpusRequest, Shared},
    sinks::{self, SinksArgs},
    tokens_analysis::{self, TokensArgs},
    top_activation_magnitude::{self, MagnitudeArgs},
};
use crate::error::Result;

// The underscored names are the reference program's.
#[derive(Debug, Subcommand)]
pub(super) enum Experiment {
    #[command(alias = "existence_validation")]
    ExistenceValidation(ExistenceArgs),
    #[command(alias = "tokens_analysis")]
    TokensAnalysis(TokensArgs),
    #[command(alias = "top_activation_magnitude")]
    TopActivationMagnitude(MagnitudeArgs),
    #[command(alias = "self_attention")]
    SelfAttention(SelfAttentionArgs),
    Figures(FiguresArgs),
    #[command(alias = "intervention_analysis")]
    InterventionAnalysis(Box<InterventionArgs>),
    Life(LifeArgs),
    Capture(CaptureArgs),
    Profile(ProfileArgs),
    Sinks(SinksArgs),
}

impl Experiment {
    /// Runs it, and puts its folder in place.
    pub(super) fn run(&self, shared: &Shared) -> Result<Done> {
        match self {
            Self::ExistenceValidation(args) => existence_validation::run(args, shared),
            Self::TokensAnalysis(args) => tokens_analysis::run(args, shared),
            Self::TopActivationMagnitude(args) => top_activation_magnitude::run(args, shared),
            Self::SelfAttention(args) => self_attention::run(args, shared),
            Self::Figures(args) => figures::run(args, shared),
            Self::InterventionAnalysis(args) => intervention_analysis::run(args, shared),
            Self::Life(args) => life::run(args, shared),
            Self::Capture(args) => capture::run(args, shared),
            Self::Profile(args) => profile::run(args, shared),
            Self::Sinks(args) => sinks::run(args, shared),
        }
    }

    /// Which model, and where.
    pub(super) fn model(&self) -> &ModelArgs {
        match self {
            Self::ExistenceValidation(args) => &args.model,
            Self::TokensAnalysis(args) => &args.model,
            Self::TopActivationMagnitude(args) => &args.model,
            Self::SelfAttention(args) => &args.model,
            Self::Figures(args) => &args.model,
            Self::InterventionAnalysis(args) => &args.model,
            Self::Life(args) => &args.model,
            Self::Capture(args) => &args.model,
            Self::Profile(args) => &args.model,
            Self::Sinks(args) => &args.model,
        }
    }

    /// As [`Experiment::model`], to be changed.
    pub(super) fn model_mut(&mut self) -> &mut ModelArgs {
        match self {
            Self::ExistenceValidation(args) => &mut args.model,
            Self::TokensAnalysis(args) => &mut args.model,
            Self::TopActivationMagnitude(args) => &mut args.model,
            Self::SelfAttention(args) => &mut args.model,
            Self::Figures(args) => &mut args.model,
            Self::InterventionAnalysis(args) => &mut args.model,
            Self::Life(args) => &mut args.model,
            Self::Capture(args) => &mut args.model,
            Self::Profile(args) => &mut args.model,
            Self::Sinks(args) => &mut args.model,
        }
    }

    /// Where its results go.
    pub(super) fn output(&self) -> &OutputArgs {
        match self {
            Self::ExistenceValidation(args) => &args.output,
            Self::TokensAnalysis(args) => &args.output,
            Self::TopActivationMagnitude(args) => &args.output,
            Self::SelfAttention(args) => &args.output,
            Self::Figures(args) => &args.output,
            Self::InterventionAnalysis(args) => &args.output,
            Self::Life(args) => &args.output,
            Self::Capture(args) => &args.output,
            Self::Profile(args) => &args.output,
            Self::Sinks(args) => &args.output,
        }
    }

    /// As [`Experiment::output`], to be changed.
    pub(super) fn output_mut(&mut self) -> &mut OutputArgs {
        match self {
            Self::ExistenceValidation(args) => &mut args.output,
            Self::TokensAnalysis(args) => &mut args.output,
            Self::TopActivationMagnitude(args) => &mut args.output,
            Self::SelfAttention(args) => &mut args.output,
            Self::Figures(args) => &mut args.output,
            Self::InterventionAnalysis(args) => &mut args.output,
            Self::Life(args) => &mut args.output,
            Self::Capture(args) => &mut args.output,
            Self::Profile(args) => &mut args.output,
            Self::Sinks(args) => &mut args.output,
        }
    }

    /// What it wants of a corpus that other experiments may want too.
    pub(super) fn corpus(&self) -> Option<CorpusRequest> {
        match self {
            Self::ExistenceValidation(args) => Some(args.corpus()),
            Self::TokensAnalysis(args) => Some(args.corpus()),
            Self::InterventionAnalysis(args) => Some(args.corpus()),
            _ => None,
        }
    }
}
