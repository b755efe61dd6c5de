//! Attention on the emulated card against the CPU backend, whose own truth is the definition in
//! double precision (tests/attention.rs, tests/attention_options.rs).

use half::{bf16, f16};
use massact::{
    Result,
    backend::{
        Attention, AttentionCapture, AttentionMaps, AttentionRequest, Backend, KvBias, Tensors,
        cpu::Cpu, cuda::Cuda,
    },
    model::{dtype::DType, spec::Alibi},
};
use massact_emulator::{Emulator, Order};

const DTYPES: [DType; 3] = [DType::Float32, DType::BFloat16, DType::Float16];

#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) lengths: Vec<usize>,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) value_dim: usize,
    pub(crate) window: Option<usize>,
    pub(crate) chunk: Option<usize>,
    /// Queries see this many keys, chosen for them.
    pub(crate) chosen: Option<usize>,
    pub(crate) soft_cap: Option<f32>,
    pub(crate) alibi: Option<Alibi>,
    pub(crate) sinks: bool,
    pub(crate) kv_bias: bool,
}

/// `lengths` of `heads / kv_heads` heads of `head_dim`, without options.
pub(crate) fn plain(lengths: &[usize], (heads, kv_heads): (usize, usize), head_dim: usize) -> Case {
    Case {
        lengths: lengths.to_vec(),
        heads,
        kv_heads,
        head_dim,
        value_dim: head_dim,
        window: None,
        chunk: None,
        chosen: None,
        soft_cap: None,
        alibi: None,
        sinks: false,
        kv_bias: false,
    }
}

/// What is compared bit for bit between scheduling orders.
#[derive(PartialEq)]
pub(crate) struct Found {
    pub(crate) context: Vec<f32>,
    parts: [Vec<f32>; 2],
    maps: Vec<AttentionMaps>,
}

/// Numbers in [-1, 1) that the type holds.
fn random(dtype: DType, seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let numbers = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    });
    numbers.take(count).map(|x| round(dtype, x)).collect()
}

fn round(dtype: DType, x: f32) -> f32 {
    match dtype {
        DType::Float32 => x,
        DType::BFloat16 => bf16::from_f32(x).to_f32(),
        DType::Float16 => f16::from_f32(x).to_f32(),
    }
}

