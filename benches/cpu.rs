//! Speed of the CPU backend: products and attention beside the processor's peak, statistics, one layer, a
//! whole pass.
//!
//! `cargo bench --bench cpu` prints first a table of rates and shares of the peak, then items per second; with
//! `-- ceilings [PART OF A LINE]` only the table, or those of its lines. Machines are noisy: compare within one run.
//! The comparison with transformers is `tools/bench_transformers.py`.

mod ceilings;

use std::{collections::HashMap, hint::black_box, sync::LazyLock};

use divan::{Bencher, counter::ItemsCount};
use massact::{
    backend::{
        Attention, AttentionCapture, AttentionRequest, DeltaRequest, Magnitudes, Recurrences,
        SelectiveScanRequest, StateSpaceRequest, StatisticsRequest, Tensors,
        cpu::{Cpu, Tensor},
    },
    engine::{self, Discard, Plan, Site},
    model::{Model, config::Config, weights},
    progress::Progress,
};
use safetensors::{Dtype, tensor::TensorView};

fn main() {
    // Names of benches come as arguments, beside options of cargo's.
    let mut names = std::env::args()
        .skip(1)
        .filter(|name| !name.starts_with('-'));
    match (names.next().as_deref(), names.next()) {
        (Some("ceilings"), part) => ceilings::table(noise, part.as_deref().unwrap_or("")),
        (None, _) => {
            ceilings::table(noise, "");
            divan::main();
        }
        _ => divan::main(),
    }
}

const STATISTICS: StatisticsRequest = StatisticsRequest {
    top_k: 5,
    abs_threshold: 100.0,
    rel_threshold: 1000.0,
    moments: false,
};

/// Deterministic values, roughly normal: sums of uniform ones.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count)
        .map(|_| uniform() + uniform() + uniform())
        .collect()
}

fn tensor(cpu: &Cpu, rows: usize, columns: usize) -> Tensor {
    cpu.upload(rows, columns, noise(rows * columns))
        .expect("the CPU takes every size")
}

/// Values per second of the exact median, top-5 and threshold list.
#[divan::bench(args = [(1024, 768), (2048, 2048), (4096, 4096)])]
fn statistics(bencher: Bencher<'_, '_>, (rows, columns): (usize, usize)) {
    let cpu = Cpu::new();
    let x = tensor(&cpu, rows, columns);
    let all = 0..rows;
    let sequence = std::slice::from_ref(&all);
    bencher
        .counter(ItemsCount::new(rows * columns))
        .bench_local(|| cpu.statistics(black_box(&x), sequence, &STATISTICS));
}

/// Tokens per second of causal attention: (tokens, heads, KV heads, head_dim).
#[divan::bench(args = [(1024, 12, 12, 64), (2048, 32, 4, 64), (2048, 32, 8, 128)])]
fn attention(bencher: Bencher<'_, '_>, shape: (usize, usize, usize, usize)) {
    let (tokens, heads, kv_heads, head_dim) = shape;
    let cpu = Cpu::new();
    let q = tensor(&cpu, tokens, heads * head_dim);
    let k = tensor(&cpu, tokens, kv_heads * head_dim);
    let v = tensor(&cpu, tokens, kv_heads * head_dim);
    let all = 0..tokens;
    let sequence = std::slice::from_ref(&all);
    let request = AttentionRequest::plain(heads, kv_heads, head_dim);
    bencher
        .counter(ItemsCount::new(tokens))
        .bench_local(|| cpu.attention(black_box(&q), &k, &v, sequence, &request));
}

/// Tokens per second of the gated delta rule: (tokens, key heads, value heads, width of a head, a decay per
/// key channel).
#[divan::bench(args = [(4096, 16, 32, 128, false), (4096, 32, 32, 128, true)])]
fn delta_rule(bencher: Bencher<'_, '_>, shape: (usize, usize, usize, usize, bool)) {
    let (tokens, key_heads, heads, head_dim, per_channel) = shape;
    let cpu = Cpu::new();
    let decays = heads * if per_channel { head_dim } else { 1 };
    let q = tensor(&cpu, tokens, key_heads * head_dim);
    let k = tensor(&cpu, tokens, key_heads * head_dim);
    let v = tensor(&cpu, tokens, heads * head_dim);
    let decay = tensor(&cpu, tokens, decays);
    let beta = tensor(&cpu, tokens, heads);
    let (a_log, dt_bias) = (noise(heads), noise(decays));
    let all = 0..tokens;
    let sequence = std::slice::from_ref(&all);
    let request = DeltaRequest {
        key_heads,
        heads,
        key_dim: head_dim,
        value_dim: head_dim,
        a_log: &a_log,
        dt_bias: &dt_bias,
        per_channel,
        beta_scale: 1.0,
    };
    bencher
        .counter(ItemsCount::new(tokens))
        .bench_local(|| cpu.delta_rule(black_box(&q), &k, &v, &decay, &beta, sequence, &request));
}

