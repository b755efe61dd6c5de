//! `massact figures`

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    args::{ModelArgs, OutputArgs, ThresholdArgs},
    existence_validation::significant,
    figures,
    run::Run,
    sentence::SentenceArgs,
    site_figures::{self, Figure, Ridges},
};
use crate::{
    engine::Site,
    error::Result,
    experiments::activation_figures::{self, ActivationFigures, Request},
    report::{
        html::{Body, Section},
        plot::RidgeShape,
        table::{Align, Row, Table},
        text::FEATURES_FILE,
        visible::token_label,
    },
};

/// Output features in 3-D, and magnitudes in attention, MLP and norms, as pictures.
#[derive(Debug, Args)]
pub(super) struct FiguresArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sentence: SentenceArgs,
    /// Which figures; all by default.
    #[arg(long, value_name = "A,B", value_enum, value_delimiter = ',')]
    which: Vec<Figure>,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &FiguresArgs) -> Result<()> {
    let run = Run::open(
        "figures",
        &args.model,
        &args.output,
        args.sentence.text.seed,
    )?;
    let model = run.model();
    let sequences = args.sentence.load(&run)?;
    let loaded = run.elapsed();
    let which = if args.which.is_empty() {
        Figure::value_variants()
    } else {
        &args.which
    };
    let panels = which.iter().flat_map(|figure| figure.panels());
    let mut sites: Vec<Site> = panels
        .flat_map(|(_, sites)| sites.iter().map(|(site, _)| *site))
        .collect();
    sites.sort_unstable();
    sites.dedup();
    let spec = &model.spec;
    let mut ridges = Ridges {
        shape: RidgeShape::new(
            spec.layers.len(),
            sequences.context_length,
            spec.hidden_size,
        ),
        plots: Vec::new(),
    };
    let finding = activation_figures::run(
        &run.session,
        &sequences.ids,
        &Request {
            abs_threshold: args.thresholds.abs_threshold as f32,
            rel_threshold: args.thresholds.rel_threshold as f32,
            sites,
            outputs: which.contains(&Figure::OutputFeatureTokenwise),
        },
        &mut ridges,
    )?;
    let mut settings = args.sentence.settings(&sequences);
    let names: Vec<&str> = which.iter().map(|figure| figure.file()).collect();
    for (name, value) in [
        ("which", json!(names)),
        ("abs_threshold", json!(args.thresholds.abs_threshold)),
        ("rel_threshold", json!(args.thresholds.rel_threshold)),
        ("revision", json!(args.model.revision)),
    ] {
        settings.insert(name.to_owned(), value);
    }
    let settings = Value::Object(settings);
    let folder = run.folder(&settings)?;
    let result = &finding.result;
    let document = run.document(activation_figures::SCHEMA, &settings, result)?;
    folder.write_json("figures.json", &document)?;
    let name = run.model_name();
    let mut sections = Vec::new();
    for figure in which {
        let svg = match figure {
            Figure::OutputFeatureTokenwise => {
                folder.write(FEATURES_FILE, site_figures::features(result))?;
                site_figures::tokenwise(&folder, &name, result, &ridges)?
            }
            _ => site_figures::magnitudes(&folder, *figure, &name, result)?,
        };
        sections.push(Section::new(figure.heading(), Body::Figure(svg)));
    }
    let table = table(result);
    sections.push(figures::table_section("Layers", &table));
    sections.push(figures::settings_section(&settings));
    let verdict = verdict(&name, result);
    let massive = !result.massive_positions.is_empty();
    figures::page_of(
        &folder,
        &run,
        (&verdict, massive),
        "float32 on the CPU",
        sections,
    )?;
    run.finish(&folder, settings, &sequences, loaded, finding.timings)?;
    run.present(&folder, &document, || {
        table.print()?;
        super::print_line(&format!("\n{verdict}"))
    })
}

fn table(result: &ActivationFigures) -> Table {
    let mut columns = vec![
        ("layer".to_owned(), Align::Right),
        ("output".to_owned(), Align::Right),
        ("median".to_owned(), Align::Right),
        ("massive".to_owned(), Align::Left),
    ];
    // In the order of the forward pass.
    let sites: Vec<_> = Site::ALL
        .iter()
        .filter_map(|site| Some((site.name(), result.sites.get(site.name())?)))
        .collect();
    columns.extend(
        sites
            .iter()
            .map(|(site, _)| ((*site).to_owned(), Align::Right)),
    );
    let mut table = Table::new(columns);
    for layer in &result.layers {
        let massive = !layer.massive.is_empty();
        let mut cells = vec![
            layer.layer.to_string(),
            significant(f64::from(layer.max)),
            significant(f64::from(layer.median)),
            if massive { "yes" } else { "" }.to_owned(),
        ];
        let largest = sites.iter().map(|(_, layers)| layers[layer.layer].max);
        cells.extend(largest.map(|max| significant(f64::from(max))));
        table.push(Row::new(cells).emphasised(massive));
    }
    table
}

fn verdict(name: &str, result: &ActivationFigures) -> String {
    if result.massive_positions.is_empty() {
        return format!("{name} has no massive activations in this sequence");
    }
    let places: Vec<String> = result
        .massive_positions
        .iter()
        .take(5)
        .map(|position| format!("{} at {position}", token_label(&result.tokens[*position])))
        .collect();
    let dimensions: Vec<String> = result
        .massive_dimensions
        .iter()
        .map(usize::to_string)
        .collect();
    format!(
        "{name} has massive activations on {}, in dimension {}",
        places.join(", "),
        dimensions.join(", ")
    )
}