impl Case {
    fn rows(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn sequences(&self) -> Vec<std::ops::Range<usize>> {
        let ends = self.lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        });
        ends.zip(&self.lengths)
            .map(|(end, length)| end - length..end)
            .collect()
    }

    /// Queries, keys and values; queries so long that softmax is uneven.
    fn inputs(&self, dtype: DType) -> [Vec<f32>; 3] {
        let rows = self.rows();
        let mut q = random(dtype, 1, rows * self.heads * self.head_dim);
        q.iter_mut().for_each(|x| *x *= 4.0);
        let k = random(dtype, 2, rows * self.kv_heads * self.head_dim);
        [
            q,
            k,
            random(dtype, 3, rows * self.kv_heads * self.value_dim),
        ]
    }

    fn sinks(&self) -> Vec<f32> {
        random(DType::Float32, 4, self.heads)
    }

    fn kv_bias(&self) -> [Vec<f32>; 2] {
        [(5, self.head_dim), (6, self.value_dim)]
            .map(|(seed, width)| random(DType::Float32, seed, self.heads * width))
    }

    /// Some keys of each sequence, none of the second.
    fn subset(&self) -> Vec<Vec<usize>> {
        let lists = self
            .lengths
            .iter()
            .enumerate()
            .map(|(index, &length)| match index {
                1 => Vec::new(),
                _ => (0..length).step_by(1 + length / 3).collect(),
            });
        lists.collect()
    }

    /// Chosen by numbers so coarse that scores are exact and many are equal.
    fn choice<B: Backend>(&self, b: &B) -> Result<Option<B::KeyMask>> {
        let rows = self.rows();
        let upload = |columns: usize, seed| {
            let values = random(DType::Float32, seed, rows * columns);
            let values = values.iter().map(|x| (x * 2.0).round() / 2.0);
            b.upload(rows, columns, values.collect())
        };
        let choose = |most| {
            let (q, k) = (upload(3 * 5, 7)?, upload(5, 8)?);
            let rows = self.sequences();
            b.choose_keys(&q, &k, &upload(3, 9)?, &rows, (&rows, 1), most)
        };
        self.chosen.map(choose).transpose()
    }

    fn request<'a, V, M>(
        &'a self,
        sinks: &'a V,
        [k, v]: &'a [V; 2],
        subset: &'a [Vec<usize>],
        chosen: Option<&'a M>,
    ) -> AttentionRequest<'a, V, M> {
        AttentionRequest {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            value_dim: self.value_dim,
            scale: 1.0 / (self.head_dim as f32).sqrt(),
            window: self.window,
            chunk: self.chunk,
            chosen,
            soft_cap: self.soft_cap,
            alibi: self.alibi.as_ref(),
            sinks: self.sinks.then_some(sinks),
            kv_bias: self.kv_bias.then_some(KvBias { k, v }),
            capture: AttentionCapture {
                mean: true,
                heads: true,
                sink: true,
            },
            subset: Some(subset),
        }
    }

    pub(crate) fn computed<B: Backend>(&self, b: &B, dtype: DType) -> Result<Found> {
        let rows = self.rows();
        let [q, k, v] = self.inputs(dtype);
        let upload = |values: Vec<f32>| b.upload(rows, values.len() / rows, values);
        let (q, k, v) = (upload(q)?, upload(k)?, upload(v)?);
        let sinks = b.vector(self.sinks())?;
        let [extra_key, extra_value] = self.kv_bias();
        let kv_bias = [b.vector(extra_key)?, b.vector(extra_value)?];
        let subset = self.subset();
        let choice = self.choice(b)?;
        let request = self.request(&sinks, &kv_bias, &subset, choice.as_ref());
        let found = b.attention(&q, &k, &v, &self.sequences(), &request)?;
        let parts = found.parts.expect("asked for");
        Ok(Found {
            context: b.download(&found.context)?,
            parts: [b.download(&parts.subset)?, b.download(&parts.rest)?],
            maps: found.maps,
        })
    }

    /// The parts are computed here, from the maps.
    fn on_cpu(&self, dtype: DType) -> Result<Found> {
        let found = self.computed(&Cpu::new(), dtype)?;
        let subset = self.subset();
        let listed = |sequence: usize, key: Option<usize>| {
            key.is_some_and(|key| subset[sequence].contains(&key))
        };
        let part = |own: bool| {
            let counts = |sequence, key| listed(sequence, key) == own;
            self.weighted_values(dtype, &found.maps, counts, |prob| prob)
        };
        Ok(Found {
            parts: [part(true), part(false)],
            ..found
        })
    }

    pub(crate) fn on_card(&self, dtype: DType, card: Emulator) -> Result<Found> {
        self.computed(&Cuda::new(card, dtype), dtype)
    }

    /// `sum_j p_j v_j` over the keys that `counts` (of which sequence, which position; none for the
    /// extra key), with the probabilities of the maps as `adjust` makes them.
    fn weighted_values(
        &self,
        dtype: DType,
        maps: &[AttentionMaps],
        counts: impl Fn(usize, Option<usize>) -> bool,
        adjust: impl Fn(f32) -> f32,
    ) -> Vec<f32> {
        let [_, _, v] = self.inputs(dtype);
        let extra = usize::from(self.kv_bias);
        let extra_values = &self.kv_bias()[1];
        let (group, width) = (self.heads / self.kv_heads, self.value_dim);
        let mut out = vec![0.0; self.rows() * self.heads * width];
        for ((sequence, rows), maps) in self.sequences().into_iter().enumerate().zip(maps) {
            let probs = maps.probs.as_ref().expect("asked for");
            for (index, probs) in probs.chunks_exact(rows.len() + extra).enumerate() {
                let (head, query) = (index / rows.len(), index % rows.len());
                let place = ((rows.start + query) * self.heads + head) * width;
                for (column, &prob) in probs.iter().enumerate() {
                    if prob.is_nan() || !counts(sequence, column.checked_sub(extra)) {
                        continue;
                    }
                    let values = match column.checked_sub(extra) {
                        None => &extra_values[head * width..],
                        Some(key) => {
                            &v[((rows.start + key) * self.kv_heads + head / group) * width..]
                        }
                    };
                    for (out, value) in out[place..place + width].iter_mut().zip(values) {
                        *out += adjust(prob) * value;
                    }
                }
            }
        }
        out
    }

    /// The largest error of attention computed plainly in this type: probabilities rounded to it
    /// before they meet the values, then the sums.
    fn plain_error(&self, dtype: DType, truth: &Found) -> f32 {
        let rounded = |prob| round(dtype, prob);
        let plain = self.weighted_values(dtype, &truth.maps, |_, _| true, rounded);
        let errors = plain.iter().zip(&truth.context);
        errors.fold(0.0, |worst, (sum, truth)| {
            worst.max((round(dtype, *sum) - truth).abs())
        })
    }

    /// Output and maps are the CPU's, the same in every scheduling order.
    fn check(&self) {
        self.check_on(&DTYPES, Emulator::new);
    }

    /// On cards of some kind.
    pub(crate) fn check_on(&self, dtypes: &[DType], card: impl Fn(Order) -> Emulator) {
        for &dtype in dtypes {
            let what = format!(
                "{dtype} T {:?} heads {}/{} of {}/{} window {:?} chunk {:?} chosen {:?} cap {:?} alibi {} \
                 sinks {} bias {}",
                self.lengths,
                self.heads,
                self.kv_heads,
                self.head_dim,
                self.value_dim,
                self.window,
                self.chunk,
                self.chosen,
                self.soft_cap,
                self.alibi.is_some(),
                self.sinks,
                self.kv_bias
            );
            let found = self.on_card(dtype, card(Order::Forward)).expect("runs");
            self.compare(dtype, &found)
                .unwrap_or_else(|wrong| panic!("{what}, {wrong}"));
            for order in [Order::Reverse, Order::Random(7)] {
                let other = self.on_card(dtype, card(order)).expect("runs");
                assert!(
                    found.bits() == other.bits(),
                    "{what}: depends on the order of threads"
                );
            }
        }
    }

    /// Whether a card found what the CPU finds, within the bounds; else the first value that is wrong.
    pub(crate) fn compare(&self, dtype: DType, found: &Found) -> std::result::Result<(), String> {
        let truth = self.on_cpu(dtype).expect("runs");
        let bound = match dtype {
            DType::Float32 => 1e-5,
            // The rule for 16 bits: at most twice the error of the plain way.
            _ => 2.0 * self.plain_error(dtype, &truth),
        };
        near("context", &found.context, &truth.context, bound)?;
        near("subset", &found.parts[0], &truth.parts[0], bound)?;
        near("rest", &found.parts[1], &truth.parts[1], bound)?;
        for (found, truth) in found.maps.iter().zip(&truth.maps) {
            for (name, found, truth) in [
                ("mean probabilities", &found.probs_mean, &truth.probs_mean),
                ("mean logits", &found.logits_mean, &truth.logits_mean),
                ("probabilities", &found.probs, &truth.probs),
                ("logits", &found.logits, &truth.logits),
                ("sink mass", &found.sink_mass, &truth.sink_mass),
                ("largest logits", &found.max_logit, &truth.max_logit),
            ] {
                let map = |map: &Option<Vec<f32>>| map.clone().expect("asked for");
                near(name, &map(found), &map(truth), 1e-5)?;
            }
            if found.viewers != truth.viewers {
                return Err("viewers".into());
            }
        }
        Ok(())
    }
}

