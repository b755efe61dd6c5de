//! The log of values that an intervention overwrote.

use std::fmt::Write;

use super::python::{python_float, python_list};
use super::tensor::torch_row;

/// Positions are reset and logged in two groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenGroup {
    /// Position 0.
    Starting,
    /// All later positions.
    NonStarting,
}

/// One dimension overwritten at the positions of one group of one sequence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reset {
    /// The new value.
    pub value: f64,
    /// Layer number from 0.
    pub layer: usize,
    /// Positions written.
    pub positions: Vec<usize>,
    /// Dimension written.
    pub dimension: usize,
    /// The values that were there, one per position.
    pub original: Vec<f64>,
}

/// Name of the log inside the run's folder, as in
/// `intervention_analysis/set_to_zero_ppl/wikitext_startingtoken.txt`.
pub fn reset_file(intervention: &str, dataset: &str, group: TokenGroup) -> String {
    let group = match group {
        TokenGroup::Starting => "startingtoken",
        TokenGroup::NonStarting => "nonstartingtoken",
    };
    format!("intervention_analysis/{intervention}_ppl/{dataset}_{group}.txt")
}

/// The whole log.
pub fn reset_text(resets: &[Reset]) -> String {
    let mut text = String::new();
    for reset in resets {
        let _ = writeln!(
            text,
            "Resetting massive activations to {} in layer {} token_dim {} loc {}. Original Value: {}",
            python_float(reset.value),
            reset.layer,
            python_list(&reset.positions),
            reset.dimension,
            torch_row(&reset.original)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_reference_writes_it() {
        let reset = |value, dimension, original| Reset {
            value,
            layer: 1,
            positions: vec![0],
            dimension,
            original: vec![original],
        };
        let expected = "\
Resetting massive activations to 0.0 in layer 1 token_dim [0] loc 1415. Original Value: tensor([[520.]])
Resetting massive activations to -45.5 in layer 1 token_dim [0] loc 1512. Original Value: tensor([[-45.5000]])
";
        assert_eq!(
            reset_text(&[reset(0.0, 1415, 520.0), reset(-45.5, 1512, -45.5)]),
            expected
        );
    }

    #[test]
    fn log_names() {
        assert_eq!(
            reset_file("set_to_mean_1", "c4", TokenGroup::NonStarting),
            "intervention_analysis/set_to_mean_1_ppl/c4_nonstartingtoken.txt"
        );
        assert_eq!(
            reset_file("set_to_zero", "pg19", TokenGroup::Starting),
            "intervention_analysis/set_to_zero_ppl/pg19_startingtoken.txt"
        );
    }
}
