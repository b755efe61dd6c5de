//! From the names of tensors in a file to those of the same model in transformers.
#![forbid(unsafe_code)]

use crate::{
    error::Result,
    model::weights::{RowOrder, gguf::Form},
};

/// What a part of a layer is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    /// The same.
    Same,
    /// Projections whose rows are ordered for rotation in neighbouring pairs.
    Rotated,
    /// Query, key and value projections one after the other, not by head.
    Parted,
    /// A vector with 1 added to its weight.
    PlusOne,
    /// A row.
    Row,
    /// A stack of one for each expert; `{}` in the name is its number.
    Experts,
    /// A stack of one for each head; `{}` in the name is its number.
    Heads,
}

/// A module of a layer: the file's name, the model's, and how the one is the other.
pub(super) type Part = (&'static str, &'static str, As);

/// How the tensors of an architecture are named.
#[derive(Debug)]
pub(super) struct Naming {
    /// Modules that are no layer's.
    pub(super) root: &'static [Part],
    /// What comes before a layer's number.
    pub(super) layers: &'static str,
    /// Modules of a layer; the first of a name counts.
    pub(super) parts: &'static [&'static [Part]],
}

/// Outside of layers, as Llama and most others have it.
pub(super) const ROOT: &[Part] = &[
    ("token_embd", "model.embed_tokens", As::Same),
    ("output_norm", "model.norm", As::Same),
    ("output", "lm_head", As::Same),
];

/// A layer, as Llama and most others have it.
pub(super) const LAYER: &[Part] = &[
    ("attn_norm", "input_layernorm", As::Same),
    ("attn_q", "self_attn.q_proj", As::Same),
    ("attn_k", "self_attn.k_proj", As::Same),
    ("attn_v", "self_attn.v_proj", As::Same),
    ("attn_output", "self_attn.o_proj", As::Same),
    ("attn_q_norm", "self_attn.q_norm", As::Same),
    ("attn_k_norm", "self_attn.k_norm", As::Same),
    ("ffn_norm", "post_attention_layernorm", As::Same),
    ("ffn_gate", "mlp.gate_proj", As::Same),
    ("ffn_up", "mlp.up_proj", As::Same),
    ("ffn_down", "mlp.down_proj", As::Same),
];

/// Queries and keys where llama.cpp rotates neighbouring rows and transformers does not.
pub(super) const ROTATED: &[Part] = &[
    ("attn_q", "self_attn.q_proj", As::Rotated),
    ("attn_k", "self_attn.k_proj", As::Rotated),
];

/// Experts as most have them, with a shared one.
pub(super) const EXPERTS: &[Part] = &[
    ("ffn_gate_inp", "mlp.gate", As::Same),
    ("ffn_gate_exps", "mlp.experts.{}.gate_proj", As::Experts),
    ("ffn_up_exps", "mlp.experts.{}.up_proj", As::Experts),
    ("ffn_down_exps", "mlp.experts.{}.down_proj", As::Experts),
    ("ffn_gate_inp_shexp", "mlp.shared_expert_gate", As::Row),
    ("ffn_gate_shexp", "mlp.shared_expert.gate_proj", As::Same),
    ("ffn_up_shexp", "mlp.shared_expert.up_proj", As::Same),
    ("ffn_down_shexp", "mlp.shared_expert.down_proj", As::Same),
];

/// Sizes that decide how rows are ordered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) count: usize,
    pub(super) dims: usize,
}

impl Naming {
    /// What a tensor of the file is of the model. One that the architecture does not know keeps its name.
    pub(super) fn place(
        &self,
        tensor: &str,
        shape: &[usize],
        heads: Heads,
    ) -> Result<Vec<(String, Form)>> {
        let kept = || vec![(tensor.to_owned(), Form::Rows(RowOrder::Kept))];
        let Some((module, end)) = tensor.rsplit_once('.') else {
            return Ok(kept());
        };
        let find =
            |parts: &[Part], name: &str| parts.iter().find(|(own, ..)| *own == name).copied();
        let layer = module
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'));
        let (before, found) = match layer {
            None => (String::new(), find(self.root, module)),
            Some((number, name)) if number.bytes().all(|digit| digit.is_ascii_digit()) => (
                format!("{}{number}.", self.layers),
                self.parts.iter().find_map(|parts| find(parts, name)),
            ),
            Some(_) => (String::new(), None),
        };
        let Some((_, name, how)) = found else {
            return Ok(kept());
        };
        let name = format!("{before}{name}.{end}");
        let Heads { count, dims } = heads;
        Ok(match how {
            As::PlusOne if end == "weight" => vec![(name, Form::PlusOne)],
            As::Same | As::PlusOne => vec![(name, Form::Rows(RowOrder::Kept))],
            As::Rotated => vec![(name, Form::Rows(RowOrder::Rotary { head_rows: dims }))],
            As::Parted => {
                let order = RowOrder::Parted {
                    heads: count,
                    head_rows: dims,
                };
                vec![(name, Form::Rows(order))]
            }
            As::Row => vec![(name, Form::OneRow)],
            As::Experts | As::Heads => {
                let stacked = shape.first().copied().unwrap_or_default();
                (0..stacked)
                    .map(|index| (name.replace("{}", &index.to_string()), Form::Slice(index)))
                    .collect()
            }
        })
    }
}
