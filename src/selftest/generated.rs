//! Small random models, of families that together use what the demo has not: LayerNorm, learned
//! positions and biases (GPT-2); windows, soft caps, norms behind the parts and a head that is the
//! embedding (Gemma 2); a mixture of experts (Mixtral).

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use super::{
    Extent,
    inputs::{noise, rounded},
};
use crate::{
    error::{Error, Result},
    model::{Model, config::Config, dtype::DType, weights},
};

/// The families.
pub(super) const NAMES: [&str; 3] = ["gpt2", "gemma2", "mixtral"];

const LAYERS: usize = 2;
const EXPERTS: usize = 4;
const POSITIONS: usize = 256;

/// A model with weights that `dtype` holds.
pub(super) fn open(name: &str, extent: Extent, dtype: DType) -> Result<Model> {
    let size = Size::of(extent);
    let (config, tensors) = match name {
        "gpt2" => size.gpt2(),
        "gemma2" => size.gemma2(),
        _ => size.mixtral(),
    };
    let config = Config::parse(config.to_string().as_bytes())?;
    let file = file(&tensors, dtype)?;
    let weights = weights::in_memory(vec![("generated", file.into())])?;
    Model::assemble(&config, weights, None)
}

/// Values of a tensor about zero.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    /// Their largest magnitude.
    largest: f32,
    /// What is added to them.
    offset: f32,
}

/// A weight whose products keep the size of their inputs.
fn weight(name: impl Into<String>, shape: [usize; 2], inputs: usize) -> Tensor {
    Tensor {
        name: name.into(),
        shape: shape.to_vec(),
        largest: (3.0 / inputs as f32).sqrt(),
        offset: 0.0,
    }
}

fn vector(name: impl Into<String>, length: usize, offset: f32) -> Tensor {
    Tensor {
        name: name.into(),
        shape: vec![length],
        largest: 0.25,
        offset,
    }
}

/// The safetensors file.
fn file(tensors: &[Tensor], dtype: DType) -> Result<Vec<u8>> {
    let values: Vec<Vec<f32>> = (1..)
        .zip(tensors)
        .map(|(seed, tensor)| {
            let noise = noise(tensor.shape.iter().product(), seed, dtype);
            let value = |x| rounded(x * tensor.largest + tensor.offset, dtype);
            noise.into_iter().map(value).collect()
        })
        .collect();
    let failed = |error| Error::new("generated model", error);
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .zip(&values)
        .map(|(tensor, values)| {
            let bytes = bytemuck::cast_slice(values);
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?;
            Ok((tensor.name.as_str(), view))
        })
        .collect::<std::result::Result<_, safetensors::SafeTensorError>>()
        .map_err(failed)?;
    safetensors::serialize(views, None).map_err(failed)
}

/// Widths, none of which is a multiple of what kernels take at once.
struct Size {
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    inner: usize,
    vocabulary: usize,
}

impl Size {
    fn of(extent: Extent) -> Self {
        match extent {
            Extent::Full => Self {
                hidden: 350,
                heads: 10,
                kv_heads: 2,
                inner: 451,
                vocabulary: 1003,
            },
            Extent::Quick => Self {
                hidden: 42,
                heads: 6,
                kv_heads: 2,
                inner: 29,
                vocabulary: 67,
            },
        }
    }

    fn config(&self, model_type: &str, own: Value) -> Value {
        let mut config = json!({
            "model_type": model_type,
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": POSITIONS,
        });
        if let (Some(config), Value::Object(own)) = (config.as_object_mut(), own) {
            config.extend(own);
        }
        config
    }

