//! Products and attention as shares of the processor's peak, in interleaved rounds.

use std::{hint::black_box, time::Instant};

use massact::{
    backend::{Attention, AttentionRequest, Products, Target, Tensors, cpu::Cpu},
    model::weights::AssembledMatrix,
};

const ROUNDS: usize = 7;

/// Inputs and outputs of projections, from SmolLM2-135M to a model of 7 billion parameters.
const PRODUCTS: [(usize, usize); 8] = [
    (576, 576),
    (576, 1536),
    (1536, 576),
    (768, 3072),
    (3072, 768),
    (2048, 2048),
    (2048, 5632),
    (4096, 4096),
];

const ROWS: usize = 2048;

/// Sequences, tokens, heads, KV heads, width of a head.
const ATTENTION: [(usize, usize, usize, usize, usize); 5] = [
    (8, 256, 9, 3, 64),
    (2, 1024, 9, 3, 64),
    (2, 1024, 12, 12, 64),
    (1, 4096, 9, 3, 64),
    (1, 2048, 16, 4, 128),
];

struct Line<'a> {
    name: String,
    /// One call, and how many operations it was.
    call: Box<dyn Fn() -> usize + 'a>,
    /// GFLOP/s of every round.
    rates: Vec<f64>,
    /// Shares of the round's peak.
    shares: Vec<f64>,
}

/// Prints a table: the median rate of every line, and the median of its shares of the same round's peak.
/// Only lines whose names contain `part`.
pub(crate) fn table(noise: impl Fn(usize) -> Vec<f32>, part: &str) {
    let (best, narrow) = (Cpu::new(), Cpu::without_avx512());
    let bfloat16 = Cpu::in_bfloat16();
    let mut lines = Vec::new();
    let mut cpus = vec![("product", &best), ("product, no AVX-512", &narrow)];
    cpus.extend(bfloat16.as_ref().map(|cpu| ("product in bfloat16", cpu)));
    for (inputs, outputs) in PRODUCTS {
        for &(name, cpu) in &cpus {
            let name = format!("{name} {ROWS} x {inputs} x {outputs}");
            if !name.contains(part) {
                continue;
            }
            let x = cpu
                .upload(ROWS, inputs, noise(ROWS * inputs))
                .expect("uploads");
            let weight = AssembledMatrix::from_f32(&noise(inputs * outputs), outputs, inputs);
            let weight = cpu.matrix(weight.into()).expect("packs");
            lines.push(line(name, move || {
                let out = cpu.linear(black_box(&x), &weight, None, Target::Part);
                drop(black_box(out.expect("multiplies")));
                2 * ROWS * inputs * outputs
            }));
        }
    }
    for (count, tokens, heads, kv_heads, width) in ATTENTION {
        for (cpu, name) in [(&best, "attention"), (&narrow, "attention, no AVX-512")] {
            let name = format!(
                "{name} {count} x {tokens} tokens, {heads} heads of {width}, {kv_heads} of keys"
            );
            if !name.contains(part) {
                continue;
            }
            let rows = count * tokens;
            // Not the same values three times: a query would be nearest to its own key.
            let mut values = noise(rows * width * (heads + 2 * kv_heads));
            let mut next = |heads: usize| {
                let own = values.split_off(values.len() - rows * heads * width);
                cpu.upload(rows, heads * width, own).expect("uploads")
            };
            let (q, k, v) = (next(heads), next(kv_heads), next(kv_heads));
            lines.push(line(name, move || {
                let sequences: Vec<_> = (0..count).map(|i| i * tokens..(i + 1) * tokens).collect();
                let request = AttentionRequest::plain(heads, kv_heads, width);
                let out = cpu.attention(black_box(&q), &k, &v, &sequences, &request);
                drop(black_box(out.expect("attends")));
                // A logit and its part in the output: two sums of `width` products a visible key.
                4 * heads * width * count * tokens * (tokens + 1) / 2
            }));
        }
    }
    let mut peaks = Vec::new();
    for _ in 0..ROUNDS {
        for line in &mut lines {
            // Beside each other: what a shared processor gives changes from second to second.
            let mut peak = 0.0;
            for cpu in [&best, &narrow] {
                let count = || cpu.fused_multiply_adds(1 << 19);
                peak = f64::max(peak, rate(|| count().unwrap_or(0)));
            }
            let rate = rate(&line.call);
            peaks.push(peak);
            line.rates.push(rate);
            line.shares.push(rate / peak);
        }
    }
    if peaks.is_empty() {
        return;
    }
    let peak = median(&mut peaks);
    println!(
        "fused multiply-adds on registers: {peak:.0} GFLOP/s, median; shares are of what they reach just before\n"
    );
    println!("| | GFLOP/s | of the peak |\n|---|---|---|");
    for line in &mut lines {
        let (rate, share) = (median(&mut line.rates), median(&mut line.shares));
        println!("| {} | {rate:.0} | {:.0} % |", line.name, 100.0 * share);
    }
    println!();
}

fn line<'a>(name: String, call: impl Fn() -> usize + 'a) -> Line<'a> {
    call();
    Line {
        name,
        call: Box::new(call),
        rates: Vec::new(),
        shares: Vec::new(),
    }
}

fn rate(call: impl Fn() -> usize) -> f64 {
    let began = Instant::now();
    call() as f64 / began.elapsed().as_secs_f64() / 1e9
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
