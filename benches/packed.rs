//! How fast packed weights become float32: one thread, values per second, an encoding a line.

use std::{borrow::Cow, hint::black_box};

use divan::{Bencher, counter::ItemsCount};
use massact::model::{
    config::Config,
    weights::{self, WeightStore},
};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

fn main() {
    divan::main();
}

/// Outputs and inputs.
const SIZE: usize = 2048;

/// Bytes that are floats of any type within reason.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        (state >> 40) as u8 & 0x3F
    };
    (0..count).map(next).collect()
}

/// A tensor of such bytes.
fn tensor(name: &str, dtype: Dtype, shape: &[usize]) -> (String, Dtype, Vec<usize>, Vec<u8>) {
    let count = shape.iter().product::<usize>() * dtype.bitsize() / 8;
    (name.to_owned(), dtype, shape.to_vec(), bytes(count))
}

fn store(tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>, quantisation: Value) -> WeightStore {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let view = TensorView::new(*dtype, shape.clone(), bytes).expect("fits");
        (name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).expect("a file");
    let mut store = weights::in_memory(vec![("file", Cow::Owned(file))]).expect("opens");
    let config = json!({ "quantization_config": quantisation }).to_string();
    let config = Config::parse(config.as_bytes()).expect("valid");
    weights::recognise(&mut store, &config).expect("packed");
    store
}

fn compressed(weights: Value) -> Value {
    json!({
        "quant_method": "compressed-tensors",
        "config_groups": { "all": { "targets": ["Linear"], "weights": weights } }
    })
}

/// A matrix `x.weight` of each encoding.
fn example(name: &str) -> WeightStore {
    let group = |size: usize| SIZE / size;
    match name {
        "fp8" => store(
            vec![
                tensor("x.weight", Dtype::F8_E4M3, &[SIZE, SIZE]),
                tensor("x.weight_scale_inv", Dtype::F32, &[group(128), group(128)]),
            ],
            json!({ "quant_method": "fp8", "weight_block_size": [128, 128] }),
        ),
        "int8" => store(
            vec![
                tensor("x.weight", Dtype::I8, &[SIZE, SIZE]),
                tensor("x.weight_scale", Dtype::BF16, &[SIZE, 1]),
            ],
            compressed(json!({ "strategy": "channel" })),
        ),
        "int4 rows" => {
            let mut parts = vec![
                tensor("x.weight_packed", Dtype::I32, &[SIZE, SIZE / 8]),
                tensor("x.weight_scale", Dtype::BF16, &[SIZE, group(32)]),
                tensor("x.weight_shape", Dtype::I64, &[2]),
            ];
            parts[2].3 = [SIZE as i64; 2]
                .iter()
                .flat_map(|size| size.to_le_bytes())
                .collect();
            store(
                parts,
                compressed(json!({ "num_bits": 4, "group_size": 32 })),
            )
        }
        "nvfp4" => store(
            vec![
                tensor("x.weight_packed", Dtype::U8, &[SIZE, SIZE / 2]),
                tensor("x.weight_scale", Dtype::F8_E4M3, &[SIZE, group(16)]),
                tensor("x.weight_global_scale", Dtype::F32, &[1]),
            ],
            compressed(json!({ "num_bits": 4, "strategy": "tensor_group", "group_size": 16 })),
        ),
        "mxfp4" => store(
            vec![
                tensor("x.weight_packed", Dtype::U8, &[SIZE, SIZE / 2]),
                tensor("x.weight_scale", Dtype::U8, &[SIZE, group(32)]),
            ],
            compressed(json!({ "num_bits": 4, "group_size": 32 })),
        ),
        "gptq 4" | "gptq 3" => {
            let bits = if name == "gptq 4" { 4 } else { 3 };
            store(
                vec![
                    tensor("x.qweight", Dtype::I32, &[SIZE * bits / 32, SIZE]),
                    tensor("x.qzeros", Dtype::I32, &[group(128), SIZE * bits / 32]),
                    tensor("x.scales", Dtype::F16, &[group(128), SIZE]),
                ],
                json!({ "quant_method": "gptq", "bits": bits, "group_size": 128 }),
            )
        }
        "awq" => store(
            vec![
                tensor("x.qweight", Dtype::I32, &[SIZE, SIZE / 8]),
                tensor("x.qzeros", Dtype::I32, &[group(128), SIZE / 8]),
                tensor("x.scales", Dtype::F16, &[group(128), SIZE]),
            ],
            json!({ "quant_method": "awq", "bits": 4, "group_size": 128 }),
        ),
        _ => {
            let mut parts = vec![
                tensor("x.weight", Dtype::U8, &[SIZE * SIZE / 2, 1]),
                tensor("x.weight.quant_map", Dtype::F32, &[16]),
                tensor("x.weight.absmax", Dtype::U8, &[SIZE * group(64)]),
                tensor(
                    "x.weight.nested_absmax",
                    Dtype::F32,
                    &[SIZE * group(64) / 256],
                ),
                tensor("x.weight.nested_quant_map", Dtype::F32, &[256]),
            ];
            let state = json!({
                "shape": [SIZE, SIZE], "blocksize": 64, "nested_blocksize": 256, "nested_offset": 0.1
            });
            let state = state.to_string().into_bytes();
            let name = "x.weight.quant_state.bitsandbytes__nf4".to_owned();
            parts.push((name, Dtype::U8, vec![state.len()], state));
            store(parts, json!({ "quant_method": "bitsandbytes" }))
        }
    }
}

#[divan::bench(args = [
    "fp8", "int8", "int4 rows", "nvfp4", "mxfp4", "gptq 4", "gptq 3", "awq", "nf4",
])]
fn decode(bencher: Bencher<'_, '_>, name: &str) {
    let store = example(name);
    let tensor = store.packed("x.weight").expect("packed");
    let mut line = vec![0.0f32; SIZE];
    bencher
        .counter(ItemsCount::new(SIZE * SIZE))
        .bench_local(|| {
            for index in 0..SIZE {
                tensor.encoding().decode(index, 0, black_box(&mut line));
            }
        });
}
