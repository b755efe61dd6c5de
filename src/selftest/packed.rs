//! Small packed weights of every encoding, made of noise and read as a checkpoint's are.

use half::{bf16, f16};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

use super::inputs::{bytes, noise};
use crate::{
    error::{Error, Result},
    model::{
        config::Config,
        dtype::DType,
        weights::{self, Kind, RandomWeights, RowOrder, WeightStore},
    },
};

/// A checkpoint of one packed weight, or a stack of them.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub(super) name: String,
    method: Method,
    tensors: Vec<Tensor>,
}

/// How it is known to be packed.
#[derive(Debug, Clone)]
enum Method {
    /// `quantization_config`
    Config(Value),
    /// The number of a type of ggml's.
    Blocks(u32, RowOrder),
    /// It is made, of this shape.
    Random(Vec<usize>),
}

#[derive(Debug, Clone)]
struct Tensor {
    name: &'static str,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The name of the weight.
pub(super) const WEIGHT: &str = "x.weight";

/// One of every encoding and of what it may be made of, in shapes that divide badly.
pub(super) fn all() -> Vec<Packed> {
    let mut all = vec![mxfp4()];
    all.extend(fp8());
    all.extend(compressed_tensors());
    all.extend(modelopt());
    all.extend(gptq());
    all.extend(awq());
    all.extend(bitsandbytes());
    all.extend(gguf());
    all.push(Packed {
        name: "random".to_owned(),
        method: Method::Random(vec![2, 33, 50]),
        tensors: Vec::new(),
    });
    all
}

/// Codes of any value.
fn codes(name: &'static str, dtype: Dtype, shape: &[usize], seed: u32) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor {
        name,
        dtype,
        shape: shape.to_vec(),
        bytes: bytes(count * dtype.bitsize() / 8, seed),
    }
}

impl Tensor {
    /// With every byte changed.
    fn map(self, change: impl Fn(u8) -> u8) -> Self {
        Self {
            bytes: self.bytes.into_iter().map(change).collect(),
            ..self
        }
    }
}