/// Tokens per second of Mamba-2's state space: (tokens, heads, width of a head, groups, state).
#[divan::bench(args = [(4096, 32, 64, 1, 128), (4096, 64, 64, 8, 128)])]
fn state_space(bencher: Bencher<'_, '_>, shape: (usize, usize, usize, usize, usize)) {
    let (tokens, heads, head_dim, groups, state) = shape;
    let cpu = Cpu::new();
    let x = tensor(&cpu, tokens, heads * head_dim);
    let b = tensor(&cpu, tokens, groups * state);
    let c = tensor(&cpu, tokens, groups * state);
    let dt = tensor(&cpu, tokens, heads);
    let (a_log, dt_bias, d) = (noise(heads), noise(heads), noise(heads));
    let all = 0..tokens;
    let sequence = std::slice::from_ref(&all);
    let request = StateSpaceRequest {
        heads,
        head_dim,
        groups,
        state,
        a_log: &a_log,
        dt_bias: &dt_bias,
        d: &d,
        dt_limits: (0.0, f32::INFINITY),
    };
    bencher
        .counter(ItemsCount::new(tokens))
        .bench_local(|| cpu.state_space(black_box(&x), &b, &c, &dt, sequence, &request));
}

/// Tokens per second of Mamba's selective scan: (tokens, channels, state).
#[divan::bench(args = [(4096, 2048, 16)])]
fn selective_scan(bencher: Bencher<'_, '_>, shape: (usize, usize, usize)) {
    let (tokens, inner, state) = shape;
    let cpu = Cpu::new();
    let x = tensor(&cpu, tokens, inner);
    let dt = tensor(&cpu, tokens, inner);
    let b = tensor(&cpu, tokens, state);
    let c = tensor(&cpu, tokens, state);
    let (a_log, dt_bias, d) = (noise(inner * state), noise(inner), noise(inner));
    let all = 0..tokens;
    let sequence = std::slice::from_ref(&all);
    let request = SelectiveScanRequest {
        state,
        a_log: &a_log,
        dt_bias: &dt_bias,
        d: &d,
    };
    bencher
        .counter(ItemsCount::new(tokens))
        .bench_local(|| cpu.selective_scan(black_box(&x), &dt, &b, &c, sequence, &request));
}

/// Tokens per second through one layer of Nemotron-H of width 1024, statistics included: Mamba-2.
#[divan::bench(sample_count = 5)]
fn layer_state_space(bencher: Bencher<'_, '_>) {
    pass(bencher, &STATE_SPACE_LAYER, 4096);
}

/// The same of a layer of attention.
#[divan::bench(sample_count = 5)]
fn layer_attention(bencher: Bencher<'_, '_>) {
    pass(bencher, &ATTENTION_LAYER, 4096);
}

/// Tokens per second through one layer of Qwen3.5 35B-A3B's widths with a dense MLP, statistics included: a
/// gated delta net.
#[divan::bench(sample_count = 5)]
fn layer_gated_delta(bencher: Bencher<'_, '_>) {
    pass(bencher, &GATED_DELTA_LAYER, 4096);
}

/// The same, of the model's layers with attention.
#[divan::bench(sample_count = 5)]
fn layer_gated_attention(bencher: Bencher<'_, '_>) {
    pass(bencher, &GATED_ATTENTION_LAYER, 4096);
}

/// Tokens per second through one layer of the 1.1B Llama shape, statistics included.
#[divan::bench(sample_count = 5)]
fn layer_llama_1b(bencher: Bencher<'_, '_>) {
    pass(bencher, &LLAMA_1B_LAYER, 2048);
}

