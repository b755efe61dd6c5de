//! `intervention_analysis/results_ppl.txt`.

use std::fmt::Write;

use super::python::{python_float, python_list};

/// Name of the file inside the run's folder.
pub const PERPLEXITY_FILE: &str = "intervention_analysis/results_ppl.txt";

/// Perplexities by intervention and dataset, in the order they are to be printed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PerplexityText {
    /// (`original`, `set_to_zero`, `set_to_mean_1`, ...; (dataset, perplexity) each).
    pub interventions: Vec<(String, Vec<(String, f64)>)>,
    /// Dimensions no calibration sequence had, so that their mean is unknown.
    pub missing_dimensions: Vec<usize>,
}

/// The whole file.
pub fn perplexity_text(results: &PerplexityText) -> String {
    let mut text = String::from("Perplexity Results\n");
    for (intervention, datasets) in &results.interventions {
        let _ = writeln!(text, "{intervention}");
        for (dataset, perplexity) in datasets {
            let _ = writeln!(text, "{dataset}: {}", python_float(*perplexity));
        }
        text.push('\n');
    }
    if !results.missing_dimensions.is_empty() {
        let _ = writeln!(
            text,
            "Missing Embedding Location When Intervening with Mean\n{}",
            python_list(&results.missing_dimensions)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_reference_writes_it() {
        let datasets = |values: [f64; 3]| {
            ["wikitext", "c4", "pg19"]
                .map(String::from)
                .into_iter()
                .zip(values)
                .collect()
        };
        let mut results = PerplexityText {
            interventions: vec![
                (
                    "original".into(),
                    datasets([5.1327223777771, 7.645678997039795, 8.106417655944824]),
                ),
                (
                    "set_to_zero".into(),
                    datasets([8976.8955078125, 9774.1845703125, 6726.0966796875]),
                ),
            ],
            missing_dimensions: vec![],
        };
        let expected = "\
Perplexity Results
original
wikitext: 5.1327223777771
c4: 7.645678997039795
pg19: 8.106417655944824

set_to_zero
wikitext: 8976.8955078125
c4: 9774.1845703125
pg19: 6726.0966796875

";
        assert_eq!(perplexity_text(&results), expected);
        results.missing_dimensions = vec![334];
        let missing = "Missing Embedding Location When Intervening with Mean\n[334]\n";
        assert_eq!(perplexity_text(&results), format!("{expected}{missing}"));
    }
}
