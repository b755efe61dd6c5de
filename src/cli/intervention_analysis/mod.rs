//! `massact intervention-analysis`

mod place;
mod sets;
mod tasks;

pub(super) use place::PlaceSettings;

use std::collections::BTreeSet;

use clap::Args;

use self::{place::PlaceArgs, sets::SetArg, tasks::TaskArgs};
use super::{
    args::{ModelArgs, OutputArgs, TextArgs, ThresholdArgs, positive},
    run::{Done, Run, Texts},
    settings::{self, CorpusSettings, InterventionSettings, TextSettings},
    shared::{Corpus, CorpusRequest, Shared},
};
use crate::{
    data::{
        items::Task,
        sequences::{self, Sequences},
    },
    error::Result,
    experiments::{
        intervention_analysis::{self, EvaluationSet, PositionsFrom, Setup, WrittenLayers},
        published,
    },
    present::{self, Compat},
};

/// What becomes of perplexity when the massive activations are overwritten?
#[derive(Debug, Args)]
pub(super) struct InterventionArgs {
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    text: TextArgs,
    /// Corpus sequences that the first massive layer and the dimensions come from.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = positive)]
    nsamples: usize,
    /// Corpus sequences that the mean values come from.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = positive)]
    calibration_nsamples: usize,
    /// A set to measure perplexity on: a dataset by name, or NAME=FILE, where the file is the joined
    /// text; wikitext, c4 and pg19 bring the reference's windows, other names take all full
    /// windows. Repeatable. Default: the file of --text-file or --dataset, as NAME text; without one
    /// wikitext, c4 and pg19; for the demo and with --dataset builtin, builtin.
    #[arg(long, value_name = "NAME[=FILE]", value_parser = sets::set_arg)]
    eval: Vec<SetArg>,
    /// Which layers' outputs are overwritten: the first massive one, all that are massive, or a
    /// list such as 3,4.
    #[arg(long, value_name = "first|all|L,..", default_value = "first", value_parser = layers)]
    layers: WrittenLayers,
    /// Also write this constant, as intervention set_to_VALUE. Repeatable.
    #[arg(long, value_name = "VALUE", allow_negative_numbers = true, value_parser = finite)]
    set_to: Vec<f32>,
    /// Also multiply each value by 1 + SIGMA g, where g is from a standard normal distribution, as
    /// intervention noise_SIGMA: how exactly must the values be kept? Repeatable.
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true, value_parser = deviation)]
    noise: Vec<f64>,
    /// Which layer shows the token positions that are overwritten in a window: its own first massive
    /// layer, as in the published program, or the layer that is overwritten.
    #[arg(long, value_enum, default_value_t = PositionsFrom::Own)]
    positions_from: PositionsFrom,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    /// Whose dimensions are overwritten: `reference` follows the published program, whose list
    /// depends on the order of the corpus. The JSON holds both.
    #[arg(long, value_enum, default_value_t = Compat::None)]
    compat: Compat,
    #[command(flatten)]
    tasks: TaskArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

fn layers(text: &str) -> Result<WrittenLayers, String> {
    match text {
        "first" => Ok(WrittenLayers::First),
        "all" => Ok(WrittenLayers::All),
        list => list
            .split(',')
            .map(|layer| layer.trim().parse())
            .collect::<Result<BTreeSet<usize>, _>>()
            .map(WrittenLayers::Listed)
            .map_err(|_| "expected first, all or layer numbers such as 3,4".into()),
    }
}

fn deviation(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= f64::from(f32::MAX) => Ok(value),
        _ => Err("expected a number above 0 that float32 can hold".into()),
    }
}

fn finite(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("expected a number that float32 can hold".into()),
    }
}

impl InterventionArgs {
    /// What it wants of the corpus.
    pub(super) fn corpus(&self) -> CorpusRequest {
        CorpusRequest {
            text: self.text.clone(),
            nsamples: self.nsamples.max(self.calibration_nsamples),
            thresholds: self.thresholds,
            values: true,
        }
    }

    pub(super) fn settings(
        &self,
        corpus: &Sequences,
        evaluation: &[EvaluationSet],
        tasks: &[Task],
    ) -> InterventionSettings {
        let revision = self.model.source.revision.as_deref();
        InterventionSettings {
            corpus: CorpusSettings {
                text: TextSettings::of(corpus, self.text.seed, revision),
                nsamples: self.nsamples,
                thresholds: self.thresholds,
            },
            calibration_nsamples: self.calibration_nsamples,
            layers: self.layers.clone(),
            positions_from: self.positions_from,
            set_to: self.set_to.clone(),
            noise: self.noise.clone(),
            compat: self.compat,
            place: self.place.settings(),
            evaluation_sets: evaluation.iter().map(Into::into).collect(),
            tasks: self.tasks.settings(tasks),
        }
    }

    fn setup(&self) -> Setup {
        Setup {
            thresholds: self.thresholds.into(),
            nsamples: self.nsamples,
            calibration_nsamples: self.calibration_nsamples,
            layers: self.layers.clone(),
            positions_from: self.positions_from,
            constants: self.set_to.clone(),
            noise: self.noise.clone(),
            reference: self.compat == Compat::Reference,
            seed: self.text.seed,
            anywhere: self.place.anywhere(),
        }
    }
}

pub(super) fn run(args: &InterventionArgs, shared: &Shared) -> Result<Done> {
    let run = Run::open(
        shared,
        "intervention-analysis",
        &args.model,
        &args.output,
        args.text.seed,
    )?;
    let model = run.model();
    args.layers.check(&model.spec)?;
    args.place.anywhere().check(&model.spec)?;
    let wanted_tasks = args.tasks.wanted()?;
    let wanted = sets::wanted(&args.eval, &args.text, run.built_in_model(), run.progress)?;
    // Before gigabytes of text are read. How many means there will be is not known yet.
    let context_length = sequences::context_length(args.text.context_length, model)?;
    let variants = 2 + args.set_to.len() + args.noise.len() + args.place.variants();
    run.session().check_memory(context_length, variants)?;
    let corpus = run.windows(&args.text, args.corpus().nsamples)?;
    let mut evaluation = Vec::new();
    let mut sources = Vec::new();
    for set in &wanted {
        let (set, source) = sets::load(set, model, &corpus, &args.text, run.progress)?;
        evaluation.push(set);
        sources.push(source);
    }
    let (tasks, task_sources) = args.tasks.load(&wanted_tasks, model, run.progress)?;
    sources.extend(task_sources);
    let windows = evaluation.iter().flat_map(|set| &set.windows);
    let evaluated: usize = windows.map(Vec::len).sum::<usize>() + tasks::tokens(&tasks);
    let mut texts = Texts::from(&corpus);
    texts.evaluation = &sources;
    texts.tokens += evaluated as u64;
    let mut setup = args.setup();
    if !setup.anywhere.at_published_place() {
        let calibration = corpus.ids.iter().take(args.calibration_nsamples);
        setup.anywhere.calibration = calibration.cloned().collect();
    }
    run.conduct(
        texts,
        &settings::value(&args.settings(&corpus, &evaluation, &tasks))?,
        |_| {
            run.session().expect_walks(2);
            let Corpus { walk, timings } = run.corpus(&args.corpus())?;
            let mut found =
                intervention_analysis::run(run.session(), &walk, &evaluation, &tasks, &setup)?;
            found.timings += timings;
            Ok(found)
        },
        |result, context| {
            let published = published::find(context.model.published_name(), corpus.add_bos_token);
            present::intervention_analysis::artifacts(
                &result,
                published.as_ref(),
                args.compat,
                context,
            )
        },
    )
}
