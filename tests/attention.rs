//! The CPU's attention and rotation against their definitions in double precision.

use massact::backend::{
    Attention, AttentionCapture, AttentionMaps, AttentionRequest, Rotation, Rotations, Tensors,
    cpu::Cpu,
};
use massact::model::rope::RopeTable;

/// Numbers in [-1, 1).
fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

struct Case {
    lengths: Vec<usize>,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Factor on the queries, so that softmax is flat, ordinary or nearly one-hot.
    sharpness: f32,
}

impl Case {
    fn check(&self) {
        let rows: usize = self.lengths.iter().sum();
        let (width, kv_width) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut q = random(1, rows * width);
        q.iter_mut().for_each(|value| *value *= self.sharpness);
        let (k, v) = (random(2, rows * kv_width), random(3, rows * kv_width));
        let mut sequences = Vec::new();
        let mut start = 0;
        for length in &self.lengths {
            sequences.push(start..start + length);
            start += length;
        }
        // Every third key, from another place in each sequence.
        let subset: Vec<Vec<usize>> = (sequences.iter().enumerate())
            .map(|(index, rows)| (index % 3..rows.len()).step_by(3).collect())
            .collect();
        let request = AttentionRequest {
            capture: AttentionCapture {
                mean: true,
                heads: true,
                sink: true,
            },
            subset: Some(&subset),
            ..AttentionRequest::plain(self.heads, self.kv_heads, self.head_dim)
        };
        let cpu = Cpu::new();
        let tensor = |columns, values: &[f32]| cpu.upload(rows, columns, values.to_vec());
        let (q_there, k_there, v_there) = (
            tensor(width, &q).expect("uploaded"),
            tensor(kv_width, &k).expect("uploaded"),
            tensor(kv_width, &v).expect("uploaded"),
        );
        let found = cpu
            .attention(&q_there, &k_there, &v_there, &sequences, &request)
            .expect("runs");
        let out = cpu.download(&found.context).expect("downloaded");
        let parts = found.parts.expect("asked for");
        let restricted = cpu.download(&parts.subset).expect("downloaded");
        let rest = cpu.download(&parts.rest).expect("downloaded");
        assert_eq!(found.maps.len(), sequences.len());
        for ((rows, maps), keys) in sequences.iter().zip(&found.maps).zip(&subset) {
            let part = |values: &[f32], width: usize| -> Vec<f32> {
                values[rows.start * width..rows.end * width].to_vec()
            };
            let inputs = (part(&q, width), part(&k, kv_width), part(&v, kv_width));
            let outputs = [&out, &restricted, &rest].map(|values| part(values, width));
            self.compare(rows.len(), &inputs, &outputs, keys, maps, &request);
        }
    }

    fn compare(
        &self,
        length: usize,
        (q, k, v): &(Vec<f32>, Vec<f32>, Vec<f32>),
        [out, restricted, rest]: &[Vec<f32>; 3],
        keys: &[usize],
        maps: &AttentionMaps,
        request: &AttentionRequest<'_, Vec<f32>>,
    ) {
        let (heads, dim) = (self.heads, self.head_dim);
        let group = heads / self.kv_heads;
        let at = |values: &[f32], heads: usize, position: usize, head: usize, index: usize| {
            f64::from(values[(position * heads + head) * dim + index])
        };
        let what = format!("T {length}, {heads}/{} heads of {dim}", self.kv_heads);
        // Logits reach `sharpness * sqrt(head_dim)`; their rounding is what exp sees.
        let logit_size = f64::from(self.sharpness) * (dim as f64).sqrt();
        let tolerance = 4e-7 * logit_size.max(1.0) + 2e-6;
        let near = |name: &str, ours: f32, theirs: f64, tolerance: f64| {
            let ours = f64::from(ours);
            assert!(
                (ours - theirs).abs() <= tolerance,
                "{what}, {name}: {ours}, {theirs}"
            );
        };
        let map = |map: &Option<Vec<f32>>| map.clone().expect("asked for");
        let (probs, logits) = (map(&maps.probs), map(&maps.logits));
        let mut probs_mean = vec![0.0; length * length];
        let mut logits_mean = vec![0.0; length * length];
        let mut received = vec![0.0; heads * length];
        for head in 0..heads {
            for query in 0..length {
                let scores: Vec<f64> = (0..=query)
                    .map(|key| {
                        let products = (0..dim).map(|index| {
                            at(q, heads, query, head, index)
                                * at(k, self.kv_heads, key, head / group, index)
                        });
                        products.sum::<f64>() * f64::from(request.scale)
                    })
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
                for key in 0..length {
                    let index = (head * length + query) * length + key;
                    if key > query {
                        assert!(probs[index].is_nan() && logits[index].is_nan(), "{what}");
                        continue;
                    }
                    let prob = (scores[key] - max).exp() / sum;
                    near("probability", probs[index], prob, tolerance);
                    near("logit", logits[index], scores[key], tolerance);
                    probs_mean[query * length + key] += prob / heads as f64;
                    logits_mean[query * length + key] += scores[key] / heads as f64;
                    received[head * length + key] += prob / (length - key) as f64;
                }
                for index in 0..dim {
                    let given = |key: usize| {
                        (scores[key] - max).exp() / sum
                            * at(v, self.kv_heads, key, head / group, index)
                    };
                    let place = (query * heads + head) * dim + index;
                    let (ours, expected) = (out[place], (0..=query).map(given).sum());
                    near("output", ours, expected, tolerance);
                    let seen = keys.iter().copied().filter(|key| *key <= query);
                    let (ours, expected) = (restricted[place], seen.map(given).sum());
                    near("restricted output", ours, expected, tolerance);
                    let others = (0..=query).filter(|key| !keys.contains(key));
                    let (ours, expected) = (rest[place], others.map(given).sum());
                    near("rest of the output", ours, expected, tolerance);
                }
            }
        }
        let means = [
            (map(&maps.probs_mean), probs_mean),
            (map(&maps.logits_mean), logits_mean),
        ];
        for (ours, theirs) in means {
            for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                if index % length > index / length {
                    assert!(ours.is_nan(), "{what}");
                } else {
                    near("mean", *ours, theirs, tolerance);
                }
            }
        }
        for (ours, theirs) in map(&maps.sink_mass).iter().zip(received) {
            near("sink mass", *ours, theirs, tolerance);
        }
    }
}

