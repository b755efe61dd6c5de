//! What profile shows.

use serde_json::json;

use super::{Artifacts, Context, magnitudes, page, page::Verdict, sites};
use crate::{
    engine::Site,
    error::Result,
    experiments::profile::{SCHEMA, SiteProfile, SiteProfiles},
    report::{
        LongTable,
        long_table::{Cell, Column, Kind},
        number::significant,
        plot::{LayerMap, LayerMaps, LineChart, Marker, Scale, ScaleChoice, Series, palette},
        records::Records,
        table::{Align, Row, Table},
        visible::token_label,
    },
};

/// The long table: a row a number.
const COLUMNS: &[Column] = &[
    Column::full("model", Kind::Text),
    Column::nullable("revision", Kind::Text),
    Column::full("layer", Kind::Integer),
    Column::full("site", Kind::Text),
    Column::full("statistic", Kind::Text),
    Column::nullable("value", Kind::Number),
];

/// Files and table.
pub(crate) fn artifacts(
    result: &SiteProfiles,
    scale: ScaleChoice,
    context: &Context<'_>,
) -> Result<Artifacts> {
    let document = context.document(SCHEMA, result)?;
    let mut artifacts = Artifacts::new("profile.json", document)?;
    let long = long_table(result, context);
    artifacts.file("profile.parquet", long.to_parquet()?);
    artifacts.file("profile.csv", long.to_csv());
    let table = table(result);
    let mut sections = Vec::new();
    let maps = maps(result, scale, context);
    if maps.layers > 0 {
        let svg = artifacts.figure("profile", maps.to_svg()?)?;
        sections.push(page::figure("Sites and layers", svg));
    }
    if let Some(chart) = quantiles(result, scale, context) {
        let svg = artifacts.figure("hidden_state_quantiles", chart.to_svg())?;
        let explored = magnitudes::explored(&chart, Vec::new());
        sections.push(page::figure("Hidden states", svg).explored([explored]));
    }
    sections.push(page::table("Sites, extremes over layers", &table));
    artifacts.page(context, verdict(result, context), sections);
    for site in overflowing(result) {
        artifacts.notice(format!(
            "{} of layer {} reach {}, beyond float16's 65504",
            sites::tensors(site.site),
            site.layer,
            significant(f64::from(site.max))
        ));
    }
    artifacts.sheet("sites", table.clone(), records(result));
    artifacts.table(table);
    Ok(artifacts)
}

/// Of each site what float16 cannot hold most clearly.
fn overflowing(result: &SiteProfiles) -> Vec<&SiteProfile> {
    let largest = by_site(result).into_iter().filter_map(|(_, layers)| {
        let layers = layers.into_iter();
        layers.max_by(|a, b| a.max.total_cmp(&b.max).then(b.layer.cmp(&a.layer)))
    });
    let beyond = |site: &&SiteProfile| site.float16_headroom.is_some_and(|room| room < 1.0);
    largest.filter(beyond).collect()
}

fn verdict(result: &SiteProfiles, context: &Context<'_>) -> Verdict {
    let sites = result.sites.iter();
    let largest = sites.max_by(|a, b| a.max.total_cmp(&b.max).then(b.layer.cmp(&a.layer)));
    let text = match largest {
        Some(site) => format!(
            "{}: the largest magnitude is {}, among the {} of layer {}",
            context.name(),
            significant(f64::from(site.max)),
            sites::tensors(site.site),
            site.layer
        ),
        None => format!("{}: nothing to look at", context.name()),
    };
    Verdict {
        text,
        highlight: !overflowing(result).is_empty(),
    }
}

