//! How much work the paper's experiments on a checkpoint are.

use super::plan::{BOS, Checkpoint};

/// Corpus sequences that are walked: the calibration's, which the other experiments share.
const CORPUS: u64 = 100;
/// Windows of c4 and pg19.
const WINDOWS: u64 = 2 * 100;
/// Tokens of wikitext's test split, more or less, whatever the tokenizer.
const WIKITEXT: u64 = 300_000;
/// Walks over the evaluation windows: the original, zeros, and the mean of one layer. (A mean a first
/// layer that occurs; most models have one. Variants skip the layers below the first massive one.)
const WALKS: u64 = 3;

impl Checkpoint {
    /// Tokens that pass through the model, with BOS and without.
    pub fn tokens(&self) -> u64 {
        let length = self.context_length as u64;
        let evaluated = WIKITEXT + WINDOWS * length;
        BOS.len() as u64 * (CORPUS * length + WALKS * evaluated)
    }

    /// Floating-point operations of its products: two for each parameter and token. Those of attention
    /// are a tenth more at 4096 tokens.
    pub fn flops(&self) -> f64 {
        2.0 * self.parameters as f64 * self.tokens() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoints;

    #[test]
    fn a_model_of_seven_billion_is_a_tenth_of_an_exaflop() {
        let all = checkpoints();
        let llama = all.iter().find(|own| own.hub_id.contains("Llama-2-7b"));
        let flops = llama.expect("there").flops();
        assert!((8e16..2e17).contains(&flops), "{flops}");
    }
}