impl Found {
    /// NaN marks hidden entries, so bits are compared.
    pub(crate) fn bits(&self) -> Vec<u32> {
        let maps = self.maps.iter().flat_map(|maps| {
            [
                &maps.probs_mean,
                &maps.logits_mean,
                &maps.probs,
                &maps.logits,
                &maps.sink_mass,
                &maps.max_logit,
            ]
        });
        let [subset, rest] = &self.parts;
        let all = [&self.context, subset, rest]
            .into_iter()
            .chain(maps.flatten());
        all.flatten().map(|value| value.to_bits()).collect()
    }
}

/// Both hidden (NaN), or no further apart than the bound, relative to what exceeds 1.
fn near(name: &str, ours: &[f32], theirs: &[f32], bound: f32) -> std::result::Result<(), String> {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let same = |(a, b): (&f32, &f32)| {
        (a.is_nan() && b.is_nan()) || (a - b).abs() <= bound * b.abs().max(1.0)
    };
    match ours.iter().zip(theirs).position(|pair| !same(pair)) {
        None => Ok(()),
        Some(at) => Err(format!(
            "{name}[{at}]: {} for {} (bound {bound})",
            ours[at], theirs[at]
        )),
    }
}

/// The numbers are the same whatever number of heads is computed at a time because of the cache: one, two of five
/// heads of keys and then the last, all.
pub(crate) fn caches_agree(dtypes: &[DType], card: impl Fn() -> Emulator) {
    let case = plain(&[40, 1, 20, 41], (10, 5), 64);
    for dtype in dtypes {
        let size = dtype.size();
        let pair = 40 * 2 * 64 * size;
        let found = [0, 2 * 2 * pair + 1000, 1 << 30].map(|cache_bytes| {
            let card = card().with_limits(|limits| limits.cache_bytes = cache_bytes);
            let cuda = Cuda::new(card, *dtype);
            case.computed(&cuda, *dtype).expect("runs").bits()
        });
        assert!(found[0] == found[1], "{dtype}");
        assert!(found[0] == found[2], "{dtype}");
    }
}