/// Statistics that are one number, by their names in the JSON.
fn numbers(site: &SiteProfile) -> Vec<(String, Option<f64>)> {
    let mut numbers: Vec<(String, Option<f64>)> = [
        ("max", Some(f64::from(site.max))),
        ("rms", Some(site.rms)),
        ("mean", Some(site.mean)),
        ("std", Some(site.std)),
        ("kurtosis", site.kurtosis),
        ("median", Some(site.median)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let quantiles = site.quantiles.iter();
    numbers.extend(quantiles.map(|(name, value)| (format!("quantile_{name}"), Some(*value))));
    let more = [
        ("per_token_ratio", site.per_token_ratio),
        ("residual_sinks", Some(site.residual_sinks.len() as f64)),
        ("float16_headroom", site.float16_headroom),
        ("int8_sqnr_db", site.int8_sqnr_db),
        ("int8_sqnr_clipped_db", site.int8_sqnr_clipped_db),
    ];
    numbers.extend(more.map(|(name, value)| (name.to_owned(), value)));
    numbers
}

fn long_table(result: &SiteProfiles, context: &Context<'_>) -> LongTable {
    let mut table = LongTable::new("profile", COLUMNS);
    let model = Cell::from(&context.model.name);
    let revision = context
        .model
        .commit
        .as_ref()
        .or(context.model.revision.as_ref());
    let revision = Cell::from(revision);
    for site in &result.sites {
        for (statistic, value) in numbers(site) {
            table.push([
                model.clone(),
                revision.clone(),
                site.layer.into(),
                site.site.name().into(),
                Cell::from(&statistic),
                value.into(),
            ]);
        }
    }
    table
}

/// The sites and their layers.
fn by_site(result: &SiteProfiles) -> Vec<(Site, Vec<&SiteProfile>)> {
    let mut sites: Vec<(Site, Vec<&SiteProfile>)> = Vec::new();
    for profile in &result.sites {
        match sites.last_mut() {
            Some((site, layers)) if *site == profile.site => layers.push(profile),
            _ => sites.push((profile.site, vec![profile])),
        }
    }
    sites
}

/// The four numbers of which a user wants to see the outliers first, sites down and layers across.
fn maps(result: &SiteProfiles, scale: ScaleChoice, context: &Context<'_>) -> LayerMaps {
    let of_layers: Vec<(Site, Vec<&SiteProfile>)> = by_site(result)
        .into_iter()
        .filter(|(site, _)| site.per_layer())
        .collect();
    let profiles = of_layers.iter().flat_map(|(_, profiles)| profiles);
    let layers = profiles.map(|profile| profile.layer + 1).max().unwrap_or(0);
    let map = |title: &str,
               bar: &str,
               scale: Option<ScaleChoice>,
               value: fn(&SiteProfile) -> Option<f64>| {
        let rows: Vec<(String, Vec<f64>)> = of_layers
            .iter()
            .map(|(site, profiles)| {
                let mut row = vec![f64::NAN; layers];
                for profile in profiles {
                    row[profile.layer] = value(profile).unwrap_or(f64::NAN);
                }
                (site.name().to_owned(), row)
            })
            .collect();
        let values = rows.iter().flat_map(|(_, values)| values.iter().copied());
        let scale = scale.map_or(Scale::Linear, |scale| scale.of(values));
        LayerMap {
            title: title.to_owned(),
            bar_label: bar.to_owned(),
            rows,
            scale,
        }
    };
    LayerMaps {
        title: context.name().to_owned(),
        layers,
        maps: vec![
            map("Largest magnitude", "max |x|", Some(scale), |site| {
                Some(f64::from(site.max))
            }),
            map(
                "Heaviness of the tails",
                "excess kurtosis",
                Some(scale),
                |site| site.kurtosis,
            ),
            map(
                "Largest over median, of the token where it is largest",
                "ratio",
                Some(scale),
                |site| site.per_token_ratio,
            ),
            map("Signal over noise in 8 bits", "dB", None, |site| {
                site.int8_sqnr_db
            }),
        ],
    }
}

/// Quantiles of the hidden states by layer, up to the largest.
fn quantiles(
    result: &SiteProfiles,
    scale: ScaleChoice,
    context: &Context<'_>,
) -> Option<LineChart> {
    let hidden: Vec<&SiteProfile> = result
        .sites
        .iter()
        .filter(|profile| profile.site == Site::LayerOutput)
        .collect();
    let of = |name: &str| -> Vec<(f64, f64)> {
        let layers = hidden.iter();
        let points = layers.map(|profile| {
            let value = match name {
                "max" => f64::from(profile.max),
                quantile => profile.quantiles.get(quantile).copied().unwrap_or(f64::NAN),
            };
            (profile.layer as f64, value)
        });
        points.collect()
    };
    let lines = [
        ("0.5", "median", palette::GRAY, Marker::Square),
        ("0.9", "90 %", palette::SKY, Marker::Circle),
        ("0.99", "99 %", palette::GREEN, Marker::Square),
        ("0.999", "99.9 %", palette::ORANGE, Marker::Circle),
        ("max", "largest", palette::BLUE, Marker::Square),
    ];
    let series: Vec<Series> = lines
        .into_iter()
        .map(|(name, label, color, marker)| Series {
            label: label.to_owned(),
            color,
            marker,
            points: of(name),
        })
        .collect();
    let values = series.iter().flat_map(|series| &series.points);
    let y_scale = scale.of(values.map(|(_, value)| *value));
    (!hidden.is_empty()).then(|| LineChart {
        title: format!("{}: quantiles of hidden states", context.name()),
        x_label: "Layer (first is 0)".to_owned(),
        y_label: "Magnitude".to_owned(),
        series,
        y_scale,
        highlight: None,
    })
}

/// The table in full.
fn records(result: &SiteProfiles) -> Records {
    let names = result.sites.first().map(numbers).unwrap_or_default();
    let names = names.into_iter().map(|(name, _)| name);
    let mut records = Records::new(
        ["site".to_owned(), "layer".to_owned()]
            .into_iter()
            .chain(names),
    );
    for site in &result.sites {
        let mut record = vec![json!(site.site), json!(site.layer)];
        record.extend(numbers(site).into_iter().map(|(_, value)| json!(value)));
        records.push(record.into());
    }
    records
}

/// A row a site: where it is largest, and the worst that any layer has of the rest.
fn table(result: &SiteProfiles) -> Table {
    let mut table = Table::new([
        ("site", Align::Left),
        ("max |x|", Align::Right),
        ("layer", Align::Right),
        ("token", Align::Left),
        ("dimension", Align::Right),
        ("kurtosis", Align::Right),
        ("per token", Align::Right),
        ("float16", Align::Right),
        ("int8 dB", Align::Right),
        ("clipped", Align::Right),
        ("residual sinks", Align::Left),
    ]);
    for (site, layers) in by_site(result) {
        let order = |a: &&&SiteProfile, b: &&&SiteProfile| {
            a.max.total_cmp(&b.max).then(b.layer.cmp(&a.layer))
        };
        let Some(largest) = layers.iter().max_by(order) else {
            continue;
        };
        let extreme = |value: fn(&SiteProfile) -> Option<f64>, pick: fn(f64, f64) -> f64| {
            let values = layers.iter().filter_map(|profile| value(profile));
            values
                .reduce(pick)
                .map_or_else(|| "-".to_owned(), significant)
        };
        let top = largest.top.first();
        table.push(Row::new(vec![
            site.name().to_owned(),
            significant(f64::from(largest.max)),
            if site.per_layer() {
                largest.layer.to_string()
            } else {
                String::new()
            },
            top.map_or_else(String::new, |top| {
                format!("{} ({})", token_label(&top.token), top.position)
            }),
            top.map_or_else(String::new, |top| top.dimension.to_string()),
            extreme(|profile| profile.kurtosis, f64::max),
            extreme(|profile| profile.per_token_ratio, f64::max),
            extreme(|profile| profile.float16_headroom, f64::min),
            extreme(|profile| profile.int8_sqnr_db, f64::min),
            extreme(|profile| profile.int8_sqnr_clipped_db, f64::min),
            sinks(&layers),
        ]));
    }
    table
}

/// The dimensions that are residual sinks in any layer, those of most layers first.
fn sinks(layers: &[&SiteProfile]) -> String {
    const MOST: usize = 4;
    let all = layers.iter().flat_map(|profile| &profile.residual_sinks);
    let mut counts: Vec<(usize, usize)> = Vec::new();
    for sink in all {
        match counts
            .iter_mut()
            .find(|(dimension, _)| *dimension == sink.dimension)
        {
            Some((_, count)) => *count += 1,
            None => counts.push((sink.dimension, 1)),
        }
    }
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut shown: Vec<String> = counts
        .iter()
        .take(MOST)
        .map(|(dimension, _)| dimension.to_string())
        .collect();
    if counts.len() > MOST {
        shown.push(format!("and {} more", counts.len() - MOST));
    }
    shown.join(", ")
}
