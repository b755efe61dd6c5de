//! The CPU's attention with each of its options, with and without an extra key, against its
//! definition in double precision: outputs and every map.

use massact::backend::{
    Attention, AttentionCapture, AttentionMaps, AttentionRequest, KvBias, Tensors, cpu::Cpu,
};
use massact::model::spec::Alibi;

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

type Request<'a> = AttentionRequest<'a, Vec<f32>>;

/// Queries, keys and values of one sequence.
struct Inputs {
    length: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

/// What one head computes for one query: logits and probabilities by column (none where the mask
/// hides the key), and the output.
struct Row {
    logits: Vec<Option<f64>>,
    probs: Vec<Option<f64>>,
    output: Vec<f64>,
    /// The output from the keys of the subset alone.
    restricted: Vec<f64>,
    /// The output from the others.
    rest: Vec<f64>,
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Part `index` of consecutive parts of `width` values.
fn part(values: &[f32], width: usize, index: usize) -> Vec<f64> {
    wide(&values[index * width..(index + 1) * width])
}

fn row(request: &Request<'_>, inputs: &Inputs, subset: &[usize], head: usize, query: usize) -> Row {
    let (width, value_width) = (request.head_dim, request.value_dim);
    let kv_head = head * request.kv_heads / request.heads;
    let q = part(&inputs.q, width, query * request.heads + head);
    let capped = |key: &[f64]| {
        let product: f64 = q.iter().zip(key).map(|(a, b)| a * b).sum();
        let logit = product * f64::from(request.scale);
        match request.soft_cap.map(f64::from) {
            Some(cap) => cap * (logit / cap).tanh(),
            None => logit,
        }
    };
    let mut logits = Vec::new();
    let mut values = Vec::new();
    if let Some(bias) = &request.kv_bias {
        logits.push(Some(capped(&part(bias.k, width, head))));
        values.push(part(bias.v, value_width, head));
    }
    for key in 0..inputs.length {
        let place = key * request.kv_heads + kv_head;
        let far = request.window.is_some_and(|window| key + window <= query);
        let mut logit = capped(&part(&inputs.k, width, place));
        if let Some(alibi) = request.alibi {
            logit += f64::from(alibi.slopes[head]) * key as f64;
        }
        logits.push((key <= query && !far).then_some(logit));
        values.push(part(&inputs.v, value_width, place));
    }
    let exponentials: Vec<Option<f64>> = logits.iter().map(|l| l.map(f64::exp)).collect();
    let sink = request
        .sinks
        .map_or(0.0, |sinks| f64::from(sinks[head]).exp());
    let sum = exponentials.iter().flatten().sum::<f64>() + sink;
    let probs: Vec<Option<f64>> = exponentials.iter().map(|e| e.map(|e| e / sum)).collect();
    let extra = values.len() - inputs.length;
    let sum_over = |wanted: &dyn Fn(usize) -> bool| {
        let mut output = vec![0.0; value_width];
        let chosen = probs.iter().zip(&values).enumerate();
        for (_, (prob, value)) in chosen.filter(|(column, _)| wanted(*column)) {
            for (out, value) in output.iter_mut().zip(value) {
                *out += prob.unwrap_or(0.0) * value;
            }
        }
        output
    };
    let output = sum_over(&|_| true);
    let listed = |column: usize| column >= extra && subset.contains(&(column - extra));
    let (restricted, rest) = (sum_over(&listed), sum_over(&|column| !listed(column)));
    Row {
        logits,
        probs,
        output,
        restricted,
        rest,
    }
}

/// `size`: the largest logit. Its rounding, half a unit in the last place, is what exp sees.
fn near(what: &str, ours: f32, theirs: Option<f64>, size: f64) {
    let Some(theirs) = theirs else {
        assert!(ours.is_nan(), "{what}: {ours} where the mask hides the key");
        return;
    };
    let bound = 3e-6 + 1.2e-7 * size;
    let error = (f64::from(ours) - theirs).abs();
    assert!(error < bound, "{what}: {ours} instead of {theirs}");
}

/// Every output and map of one sequence.
fn compare(
    request: &Request<'_>,
    inputs: &Inputs,
    subset: &[usize],
    [out, restricted, rest]: [&[f32]; 3],
    maps: &AttentionMaps,
) {
    let (heads, length) = (request.heads, inputs.length);
    let columns = length + usize::from(request.kv_bias.is_some());
    let map = |map: &Option<Vec<f32>>, size: usize| {
        let map = map.clone().expect("asked for");
        assert_eq!(map.len(), size);
        map
    };
    let square = length * columns;
    // ALiBi's steepest slope here is one half; the other logits are small.
    let size = match request.alibi {
        Some(_) => 0.5 * length as f64,
        None => 10.0,
    };
    let (probs, logits) = (
        map(&maps.probs, heads * square),
        map(&maps.logits, heads * square),
    );
    let (probs_mean, logits_mean) = (
        map(&maps.probs_mean, square),
        map(&maps.logits_mean, square),
    );
    let mass = map(&maps.sink_mass, heads * columns);
    let mut received = vec![(0.0, 0usize); heads * columns];
    for query in 0..length {
        let rows: Vec<Row> = (0..heads)
            .map(|head| row(request, inputs, subset, head, query))
            .collect();
        for (head, row) in rows.iter().enumerate() {
            let what = format!("head {head}, query {query}");
            for (ours, theirs) in [
                (out, &row.output),
                (restricted, &row.restricted),
                (rest, &row.rest),
            ] {
                for (index, value) in theirs.iter().enumerate() {
                    let ours = ours[(query * heads + head) * request.value_dim + index];
                    near(&what, ours, Some(*value), size);
                }
            }
            for column in 0..columns {
                let place = (head * length + query) * columns + column;
                near(&what, probs[place], row.probs[column], size);
                near(&what, logits[place], row.logits[column], size);
                if let Some(prob) = row.probs[column] {
                    received[head * columns + column].0 += prob;
                    received[head * columns + column].1 += 1;
                }
            }
        }
        for column in 0..columns {
            let mean = |of: &dyn Fn(&Row) -> Option<f64>| {
                let values: Option<Vec<f64>> = rows.iter().map(of).collect();
                values.map(|values| values.iter().sum::<f64>() / heads as f64)
            };
            let what = format!("query {query}, column {column}, mean");
            let place = query * columns + column;
            near(
                &what,
                probs_mean[place],
                mean(&|row| row.probs[column]),
                size,
            );
            near(
                &what,
                logits_mean[place],
                mean(&|row| row.logits[column]),
                size,
            );
        }
    }
    for (index, (sum, count)) in received.iter().enumerate() {
        near("sink mass", mass[index], Some(sum / *count as f64), size);
    }
}

/// Runs two sequences side by side; positions count from each one's start.
fn check(request: &Request<'_>, lengths: [usize; 2]) {
    let (q_width, k_width) = (
        request.heads * request.head_dim,
        request.kv_heads * request.head_dim,
    );
    let v_width = request.kv_heads * request.value_dim;
    let rows = lengths[0] + lengths[1];
    let (q, k, v) = (
        random(1, rows * q_width),
        random(2, rows * k_width),
        random(3, rows * v_width),
    );
    let cpu = Cpu::new();
    let tensor = |columns, values: &[f32]| {
        cpu.upload(rows, columns, values.to_vec())
            .expect("uploaded")
    };
    let sequences = [0..lengths[0], lengths[0]..rows];
    // The first key, the ends of a block of queries and of a tile of keys, and the last one.
    let subset = lengths.map(|length| {
        let keys = std::collections::BTreeSet::from([0, 63, 64, 255, 256, length - 1]);
        keys.into_iter().filter(|key| *key < length).collect()
    });
    let request = &Request {
        subset: Some(&subset),
        kv_bias: request.kv_bias.as_ref().map(|bias| KvBias { ..*bias }),
        ..*request
    };
    let found = cpu
        .attention(
            &tensor(q_width, &q),
            &tensor(k_width, &k),
            &tensor(v_width, &v),
            &sequences,
            request,
        )
        .expect("runs");
    let out = cpu.download(&found.context).expect("downloaded");
    let parts = found.parts.expect("asked for");
    let [restricted, rest] =
        [&parts.subset, &parts.rest].map(|part| cpu.download(part).expect("downloaded"));
    let out_width = request.heads * request.value_dim;
    for ((rows, maps), subset) in sequences.iter().zip(&found.maps).zip(&subset) {
        let cut = |values: &[f32], width| values[rows.start * width..rows.end * width].to_vec();
        let inputs = Inputs {
            length: rows.len(),
            q: cut(&q, q_width),
            k: cut(&k, k_width),
            v: cut(&v, v_width),
        };
        let outputs = [&out, &restricted, &rest].map(|values| cut(values, out_width));
        let outputs = outputs.each_ref().map(Vec::as_slice);
        compare(request, &inputs, subset, outputs, maps);
    }
}

/// Each option alone and some together, over more keys than a tile holds.
fn check_options(heads: usize, kv_heads: usize, head_dim: usize, value_dim: usize, extra: bool) {
    let (k, v) = (random(4, heads * head_dim), random(5, heads * value_dim));
    // Loud enough that the extra key takes a part that varies.
    let k: Vec<f32> = k.into_iter().map(|value| 3.0 * value).collect();
    let sinks = random(6, heads);
    let alibi = Alibi::exact(heads);
    let plain = || Request {
        value_dim,
        scale: 0.8,
        kv_bias: extra.then_some(KvBias { k: &k, v: &v }),
        capture: AttentionCapture {
            mean: true,
            heads: true,
            sink: true,
        },
        subset: None,
        ..Request::plain(heads, kv_heads, head_dim)
    };
    let requests = [
        plain(),
        Request {
            window: Some(1),
            ..plain()
        },
        Request {
            window: Some(67),
            soft_cap: Some(0.6),
            ..plain()
        },
        Request {
            soft_cap: Some(1.5),
            sinks: Some(&sinks),
            ..plain()
        },
        Request {
            window: Some(129),
            sinks: Some(&sinks),
            ..plain()
        },
        Request {
            alibi: Some(&alibi),
            ..plain()
        },
    ];
    for request in requests {
        check(&request, [1, 65]);
        check(&request, [270, 3]);
    }
}

#[test]
fn without_an_extra_key() {
    check_options(3, 1, 6, 6, false);
}

#[test]
fn with_an_extra_key() {
    check_options(3, 3, 6, 6, true);
    check_options(6, 2, 5, 5, true);
    check_options(7, 1, 4, 9, true);
}

/// Keys that no query can match and a value of zero take their part of the softmax, and nothing
/// more: an extra key is a sink whose logit depends on the query.
#[test]
fn an_extra_key_of_zero_is_a_sink_of_zero() {
    let (heads, dim, length) = (2, 4, 70);
    let zeros = vec![0.0; heads * dim];
    let sinks = vec![0.0; heads];
    let cpu = Cpu::new();
    let tensor = |seed| {
        cpu.upload(length, heads * dim, random(seed, length * heads * dim))
            .expect("uploaded")
    };
    let (q, k, v) = (tensor(1), tensor(2), tensor(3));
    let run = |kv_bias, sinks| {
        let request = Request {
            scale: 0.5,
            sinks,
            kv_bias,
            ..Request::plain(heads, heads, dim)
        };
        let all = 0..length;
        let found = cpu
            .attention(&q, &k, &v, std::slice::from_ref(&all), &request)
            .expect("runs");
        cpu.download(&found.context).expect("downloaded")
    };
    let bias = KvBias {
        k: &zeros,
        v: &zeros,
    };
    assert_eq!(run(Some(bias), None), run(None, Some(&sinks)));
}