/// Where the first key has all weight but some millionths, what the others give is as exact as another output.
pub(crate) fn little_weight_has_digits(dtypes: &[DType], card: impl Fn() -> Emulator) {
    const LOGIT: f64 = 14.0;
    let case = plain(&[150], (1, 1), 64);
    let (rows, width) = (case.lengths[0], case.head_dim);
    // Multiples of 1/2 below 128 and the logit are exact in every type.
    let value = |row: usize| (row / 2) as f32 / 2.0 + 16.0;
    let values: Vec<f32> = (0..rows * width).map(|i| value(i / width)).collect();
    let mut keys = vec![0.0; rows * width];
    keys[..width].fill(LOGIT as f32 / 8.0);
    for &dtype in dtypes {
        let b = Cuda::new(card(), dtype);
        let upload = |values: Vec<f32>| b.upload(rows, width, values).expect("uploads");
        let (q, k, v) = (
            upload(vec![1.0; rows * width]),
            upload(keys.clone()),
            upload(values.clone()),
        );
        let none = b.vector(vec![0.0]).expect("uploads");
        let unused = [none.clone(), none.clone()];
        let subset = [vec![0]];
        let request = case.request(&none, &unused, &subset, None);
        let found = b.attention(&q, &k, &v, &case.sequences(), &request);
        let parts = found.expect("runs").parts.expect("asked for");
        let rest = b.download(&parts.rest).expect("downloads");
        let mut sum = 0.0;
        for row in 0..rows {
            sum += if row == 0 { 0.0 } else { f64::from(value(row)) };
            let expected = (sum / (LOGIT.exp() + row as f64)) as f32;
            let rounding = match dtype {
                DType::Float32 => 1e-5,
                DType::BFloat16 => 1.0 / 128.0,
                DType::Float16 => 1.0 / 1024.0,
            };
            // The first queries' are below what float16 has all digits of.
            let smallest = 1.0 / 16384.0;
            for found in &rest[row * width..][..width] {
                let bound = rounding * expected.max(smallest);
                assert!(
                    (found - expected).abs() <= bound,
                    "{dtype} {row}: {found} for {expected}"
                );
            }
        }
    }
}

#[test]
fn parts_of_little_weight() {
    little_weight_has_digits(&DTYPES, || Emulator::new(Order::Random(3)));
}

#[test]
fn heads_at_a_time() {
    caches_agree(&DTYPES, || Emulator::new(Order::Random(3)));
}

#[test]
fn lengths_around_the_tiles() {
    for lengths in [&[1][..], &[2], &[64], &[129], &[65, 1, 2, 130]] {
        plain(lengths, (2, 2), 16).check();
    }
}

#[test]
fn every_width_of_heads() {
    for head_dim in [5, 8, 32, 33, 64, 80, 96, 128, 192, 256, 512] {
        plain(&[70], (2, 1), head_dim).check();
    }
}