/// Tokens per second of existence-validation's pass at the shape of GPT-2 124M.
#[divan::bench(sample_count = 3)]
fn pass_gpt2_124m(bencher: Bencher<'_, '_>) {
    pass(bencher, &GPT2_124M, 1024);
}

fn pass(bencher: Bencher<'_, '_>, model: &Model, tokens: usize) {
    let cpu = Cpu::new();
    let sequences = [(0..tokens as u32).map(|i| i * 7 % 500).collect()];
    let plan = Plan {
        statistics: STATISTICS,
        sites: vec![Site::LayerOutput],
        raw: Vec::new(),
        attention: AttentionCapture::default(),
        nll: false,
        last_logits: 0,
        ..Plan::default()
    };
    bencher.counter(ItemsCount::new(tokens)).bench_local(|| {
        engine::run(
            &cpu,
            model,
            &sequences,
            &plan,
            &mut Discard,
            Progress::silent(),
        )
    });
}

static LLAMA_1B_LAYER: LazyLock<Model> = LazyLock::new(|| {
    let (hidden, kv, inner) = (2048, 256, 5632);
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![500, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for (name, shape) in [
        ("input_layernorm", vec![hidden]),
        ("post_attention_layernorm", vec![hidden]),
        ("self_attn.q_proj", vec![hidden, hidden]),
        ("self_attn.k_proj", vec![kv, hidden]),
        ("self_attn.v_proj", vec![kv, hidden]),
        ("self_attn.o_proj", vec![hidden, hidden]),
        ("mlp.gate_proj", vec![inner, hidden]),
        ("mlp.up_proj", vec![inner, hidden]),
        ("mlp.down_proj", vec![hidden, inner]),
    ] {
        tensors.push((format!("model.layers.0.{name}.weight"), shape));
    }
    model(
        r#"{"model_type": "llama", "vocab_size": 500, "hidden_size": 2048,
            "intermediate_size": 5632, "num_hidden_layers": 1, "num_attention_heads": 32,
            "num_key_value_heads": 4, "max_position_embeddings": 2048}"#,
        &tensors,
    )
});

static GATED_DELTA_LAYER: LazyLock<Model> = LazyLock::new(|| {
    let (hidden, keys, values, heads) = (2048, 2048, 4096, 32);
    let of_net = [
        ("in_proj_qkv.weight", vec![2 * keys + values, hidden]),
        ("in_proj_z.weight", vec![values, hidden]),
        ("in_proj_a.weight", vec![heads, hidden]),
        ("in_proj_b.weight", vec![heads, hidden]),
        ("conv1d.weight", vec![2 * keys + values, 1, 4]),
        ("A_log", vec![heads]),
        ("dt_bias", vec![heads]),
        ("norm.weight", vec![128]),
        ("out_proj.weight", vec![hidden, values]),
    ];
    qwen3_5_layer("linear_attn", "linear_attention", &of_net)
});

static GATED_ATTENTION_LAYER: LazyLock<Model> = LazyLock::new(|| {
    let (hidden, q, kv) = (2048, 4096, 512);
    let of_attention = [
        ("q_proj.weight", vec![2 * q, hidden]),
        ("k_proj.weight", vec![kv, hidden]),
        ("v_proj.weight", vec![kv, hidden]),
        ("q_norm.weight", vec![256]),
        ("k_norm.weight", vec![256]),
        ("o_proj.weight", vec![hidden, q]),
    ];
    qwen3_5_layer("self_attn", "full_attention", &of_attention)
});

/// One layer of this kind, with these tensors in its module.
fn qwen3_5_layer(module: &str, kind: &str, of_module: &[(&str, Vec<usize>)]) -> Model {
    let (hidden, inner) = (2048, 5632);
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![500, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for (name, shape) in [
        ("input_layernorm", vec![hidden]),
        ("post_attention_layernorm", vec![hidden]),
        ("mlp.gate_proj", vec![inner, hidden]),
        ("mlp.up_proj", vec![inner, hidden]),
        ("mlp.down_proj", vec![hidden, inner]),
    ] {
        tensors.push((format!("model.layers.0.{name}.weight"), shape));
    }
    for (name, shape) in of_module {
        tensors.push((format!("model.layers.0.{module}.{name}"), shape.clone()));
    }
    let config = format!(
        r#"{{"model_type": "qwen3_5_text", "vocab_size": 500, "hidden_size": {hidden},
            "intermediate_size": {inner}, "num_hidden_layers": 1, "num_attention_heads": 16,
            "num_key_value_heads": 2, "layer_types": ["{kind}"]}}"#
    );
    model(&config, &tensors)
}