    fn gpt2(&self) -> (Value, Vec<Tensor>) {
        let config = json!({
            "model_type": "gpt2",
            "vocab_size": self.vocabulary,
            "n_positions": POSITIONS,
            "n_embd": self.hidden,
            "n_layer": LAYERS,
            "n_head": self.heads,
            "n_inner": self.inner,
        });
        let (hidden, inner) = (self.hidden, self.inner);
        let mut tensors = vec![
            weight("transformer.wte.weight", [self.vocabulary, hidden], 3),
            weight("transformer.wpe.weight", [POSITIONS, hidden], 12),
        ];
        for layer in 0..LAYERS {
            let own = |name: &str| format!("transformer.h.{layer}.{name}");
            // Stored [in, out].
            for (name, inputs, outputs) in [
                ("attn.c_attn", hidden, 3 * hidden),
                ("attn.c_proj", hidden, hidden),
                ("mlp.c_fc", hidden, inner),
                ("mlp.c_proj", inner, hidden),
            ] {
                let name = own(name);
                tensors.push(weight(format!("{name}.weight"), [inputs, outputs], inputs));
                tensors.push(vector(format!("{name}.bias"), outputs, 0.0));
            }
            for name in ["ln_1", "ln_2"] {
                tensors.push(vector(own(&format!("{name}.weight")), hidden, 1.0));
                tensors.push(vector(own(&format!("{name}.bias")), hidden, 0.0));
            }
        }
        tensors.push(vector("transformer.ln_f.weight", hidden, 1.0));
        tensors.push(vector("transformer.ln_f.bias", hidden, 0.0));
        (config, tensors)
    }

    /// Embedding, attention and norms as Llama names them.
    fn llama(&self, head_dim: usize, norms: &[&str], offset: f32) -> Vec<Tensor> {
        let hidden = self.hidden;
        let mut tensors = vec![
            weight("model.embed_tokens.weight", [self.vocabulary, hidden], 3),
            vector("model.norm.weight", hidden, offset),
        ];
        for layer in 0..LAYERS {
            let own = |name: &str| format!("model.layers.{layer}.{name}.weight");
            let (wide, narrow) = (self.heads * head_dim, self.kv_heads * head_dim);
            for (name, outputs, inputs) in [
                ("self_attn.q_proj", wide, hidden),
                ("self_attn.k_proj", narrow, hidden),
                ("self_attn.v_proj", narrow, hidden),
                ("self_attn.o_proj", hidden, wide),
            ] {
                tensors.push(weight(own(name), [outputs, inputs], inputs));
            }
            tensors.extend(norms.iter().map(|norm| vector(own(norm), hidden, offset)));
        }
        tensors
    }

    fn gemma2(&self) -> (Value, Vec<Tensor>) {
        // Rotation takes pairs.
        let head_dim = (self.hidden / self.heads + 3).next_multiple_of(2);
        let own = json!({
            "head_dim": head_dim,
            "query_pre_attn_scalar": head_dim,
            "sliding_window": 11,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "hidden_activation": "gelu_pytorch_tanh",
        });
        let norms = [
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        ];
        // Gemma's norms multiply by 1 + weight.
        let mut tensors = self.llama(head_dim, &norms, 0.0);
        for layer in 0..LAYERS {
            let own = |name: &str| format!("model.layers.{layer}.mlp.{name}.weight");
            let (hidden, inner) = (self.hidden, self.inner);
            tensors.push(weight(own("gate_proj"), [inner, hidden], hidden));
            tensors.push(weight(own("up_proj"), [inner, hidden], hidden));
            tensors.push(weight(own("down_proj"), [hidden, inner], inner));
        }
        (self.config("gemma2", own), tensors)
    }

    fn mixtral(&self) -> (Value, Vec<Tensor>) {
        let head_dim = self.hidden / self.heads + 1;
        let own = json!({
            "head_dim": head_dim,
            "num_local_experts": EXPERTS,
            // Each token visits all: which of two experts is the better one may be a matter of
            // rounding, and another choice is another result.
            "num_experts_per_tok": EXPERTS,
            "tie_word_embeddings": false,
        });
        let norms = ["input_layernorm", "post_attention_layernorm"];
        let mut tensors = self.llama(head_dim, &norms, 1.0);
        let (hidden, inner) = (self.hidden, self.inner);
        for layer in 0..LAYERS {
            let own = |name: &str| format!("model.layers.{layer}.block_sparse_moe.{name}.weight");
            tensors.push(weight(own("gate"), [EXPERTS, hidden], hidden));
            for expert in 0..EXPERTS {
                let own = |name: &str| own(&format!("experts.{expert}.{name}"));
                tensors.push(weight(own("w1"), [inner, hidden], hidden));
                tensors.push(weight(own("w2"), [hidden, inner], inner));
                tensors.push(weight(own("w3"), [inner, hidden], hidden));
            }
        }
        tensors.push(weight("lm_head.weight", [self.vocabulary, hidden], hidden));
        (self.config("mixtral", own), tensors)
    }
}