/// float32 of any value.
fn float32(name: &'static str, shape: &[usize], values: &[f32]) -> Tensor {
    Tensor {
        name,
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// Scales, floats in -1..1; some are so small that float16 holds them as subnormals only.
fn scales(name: &'static str, dtype: Dtype, shape: &[usize], seed: u32) -> Tensor {
    let count = shape.iter().product();
    let mut values = noise(count, seed, DType::Float32);
    values.iter_mut().step_by(7).for_each(|x| *x *= 1e-5);
    let bytes = values.iter().flat_map(|&x| match dtype {
        Dtype::BF16 => bf16::from_f32(x).to_le_bytes().to_vec(),
        Dtype::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
        _ => x.to_le_bytes().to_vec(),
    });
    Tensor {
        name,
        dtype,
        shape: shape.to_vec(),
        bytes: bytes.collect(),
    }
}

/// Powers of two up to 1, as E8M0 has them.
fn powers(name: &'static str, shape: &[usize], seed: u32) -> Tensor {
    codes(name, Dtype::U8, shape, seed).map(|byte| 112 + byte % 16)
}

/// E4M3 without NaN.
fn e4m3(name: &'static str, shape: &[usize], seed: u32) -> Tensor {
    let finite = |byte| if byte & 127 == 127 { byte ^ 1 } else { byte };
    codes(name, Dtype::F8_E4M3, shape, seed).map(finite)
}

/// Groups `[inputs]` in no order, each of them there.
fn groups(name: &'static str, inputs: usize, count: usize) -> Tensor {
    let group = |input: usize| ((input * 7 + 3) % inputs * count / inputs) as i32;
    Tensor {
        name,
        dtype: Dtype::I32,
        shape: vec![inputs],
        bytes: (0..inputs).flat_map(|i| group(i).to_le_bytes()).collect(),
    }
}

fn packed(name: impl Into<String>, config: Value, tensors: impl Into<Vec<Tensor>>) -> Packed {
    Packed {
        name: name.into(),
        method: Method::Config(config),
        tensors: tensors.into(),
    }
}

fn mxfp4() -> Packed {
    packed(
        "MXFP4",
        json!({ "quant_method": "mxfp4" }),
        [
            codes("x.weight_blocks", Dtype::U8, &[3, 33, 5, 16], 1),
            powers("x.weight_scales", &[3, 33, 5], 2),
        ],
    )
}

fn fp8() -> Vec<Packed> {
    let config = json!({ "quant_method": "fp8" });
    let in_blocks = json!({ "quant_method": "fp8", "weight_block_size": [16, 24] });
    let grid = [2, 3, 3];
    // Below 2.
    let e5m2 = |shape: &[usize], seed| {
        codes(WEIGHT, Dtype::F8_E5M2, shape, seed).map(|byte| byte & 0b1011_1111)
    };
    vec![
        packed(
            "FP8 in blocks",
            in_blocks.clone(),
            [
                e4m3(WEIGHT, &[2, 33, 50], 1),
                scales("x.weight_scale_inv", Dtype::F32, &grid, 2),
            ],
        ),
        packed(
            "FP8 in blocks with powers of two",
            in_blocks.clone(),
            [
                e4m3(WEIGHT, &[2, 33, 50], 3),
                powers("x.weight_scale_inv", &grid, 4),
            ],
        ),
        packed(
            "FP8 in blocks with scales in float16",
            in_blocks,
            [
                e5m2(&[2, 33, 50], 5),
                scales("x.weight_scale_inv", Dtype::F16, &grid, 6),
            ],
        ),
        packed(
            "FP8 by output",
            config.clone(),
            [
                e5m2(&[33, 50], 7),
                scales("x.weight_scale", Dtype::BF16, &[33, 1], 8),
            ],
        ),
        packed(
            "FP8 by tensor",
            config,
            [
                e4m3(WEIGHT, &[33, 50], 9),
                float32("x.weight_scale", &[], &[0.37]),
            ],
        ),
    ]
}

fn compressed_tensors() -> Vec<Packed> {
    let config = |weights: Value| {
        json!({
            "quant_method": "compressed-tensors",
            "config_groups": { "group_0": { "targets": ["Linear"], "weights": weights } },
        })
    };
    let in_groups = |bits: usize, symmetric: bool| {
        config(json!({
            "num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": 10,
        }))
    };
    let (outputs, inputs, count) = (33, 50, 5);
    let integers = |bits: usize, seed| {
        let words = (inputs * bits).div_ceil(32);
        [
            codes("x.weight_packed", Dtype::I32, &[outputs, words], seed),
            scales(
                "x.weight_scale",
                Dtype::BF16,
                &[outputs, count],
                seed.wrapping_add(1),
            ),
            Tensor {
                name: "x.weight_shape",
                dtype: Dtype::I64,
                shape: vec![2],
                bytes: [outputs as i64, inputs as i64]
                    .map(i64::to_le_bytes)
                    .concat(),
            },
        ]
    };
    let zeros = |bits: usize, seed| {
        let words = (outputs * bits).div_ceil(32);
        codes("x.weight_zero_point", Dtype::I32, &[words, count], seed)
    };
    let mut all = vec![
        packed(
            "int8 by output with zero points",
            config(json!({ "num_bits": 8, "symmetric": false, "strategy": "channel" })),
            [
                codes(WEIGHT, Dtype::I8, &[outputs, inputs], 1),
                scales("x.weight_scale", Dtype::F16, &[outputs, 1], 2),
                codes("x.weight_zero_point", Dtype::I8, &[outputs, 1], 3),
            ],
        ),
        packed(
            "NVFP4",
            config(
                json!({ "num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16 }),
            ),
            [
                codes("x.weight_packed", Dtype::U8, &[outputs, 40], 4),
                e4m3("x.weight_scale", &[outputs, 5], 5),
                float32("x.weight_global_scale", &[1], &[37.5]),
            ],
        ),
    ];
    for bits in [3, 4, 8] {
        all.push(packed(
            format!("integers of {bits} bits"),
            in_groups(bits, true),
            integers(bits, 10 * bits as u32),
        ));
        let mut tensors = integers(bits, 10 * bits as u32 + 2).to_vec();
        tensors.push(zeros(bits, 10 * bits as u32 + 4));
        tensors.push(groups("x.weight_g_idx", inputs, count));
        all.push(packed(
            format!("integers of {bits} bits with zero points in groups without order"),
            in_groups(bits, false),
            tensors,
        ));
    }
    let mut tensors = integers(4, 6).to_vec();
    tensors.push(codes(
        "x.weight_zero_point",
        Dtype::I8,
        &[outputs, count],
        8,
    ));
    all.push(packed(
        "integers of 4 bits with zero points of 8",
        in_groups(4, false),
        tensors,
    ));
    all
}

fn modelopt() -> Vec<Packed> {
    let config = json!({ "quant_method": "modelopt", "quant_algo": "NVFP4" });
    vec![packed(
        "NVFP4 of ModelOpt",
        config,
        [
            codes(WEIGHT, Dtype::U8, &[33, 40], 1),
            e4m3("x.weight_scale", &[33, 5], 2),
            float32("x.weight_scale_2", &[], &[0.013]),
        ],
    )]
}

fn gptq() -> Vec<Packed> {
    let (outputs, inputs, group) = (64, 96, 24);
    let count = inputs / group;
    let mut all = Vec::new();
    for (bits, format, ordered, dtype) in [
        (2, "gptq", true, Dtype::F16),
        (3, "gptq_v2", false, Dtype::BF16),
        (3, "gptq", true, Dtype::F32),
        (4, "gptq", false, Dtype::F16),
        (4, "gptq_v2", true, Dtype::F16),
        (8, "gptq", false, Dtype::F16),
    ] {
        let seed = 10 * bits as u32;
        let mut tensors = vec![
            codes(
                "x.qweight",
                Dtype::I32,
                &[inputs * bits / 32, outputs],
                seed,
            ),
            codes(
                "x.qzeros",
                Dtype::I32,
                &[count, outputs * bits / 32],
                seed + 1,
            ),
            scales("x.scales", dtype, &[count, outputs], seed + 2),
        ];
        let mut name = format!("{bits} bits of {format}");
        if !ordered {
            tensors.push(groups("x.g_idx", inputs, count));
            name += " in groups without order";
        }
        let config = json!({
            "quant_method": "gptq", "bits": bits, "group_size": group, "checkpoint_format": format,
        });
        all.push(packed(name, config, tensors));
    }
    all
}

fn awq() -> Vec<Packed> {
    let (outputs, inputs, group) = (40, 50, 10);
    let count = inputs / group;
    [true, false]
        .map(|zero_point| {
            let mut tensors = vec![
                codes("x.qweight", Dtype::I32, &[inputs, outputs / 8], 1),
                scales("x.scales", Dtype::F16, &[count, outputs], 2),
            ];
            let mut name = "AWQ".to_owned();
            if zero_point {
                tensors.push(codes("x.qzeros", Dtype::I32, &[count, outputs / 8], 3));
                name += " with zero points";
            }
            let config = json!({
                "quant_method": "awq", "bits": 4, "group_size": group, "zero_point": zero_point,
            });
            packed(name, config, tensors)
        })
        .into()
}

fn bitsandbytes() -> Vec<Packed> {
    let config = json!({ "quant_method": "bitsandbytes" });
    // Blocks end within rows, the last one early; so do blocks of scales.
    let (outputs, inputs, block) = (33usize, 51, 32);
    let blocks = (outputs * inputs).div_ceil(block);
    let table = float32("x.weight.quant_map", &[16], &noise(16, 1, DType::Float32));
    let four_bits = codes(WEIGHT, Dtype::U8, &[(outputs * inputs).div_ceil(2), 1], 2);
    let state = |name, nested: Value| {
        let mut state = json!({ "shape": [outputs, inputs], "blocksize": block });
        if let (Some(state), Value::Object(mut nested)) = (state.as_object_mut(), nested) {
            state.append(&mut nested);
        }
        let bytes = state.to_string().into_bytes();
        Tensor {
            name,
            dtype: Dtype::U8,
            shape: vec![bytes.len()],
            bytes,
        }
    };
    vec![
        packed(
            "NF4, its scales in two steps",
            config.clone(),
            [
                four_bits.clone(),
                table.clone(),
                codes("x.weight.absmax", Dtype::U8, &[blocks], 3),
                float32(
                    "x.weight.nested_quant_map",
                    &[256],
                    &noise(256, 4, DType::Float32),
                ),
                scales(
                    "x.weight.nested_absmax",
                    Dtype::F32,
                    &[blocks.div_ceil(5)],
                    5,
                ),
                state(
                    "x.weight.quant_state.bitsandbytes__nf4",
                    json!({ "nested_blocksize": 5, "nested_offset": 0.0371 }),
                ),
            ],
        ),
        packed(
            "FP4",
            config.clone(),
            [
                four_bits,
                table,
                scales("x.weight.absmax", Dtype::F32, &[blocks], 6),
                state("x.weight.quant_state.bitsandbytes__fp4", json!({})),
            ],
        ),
        packed(
            "int8 of bitsandbytes",
            config,
            [
                codes(WEIGHT, Dtype::I8, &[outputs, inputs], 7),
                scales("x.SCB", Dtype::F32, &[outputs], 8),
            ],
        ),
    ]
}

/// Every type of a GGUF file, in every order of rows.
fn gguf() -> impl Iterator<Item = Packed> {
    let kinds = (0..256).filter_map(Kind::of).filter(Kind::is_read);
    let orders = [
        RowOrder::Kept,
        RowOrder::Rotary { head_rows: 6 },
        RowOrder::Parted {
            heads: 2,
            head_rows: 3,
        },
    ];
    kinds.zip(orders.into_iter().cycle()).map(|(kind, order)| {
        // Two rows of a head, and two blocks of the longest types.
        let (rows, blocks) = (18, if kind.values == 256 { 2 } else { 3 });
        Packed {
            name: format!("GGUF {}", kind.name),
            method: Method::Blocks(kind.code, order),
            tensors: vec![blocks_of(kind, rows, blocks)],
        }
    })
}

/// Any codes, with scales that are finite.
fn blocks_of(kind: Kind, rows: usize, blocks: usize) -> Tensor {
    let shape = [rows, blocks * kind.bytes];
    let count = rows * blocks;
    let (dtype, halves): (_, &[usize]) = match kind.name {
        "F32" => (Dtype::F32, &[]),
        "BF16" => (Dtype::BF16, &[]),
        "Q4_1" | "Q5_1" | "Q4_K" | "Q5_K" => (Dtype::U8, &[0, 2]),
        "Q2_K" => (Dtype::U8, &[80, 82]),
        "Q3_K" => (Dtype::U8, &[108]),
        "Q6_K" => (Dtype::U8, &[208]),
        "TQ1_0" => (Dtype::U8, &[52]),
        "TQ2_0" => (Dtype::U8, &[64]),
        "MXFP4" => (Dtype::U8, &[]),
        // F16, too: a block of it is a scale.
        _ => (Dtype::U8, &[0]),
    };
    if dtype != Dtype::U8 {
        let values = scales(WEIGHT, dtype, &[count], kind.code);
        return Tensor {
            dtype: Dtype::U8,
            shape: shape.to_vec(),
            ..values
        };
    }
    let mut tensor = codes(WEIGHT, dtype, &shape, kind.code);
    let all = scales(WEIGHT, Dtype::F16, &[count * halves.len()], kind.code + 1);
    let mut scale = all.bytes.chunks(2);
    for block in tensor.bytes.chunks_mut(kind.bytes) {
        for (&at, scale) in halves.iter().zip(&mut scale) {
            block[at..at + 2].copy_from_slice(scale);
        }
        if kind.name == "MXFP4" {
            block[0] = 120 + block[0] % 16;
        }
    }
    tensor
}

impl Packed {
    /// Reads it.
    pub(super) fn open(&self) -> Result<WeightStore> {
        if let Method::Random(shape) = &self.method {
            let mut weights = RandomWeights::default();
            weights.matrix(WEIGHT.to_owned(), shape.clone());
            return weights.store();
        }
        let views = self.tensors.iter().map(|tensor| {
            let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
            view.map(|view| (tensor.name, view))
        });
        let file = views
            .collect::<Result<Vec<_>, _>>()
            .and_then(|views| safetensors::serialize(views, None))
            .map_err(|error| Error::new(&self.name, error))?;
        let mut store = weights::in_memory(vec![(self.name.as_str(), file.into())])?;
        match &self.method {
            Method::Config(section) => {
                let config = json!({ "quantization_config": section }).to_string();
                weights::recognise(&mut store, &Config::parse(config.as_bytes())?)?;
            }
            &Method::Blocks(code, order) => {
                weights::take_for_blocks(&mut store, WEIGHT, code, order)?;
            }
            Method::Random(_) => {}
        }
        Ok(store)
    }
}
