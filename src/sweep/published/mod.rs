//! The paper's 18 checkpoints: what to run, and what one has measured beside what was published.

mod compare;
mod effort;
mod plan;
mod tables;
mod tolerance;

pub use self::{
    compare::{Comparison, Row, Value, Verdict, compare},
    plan::{BOS, Checkpoint, checkpoints, pick},
    tables::{long_table, table, verdicts},
};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value as Json, json};

    use super::*;
    use crate::{
        experiments::published::{self, PublishedRun},
        sweep::{
            runs::{self, MeasuredRun, examples::finished},
            task::Finished,
        },
    };

    /// Runs that found exactly what was published.
    fn exact(folder: &Path, run: &PublishedRun) -> Vec<Finished> {
        let settings = json!({
            "add_bos_token": run.bos_token, "context_length": run.context_length,
        });
        let means = &run.existence_top1_mean_by_layer;
        let layers: Vec<Json> = means
            .iter()
            .map(|(layer, top)| {
                json!({
                    "layer": layer, "top1_mean": top, "median_mean": 0.1, "ratio": top / 0.1,
                    "massive": true, "top": [],
                })
            })
            .collect();
        let existence = json!({ "has_massive_activations": !means.is_empty(), "layers": layers });
        let tokens = json!({
            "first_layer": run.first_layer, "dimensions": run.dimensions.clone().unwrap_or_default(),
            "dimensions_reference": run.dimensions.clone().unwrap_or_default(),
        });
        let names: Vec<&String> = run.perplexity.keys().collect();
        let sets = ["wikitext", "c4", "pg19"].map(|name| json!({ "name": name }));
        let interventions = json!({
            "interventions": names, "evaluation": sets, "perplexity": run.perplexity, "ratios": {},
        });
        let dimensions = json!({ "massive_dimensions": [] });
        let place = |name: &str| folder.join(format!("{}-{}-{name}", run.hub_id, run.bos_token));
        let of = |command: &str, documents: &[(&str, Json)]| {
            finished(
                &place(command),
                (command, &run.hub_id),
                &settings,
                documents,
            )
        };
        vec![
            of(
                "existence-validation",
                &[("existence_validation.json", existence)],
            ),
            of(
                "tokens-analysis",
                &[
                    ("tokens_analysis.json", tokens),
                    ("massive_dimensions.json", dimensions),
                ],
            ),
            of(
                "intervention-analysis",
                &[("intervention_analysis.json", interventions)],
            ),
        ]
    }

    fn measured(folder: &Path, wanted: impl Fn(&PublishedRun) -> bool) -> Vec<MeasuredRun> {
        let all = published::all().into_iter().filter(wanted);
        let finished: Vec<Finished> = all.flat_map(|run| exact(folder, &run)).collect();
        runs::read(&finished).expect("read")
    }

    #[test]
    fn what_was_published_agrees_with_itself() {
        let place = tempfile::tempdir().expect("a folder");
        let found = compare(&measured(place.path(), |_| true));
        assert_eq!(found.verdicts.len(), 36);
        for verdict in &found.verdicts {
            assert_eq!(verdict.text(), "agrees", "{verdict:?}");
            assert!(verdict.compared >= 8, "{verdict:?}");
        }
        assert_eq!(found.notes.len(), 4);
        assert!(found.rows.iter().all(|row| row.agrees != Some(false)));
        // For Gemma 3 the first layer is that of the means.
        let gemma = |row: &&Row| row.model == "google/gemma-3-4b-pt" && row.add_bos_token;
        let first = found
            .rows
            .iter()
            .filter(gemma)
            .find(|row| row.quantity.contains("first"));
        let first = first.expect("there");
        assert_eq!(
            (first.quantity.as_str(), &first.measured),
            ("first layer by means", &first.published)
        );
        let lengths = (table(&found).rows.len(), long_table(&found).rows.len());
        assert_eq!(lengths, (found.rows.len(), found.rows.len()));
        assert_eq!(verdicts(&found).rows.len(), 36);
        long_table(&found).to_parquet().expect("bytes");
    }

    /// Of every quantity: a difference that is one, and one that is none.
    #[test]
    fn differences_are_seen() {
        let place = tempfile::tempdir().expect("a folder");
        let llama = |run: &PublishedRun| run.hub_id == "meta-llama/Llama-2-7b-hf" && run.bos_token;
        let differ = |change: &dyn Fn(&mut runs::Found)| {
            let mut runs = measured(place.path(), llama);
            runs.iter_mut().for_each(|run| change(&mut run.found));
            compare(&runs).verdicts[0].differ.join("; ")
        };
        let perplexity = |name: &'static str, factor: f64| {
            move |found: &mut runs::Found| {
                if let runs::Found::Interventions(found) = found {
                    let value = found
                        .perplexity
                        .get_mut(name)
                        .and_then(|sets| sets.get_mut("c4"));
                    let value = value.and_then(Option::as_mut).expect("there");
                    *value *= factor;
                }
            }
        };
        let top = |factor: f64| {
            move |found: &mut runs::Found| {
                if let runs::Found::Existence(found) = found {
                    found
                        .layers
                        .iter_mut()
                        .for_each(|layer| layer.top1_mean *= factor);
                }
            }
        };
        assert_eq!(differ(&perplexity("original", 1.015)), "");
        assert_eq!(
            differ(&perplexity("original", 1.03)),
            "perplexity of original on c4"
        );
        assert_eq!(
            differ(&perplexity("set_to_mean_1", 0.97)),
            "perplexity of set_to_mean_1 on c4"
        );
        assert_eq!(differ(&perplexity("set_to_zero", 5.0)), "");
        assert_eq!(
            differ(&perplexity("set_to_zero", 0.05)),
            "perplexity of set_to_zero on c4"
        );
        assert_eq!(differ(&top(1.02)), "");
        assert_eq!(differ(&top(0.95)), "largest mean top-1");
        let order = |found: &mut runs::Found| {
            if let runs::Found::Tokens(found, _) = found {
                found.dimensions.push(4000);
                found.first_layer = None;
            }
        };
        assert_eq!(differ(&order), "first layer; dimensions");
        let nothing = |found: &mut runs::Found| {
            if let runs::Found::Existence(found) = found {
                found.has_massive_activations = false;
                found.layers.clear();
            }
        };
        assert_eq!(
            differ(&nothing),
            "has massive activations; largest mean top-1"
        );
        let missing = |found: &mut runs::Found| {
            if let runs::Found::Interventions(found) = found {
                found.interventions.retain(|name| name != "set_to_mean_1");
                found.perplexity.remove("set_to_mean_1");
            }
        };
        assert!(differ(&missing).contains("set_to_mean_1 on wikitext"));
    }

    #[test]
    fn other_lengths_and_other_models_are_not_compared() {
        let place = tempfile::tempdir().expect("a folder");
        let gpt2 = |run: &PublishedRun| run.hub_id.ends_with("gpt2") && !run.bos_token;
        let mut runs = measured(place.path(), gpt2);
        let same = runs.clone();
        for run in &mut runs {
            run.context_length = Some(512);
        }
        let found = compare(&runs);
        assert_eq!(found.verdicts[0].text(), "not comparable");
        let note = found.rows[0].note.as_deref();
        assert_eq!(note, Some("context length 512, published 1024"));
        // One of the published length beside it counts.
        runs.extend(same);
        assert_eq!(compare(&runs).verdicts[0].text(), "agrees");
        for run in &mut runs {
            run.name = "somebody/else".to_owned();
        }
        assert_eq!(compare(&runs), Comparison::default());
    }
}
