//! Llama 1 to 3 (transformers `modeling_llama.py`): RMSNorm, RoPE, GQA, SwiGLU.
#![forbid(unsafe_code)]

use super::{
    Family,
    llama_like::{self, Options},
};

/// Registry row.
pub(super) const FAMILY: Family = Family {
    without_effect: &["is_llama_config", "max_sequence_length", "rope_interleaved"],
    ..Family::llama_like(
        "llama",
        "meta-llama/Llama-3.2-1B",
        "RMSNorm, RoPE (linear, dynamic, yarn, longrope and llama3 scaling), GQA, SwiGLU, optional biases",
        |config, names| llama_like::describe(config, names, &Options::read(config)?, |_, _| Ok(())),
    )
};
