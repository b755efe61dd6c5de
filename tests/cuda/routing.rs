//! Mixtures of experts: the same visitors as on the CPU, in every order.

use massact::{
    Result,
    backend::{Backend, cpu::Cpu},
    model::{
        dtype::DType,
        spec::{ExpertGroups, Linear, Routing, Score},
    },
};

use crate::bench::{DTYPES, backends, near, noise, rounded, rounding};

/// (expert, row) of every visit, and the tensor that comes of them.
type Mixed = (Vec<(usize, usize)>, Vec<f32>);

/// What a router's choice does to a tensor: each expert's visitors, as constants, times their weights.
fn mix<B: Backend>(
    b: &B,
    (rows, experts): (usize, usize),
    logits: &[f32],
    routing: &Routing,
    correction: Option<&[f32]>,
) -> Result<Mixed> {
    let logits = b.upload(rows, experts, logits.to_vec())?;
    let correction = correction
        .map(|values| b.vector(values.to_vec()))
        .transpose()?;
    let visitors = b.route(&logits, routing, correction.as_ref(), None)?;
    // The first values of each row are its number, which 16 bits hold in two parts: who came shows.
    let values = (0..rows).flat_map(|row| [(row % 256) as f32, (row / 256) as f32, -0.5]);
    let x = b.upload(rows, 3, values.collect())?;
    let mut out = b.zeros(&x)?;
    let mut came = Vec::new();
    for (expert, visits) in b.visits(&visitors).into_iter().enumerate() {
        if visits == 0 {
            continue;
        }
        let mut own = b.gather_visitors(&x, &visitors, expert)?;
        let rows = b.download(&own)?;
        came.extend(
            rows.chunks_exact(3)
                .map(|row| (expert, row[0] as usize + 256 * row[1] as usize)),
        );
        b.affine(&mut own, 0.0, expert as f32 + 1.0)?;
        b.add_visitors(&mut out, &own, &visitors, expert, true)?;
    }
    Ok((came, b.download(&out)?))
}

fn routing(score: Score, top_k: usize, groups: Option<ExpertGroups>) -> Routing {
    Routing {
        router: Linear::new("router.weight".to_owned(), 1, 1),
        score,
        correction: None,
        table: None,
        groups,
        top_k,
        renormalise: top_k.is_multiple_of(2),
        epsilon: 1e-6,
        scale: 1.5,
    }
}

#[track_caller]
fn agree(
    dtype: DType,
    shape: (usize, usize),
    logits: &[f32],
    routing: &Routing,
    correction: Option<&[f32]>,
) {
    let wanted = mix(&Cpu::new(), shape, logits, routing, correction).expect("computed");
    let mut first: Option<Vec<u32>> = None;
    for (name, cuda) in backends(dtype) {
        let what = format!("{name}, {shape:?}, {routing:?}");
        let got = mix(&cuda, shape, logits, routing, correction).expect("computed");
        assert_eq!(got.0, wanted.0, "{what}");
        // A rounding a visit, some up and some down.
        let tolerance = (1.0 + routing.top_k as f32 / 4.0) * rounding(dtype);
        near(&what, &got.1, &wanted.1, tolerance, 8.0);
        let bits: Vec<u32> = got.1.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, *first.get_or_insert_with(|| bits.clone()), "{what}");
    }
}

#[test]
fn every_way_to_choose() {
    let grouped = |count, kept, best| Some(ExpertGroups { count, kept, best });
    for dtype in DTYPES {
        for (rows, experts, top_k, groups) in [
            (1, 1, 1, None),
            (9, 5, 3, None),
            (33, 40, 8, None),
            // More visits than a block has threads.
            (600, 6, 2, grouped(3, 2, 2)),
            (7, 64, 6, grouped(8, 3, 2)),
            (5, 66, 32, grouped(33, 16, 1)),
        ] {
            if rows > 100 && dtype != DType::Float32 {
                continue;
            }
            let logits: Vec<f32> = noise(rows * experts, 3, dtype);
            let logits: Vec<f32> = logits.iter().map(|x| rounded(4.0 * x, dtype)).collect();
            let correction = noise(experts, 4, DType::Float32);
            for score in [Score::Softmax, Score::Sigmoid] {
                let routing = routing(score, top_k, groups);
                agree(dtype, (rows, experts), &logits, &routing, None);
                agree(dtype, (rows, experts), &logits, &routing, Some(&correction));
            }
            let routing = routing(Score::Sparse(0.3), top_k, None);
            agree(dtype, (rows, experts), &logits, &routing, None);
        }
    }
}

/// Among equals the earlier expert, and the earlier group; values that are no numbers do not lead
/// astray.
#[test]
fn ties_and_what_is_no_number() {
    for score in [Score::Softmax, Score::Sigmoid] {
        let groups = ExpertGroups {
            count: 5,
            kept: 2,
            best: 2,
        };
        for groups in [None, Some(groups)] {
            let routing = routing(score, 3, groups);
            let mut logits: Vec<f32> = (0..7 * 40).map(|i| (i / 3 % 2) as f32).collect();
            agree(DType::Float32, (7, 40), &logits, &routing, None);
            logits[..40].fill(f32::NEG_INFINITY);
            logits[45] = f32::NAN;
            logits[90] = f32::INFINITY;
            for (name, cuda) in backends(DType::Float32) {
                let shape = (7, 40);
                let wanted = mix(&Cpu::new(), shape, &logits, &routing, None).expect("computed");
                let got = mix(&cuda, shape, &logits, &routing, None).expect("computed");
                assert_eq!(got.0, wanted.0, "{name}, {score:?}, {groups:?}");
            }
        }
    }
}

#[test]
fn more_than_a_warp_keeps_is_refused() {
    for (_, cuda) in backends(DType::Float32).take(1) {
        let logits = noise(2 * 64, 1, DType::Float32);
        let routing = routing(Score::Softmax, 33, None);
        let error = mix(&cuda, (2, 64), &logits, &routing, None).expect_err("too many");
        assert!(
            error
                .to_string()
                .ends_with("use --device cpu for this model"),
            "{error}"
        );
    }
}