static STATE_SPACE_LAYER: LazyLock<Model> = LazyLock::new(|| {
    let (hidden, inner, shared, heads) = (1024, 2048, 128, 32);
    let of_mixer = [
        ("in_proj.weight", vec![2 * (inner + shared) + heads, hidden]),
        ("conv1d.weight", vec![inner + 2 * shared, 1, 4]),
        ("conv1d.bias", vec![inner + 2 * shared]),
        ("A_log", vec![heads]),
        ("D", vec![heads]),
        ("dt_bias", vec![heads]),
        ("norm.weight", vec![inner]),
        ("out_proj.weight", vec![hidden, inner]),
    ];
    nemotron_h_layer("mamba", &of_mixer)
});

static ATTENTION_LAYER: LazyLock<Model> = LazyLock::new(|| {
    let hidden = 1024;
    let projections = [
        "q_proj.weight",
        "k_proj.weight",
        "v_proj.weight",
        "o_proj.weight",
    ];
    nemotron_h_layer(
        "attention",
        &projections.map(|name| (name, vec![hidden, hidden])),
    )
});

/// One layer of this kind, with these tensors.
fn nemotron_h_layer(kind: &str, of_mixer: &[(&str, Vec<usize>)]) -> Model {
    let hidden = 1024;
    let mut tensors = vec![
        ("backbone.embeddings.weight".to_owned(), vec![500, hidden]),
        ("backbone.layers.0.norm.weight".to_owned(), vec![hidden]),
        ("backbone.norm_f.weight".to_owned(), vec![hidden]),
    ];
    for (name, shape) in of_mixer {
        tensors.push((format!("backbone.layers.0.mixer.{name}"), shape.clone()));
    }
    let config = format!(
        r#"{{"model_type": "nemotron_h", "vocab_size": 500, "hidden_size": {hidden},
            "layers_block_type": ["{kind}"], "num_attention_heads": 16, "num_key_value_heads": 16,
            "head_dim": 64, "mamba_num_heads": 32, "mamba_head_dim": 64, "n_groups": 1}}"#
    );
    model(&config, &tensors)
}

static GPT2_124M: LazyLock<Model> = LazyLock::new(|| {
    let hidden = 768;
    let mut tensors = vec![
        ("wte.weight".to_owned(), vec![500, hidden]),
        ("wpe.weight".to_owned(), vec![1024, hidden]),
        ("ln_f.weight".to_owned(), vec![hidden]),
        ("ln_f.bias".to_owned(), vec![hidden]),
    ];
    for layer in 0..12 {
        for (name, weight) in [
            ("ln_1", vec![hidden]),
            ("ln_2", vec![hidden]),
            ("attn.c_attn", vec![hidden, 3 * hidden]),
            ("attn.c_proj", vec![hidden, hidden]),
            ("mlp.c_fc", vec![hidden, 4 * hidden]),
            ("mlp.c_proj", vec![4 * hidden, hidden]),
        ] {
            let bias = vec![weight[weight.len() - 1]];
            tensors.push((format!("h.{layer}.{name}.weight"), weight));
            tensors.push((format!("h.{layer}.{name}.bias"), bias));
        }
    }
    model(
        r#"{"model_type": "gpt2", "vocab_size": 500, "n_embd": 768, "n_layer": 12, "n_head": 12,
            "n_positions": 1024}"#,
        &tensors,
    )
});

/// A model with small random weights, kept for the life of the process.
fn model(config: &str, tensors: &[(String, Vec<usize>)]) -> Model {
    let data: HashMap<String, Vec<u8>> = tensors
        .iter()
        .map(|(name, shape)| {
            let values = noise(shape.iter().product());
            let bytes = values.iter().flat_map(|v| (v * 0.04).to_le_bytes());
            (name.clone(), bytes.collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), &data[name]);
        (name.clone(), view.expect("shape fits its data"))
    });
    let file = safetensors::serialize(views, None).expect("serialises");
    let weights = weights::in_memory(vec![("random", file.into())]).expect("valid");
    let config = Config::parse(config.as_bytes()).expect("valid");
    Model::assemble(&config, weights, None).expect("the tensors fit the config")
}