/// Around the sizes of the tiles: 64 queries, 256 keys, groups of up to 4 heads at a time.
#[test]
fn every_length_group_and_width() {
    for length in [1, 2, 63, 64, 65, 257, 300] {
        for (heads, kv_heads) in [(2, 2), (3, 1), (6, 2), (7, 1)] {
            for head_dim in [5, 16] {
                Case {
                    lengths: vec![length],
                    heads,
                    kv_heads,
                    head_dim,
                    sharpness: 3.0,
                }
                .check();
            }
        }
    }
}

#[test]
fn sequences_do_not_see_each_other() {
    Case {
        lengths: vec![65, 1, 2, 64, 257, 3],
        heads: 6,
        kv_heads: 2,
        head_dim: 9,
        sharpness: 2.0,
    }
    .check();
}

#[test]
fn flat_and_sharp_softmax() {
    for sharpness in [0.0, 1e-3, 100.0] {
        Case {
            lengths: vec![300],
            heads: 2,
            kv_heads: 1,
            head_dim: 8,
            sharpness,
        }
        .check();
    }
}

/// A difference from the whole would have none: float32's rounding of the whole is as large.
#[test]
fn the_rest_has_digits_where_a_key_has_nearly_all() {
    let (rows, width) = (5, 4);
    let k: Vec<f32> = (0..rows * width)
        .map(|index| if index < width { 4.0 } else { 0.0 })
        .collect();
    let v = random(3, rows * width);
    let cpu = Cpu::new();
    let upload = |values: Vec<f32>| cpu.upload(rows, width, values).expect("uploaded");
    let request = AttentionRequest {
        scale: 1.0,
        subset: Some(&[vec![0]]),
        ..AttentionRequest::plain(1, 1, width)
    };
    let (q, v_there) = (upload(vec![1.0; rows * width]), upload(v.clone()));
    let found = cpu
        .attention(
            &q,
            &upload(k),
            &v_there,
            std::slice::from_ref(&(0..rows)),
            &request,
        )
        .expect("runs");
    let rest = cpu.download(&found.parts.expect("asked for").rest);
    let rest = rest.expect("downloaded");
    assert_eq!(rest[..width], [0.0; 4]);
    for query in 1..rows {
        let sum = 16f64.exp() + query as f64;
        for column in 0..width {
            let others = (1..=query).map(|key| f64::from(v[key * width + column]));
            let truth = others.sum::<f64>() / sum;
            let ours = f64::from(rest[query * width + column]);
            assert!(
                (ours - truth).abs() < 2e-6 * truth.abs(),
                "{ours} for {truth}"
            );
        }
    }
}

/// Halves are paired; dimensions beyond the rotated ones stay; every head turns alike; positions
/// count from each sequence's start.
#[test]
fn rotation_is_that_of_the_definition() {
    let (heads, head_dim) = (3, 7);
    for pairs in [1, 2, 3] {
        let length = 6;
        let table = RopeTable::new(
            false,
            pairs,
            random(5, length * pairs),
            random(6, length * pairs),
        );
        let sequences = [0..6, 6..7, 7..11];
        let (rows, columns) = (11, heads * head_dim);
        let values = random(7, rows * columns);
        let cpu = Cpu::new();
        let mut tensor = cpu.upload(rows, columns, values.clone()).expect("uploaded");
        let tables = [&table, &table, &table];
        cpu.rotate(&mut tensor, &sequences, Rotation::new(head_dim, 0), &tables)
            .expect("runs");
        let rotated = cpu.download(&tensor).expect("downloaded");
        for rows in sequences {
            for (position, row) in rows.enumerate() {
                for head in 0..heads {
                    let start = row * columns + head * head_dim;
                    for index in 0..head_dim {
                        let x = |index: usize| f64::from(values[start + index]);
                        let turn = |pair: usize| {
                            let at = position * pairs + pair;
                            (f64::from(table.cos()[at]), f64::from(table.sin()[at]))
                        };
                        let expected = if index < pairs {
                            let (cos, sin) = turn(index);
                            x(index) * cos - x(index + pairs) * sin
                        } else if index < 2 * pairs {
                            let (cos, sin) = turn(index - pairs);
                            x(index) * cos + x(index - pairs) * sin
                        } else {
                            x(index)
                        };
                        let ours = f64::from(rotated[start + index]);
                        assert!((ours - expected).abs() < 1e-6, "{pairs}: {ours} {expected}");
                    }
                }
            }
        }
    }
}