#[test]
fn grouped_heads() {
    for heads in [(3, 1), (6, 2), (7, 1), (1, 1)] {
        plain(&[67, 5], heads, 12).check();
    }
}

#[test]
fn values_of_another_width() {
    for (head_dim, value_dim) in [
        (192, 128),
        (24, 16),
        (20, 24),
        (16, 64),
        (129, 77),
        (300, 301),
    ] {
        let case = plain(&[70], (2, 1), head_dim);
        Case { value_dim, ..case }.check();
    }
}

#[test]
fn windows_narrower_and_wider_than_a_tile() {
    for window in [1, 3, 64, 100, 1000] {
        let case = plain(&[200, 3], (2, 1), 16);
        Case {
            window: Some(window),
            ..case
        }
        .check();
    }
}

#[test]
fn chunks_narrower_and_wider_than_a_tile() {
    for (chunk, window) in [
        (1, None),
        (7, None),
        (64, Some(40)),
        (100, Some(70)),
        (1000, None),
    ] {
        let case = plain(&[200, 3], (2, 1), 16);
        Case {
            chunk: Some(chunk),
            window,
            ..case
        }
        .check();
    }
}

#[test]
fn keys_chosen_for_each_query() {
    for most in [1, 6, 100] {
        let case = plain(&[140, 3, 33], (4, 2), 16);
        Case {
            chosen: Some(most),
            ..case.clone()
        }
        .check();
    }
    Case {
        chosen: Some(5),
        value_dim: 128,
        sinks: true,
        kv_bias: true,
        ..plain(&[70, 1], (2, 1), 192)
    }
    .check();
}

#[test]
fn soft_cap_alibi_sinks_and_extra_keys() {
    let case = plain(&[140, 2], (4, 2), 16);
    let bloom = Alibi::new(4);
    let falcon = Alibi {
        bfloat16: true,
        factor: 0.25,
        ..Alibi::new(4)
    };
    let mpt = Alibi {
        from_last: true,
        ..Alibi::exact(4)
    };
    Case {
        soft_cap: Some(0.7),
        ..case.clone()
    }
    .check();
    Case {
        soft_cap: Some(30.0),
        window: Some(70),
        ..case.clone()
    }
    .check();
    Case {
        alibi: Some(falcon),
        ..case.clone()
    }
    .check();
    Case {
        alibi: Some(mpt),
        kv_bias: true,
        ..case.clone()
    }
    .check();
    Case {
        sinks: true,
        ..case.clone()
    }
    .check();
    Case {
        kv_bias: true,
        window: Some(2),
        ..case.clone()
    }
    .check();
    Case {
        alibi: Some(bloom),
        soft_cap: Some(5.0),
        sinks: true,
        kv_bias: true,
        ..case
    }
    .check();
}

/// The checker follows every access: no race, no uninitialised or foreign memory is read.
#[test]
fn options_are_free_of_races() {
    let cases = [
        Case {
            window: Some(40),
            sinks: true,
            kv_bias: true,
            ..plain(&[70, 1], (2, 1), 8)
        },
        Case {
            chunk: Some(30),
            chosen: Some(5),
            ..plain(&[70, 3], (2, 1), 8)
        },
        plain(&[66], (1, 1), 5),
        Case {
            value_dim: 128,
            ..plain(&[65], (1, 1), 192)
        },
    ];
    for case in cases {
        for dtype in DTYPES {
            let plain = case
                .on_card(dtype, Emulator::new(Order::Forward))
                .expect("runs");
            let checked = case.on_card(dtype, Emulator::checked(Order::Random(3)));
            let checked = checked.unwrap_or_else(|error| panic!("{dtype}: {error}"));
            assert!(plain.bits() == checked.bits());
        }
    }
}

/// Heads wider than any kernel are refused with the remedy.
#[test]
fn wider_heads_are_refused() {
    let error = plain(&[3], (1, 1), 513)
        .on_card(DType::Float32, Emulator::new(Order::Forward))
        .err()
        .expect("no kernel is so wide")
        .to_string();
    assert!(
        error.contains("513") && error.contains("--device cpu"),
        "{error}"
    );
}
