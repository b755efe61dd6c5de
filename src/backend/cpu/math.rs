//! Elementary functions in float32, branch-free so that the compiler vectorises their loops.
//!
//! `f32::exp` and friends call the C library one value at a time; a GPT-2 MLP alone evaluates 37
//! million of them per 1,024 tokens.
#![forbid(unsafe_code)]

/// `exp(x)` to 2 ulp; 0 below -87.3 (no subnormals), +inf above 88.7, NaN for NaN.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, so that n * ln 2 loses nothing.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = x.clamp(-87.3, 88.8);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let value = small_exp_m1(r) + 1.0;
    // Two factors, because 2^128 is not a float32 although exp(88.7) is.
    // The integer is in the last bits of the shifted value. Not `n as i32`: its rules for NaN and
    // values out of range keep a loop from being vectorised.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let scaled = value * power_of_two(half) * power_of_two(n - half);
    if x < -87.3 { 0.0 } else { scaled }
}

/// [`exp`] of what is not above 0, to the same bits in fewer steps.
#[inline(always)]
pub(super) fn exp_below_zero(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Not `max`, which would hide a NaN.
    let clamped = if x < -87.3 { -87.3 } else { x };
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let value = small_exp_m1(r) + 1.0;
    // At least 2^-126, so that one factor is enough, and the exponent has room for it.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()) << 23;
    let scaled = f32::from_bits(value.to_bits().wrapping_add(exponent));
    let number = if x < -87.3 { 0.0 } else { scaled };
    if x.is_nan() { x } else { number }
}

/// `exp(r) - 1` on [-ln2/2, ln2/2], minimax coefficients of Cephes expf.
#[inline(always)]
fn small_exp_m1(r: f32) -> f32 {
    let mut p = 1.987_569_1e-4_f32;
    p = p.mul_add(r, 1.398_199_9e-3);
    p = p.mul_add(r, 8.333_452e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_5e-1);
    p = p.mul_add(r, 0.5);
    p.mul_add(r * r, r)
}

/// `exp(x) - 1`, without cancellation near 0.
#[inline(always)]
pub(super) fn exp_m1(x: f32) -> f32 {
    let (near, far) = (small_exp_m1(x), exp(x) - 1.0);
    if x.abs() < 0.34 { near } else { far }
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `1 / (1 + exp(-x))`
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `log(1 + exp(x))`
#[inline(always)]
pub(super) fn softplus(x: f32) -> f32 {
    // log(1 + u) is 2 atanh(u / (2 + u)), whose series does not cancel; u is at most 1, and the next term
    // below 2e-9 of the sum.
    let u = exp(-x.abs());
    let t = u / (2.0 + u);
    let square = t * t;
    let mut series = 1.0 / 15.0_f32;
    series = series.mul_add(square, 1.0 / 13.0);
    series = series.mul_add(square, 1.0 / 11.0);
    series = series.mul_add(square, 1.0 / 9.0);
    series = series.mul_add(square, 1.0 / 7.0);
    series = series.mul_add(square, 1.0 / 5.0);
    series = series.mul_add(square, 1.0 / 3.0);
    series = series.mul_add(square, 1.0);
    let above = if x < 0.0 { 0.0 } else { x };
    (2.0 * t).mul_add(series, above)
}

/// `x` within bounds. Not `f32::clamp`, which panics at bounds that are no numbers, nor `max` and `min`,
/// which would hide an `x` that is none.
#[inline(always)]
pub(super) fn clamp(x: f32, low: f32, high: f32) -> f32 {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

/// `x * sigmoid(x)`
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `x * sigmoid(a x)`
#[inline(always)]
pub(super) fn scaled_silu(x: f32, a: f32) -> f32 {
    x / (1.0 + exp(-a * x))
}

/// `cap * tanh(x / cap)`
#[inline(always)]
pub(super) fn soft_cap(x: f32, cap: f32) -> f32 {
    cap * tanh(x / cap)
}

/// Hyperbolic tangent; near 0, where `1 - exp` cancels, its odd series.
#[inline(always)]
pub(super) fn tanh(u: f32) -> f32 {
    let e = exp(-2.0 * u.abs());
    let far = (1.0 - e) / (1.0 + e);
    let square = u * u;
    // Coefficients of tanh's Taylor series; the next term is below 1e-7 of the sum.
    let mut series = 62.0 / 2835.0_f32;
    series = series.mul_add(square, -17.0 / 315.0);
    series = series.mul_add(square, 2.0 / 15.0);
    series = series.mul_add(square, -1.0 / 3.0);
    let near = u.abs() * series.mul_add(square, 1.0);
    let tanh = if square < 0.04 { near } else { far };
    if u < 0.0 { -tanh } else { tanh }
}

/// GELU, tanh form: `x/2 (1 + tanh u)` is `x * sigmoid(2u)`, which does not cancel.
#[inline(always)]
pub(super) fn gelu_tanh(x: f32) -> f32 {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769;
    let u = TWICE_SQRT_2_OVER_PI * (0.044_715 * x * x).mul_add(x, x);
    x / (1.0 + exp(-u))
}

/// GELU with the error function, `x/2 erfc(-x / sqrt 2)`; `1 + erf` would cancel near -4.
#[inline(always)]
pub(super) fn gelu_erf(x: f32) -> f32 {
    0.5 * x * erfc(-x * std::f32::consts::FRAC_1_SQRT_2)
}

/// Complementary error function, relative error below 2e-6 (Chebyshev fit of Numerical Recipes,
/// section 6.2, `erfcc`).
#[inline(always)]
fn erfc(x: f32) -> f32 {
    let z = x.abs();
    let t = 1.0 / 0.5f32.mul_add(z, 1.0);
    let mut p = 0.170_872_77_f32;
    p = p.mul_add(t, -0.822_152_23);
    p = p.mul_add(t, 1.488_515_9);
    p = p.mul_add(t, -1.135_204);
    p = p.mul_add(t, 0.278_868_07);
    p = p.mul_add(t, -0.186_288_06);
    p = p.mul_add(t, 0.096_784_18);
    p = p.mul_add(t, 0.374_091_96);
    p = p.mul_add(t, 1.000_023_7);
    p = p.mul_add(t, -1.265_512_2);
    let tail = t * exp((-z).mul_add(z, p));
    if x < 0.0 { 2.0 - tail } else { tail }
}

// The reductions below work in 16 lanes: that vectorises, and its rounding error is far below a
// running sum's. They take no closures: one that is not inlined would lose the instruction set of
// its caller and call the C library for every fused multiply-add.

/// Replaces each value by `exp(value - shift)` and returns their sum.
#[inline(always)]
pub(super) fn exp_sum(values: &mut [f32], shift: f32) -> f32 {
    let mut lanes = [0f32; 16];
    let mut chunks = values.chunks_exact_mut(16);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *value = exp(*value - shift);
            *lane += *value;
        }
    }
    for (lane, value) in lanes.iter_mut().zip(chunks.into_remainder()) {
        *value = exp(*value - shift);
        *lane += *value;
    }
    lanes.iter().sum()
}

/// Sum of the values.
#[inline(always)]
pub(super) fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += value;
    }
    lanes.iter().sum()
}

/// Sum of `(value - center)^2`.
#[inline(always)]
pub(super) fn sum_of_squares(values: &[f32], center: f32) -> f32 {
    let mut lanes = [0f32; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            let distance = value - center;
            *lane = distance.mul_add(distance, *lane);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
        let distance = value - center;
        *lane = distance.mul_add(distance, *lane);
    }
    lanes.iter().sum()
}

/// Largest value; -inf for an empty slice.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut chunks = values.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = if *value > *lane { *value } else { *lane };
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> impl Iterator<Item = f32> {
        (-90_000..=90_000).map(|i| i as f32 * 1e-3)
    }

    #[test]
    fn exp_matches_double_precision() {
        for x in grid().filter(|x| (-87.2..=88.7).contains(x)) {
            let truth = f64::from(x).exp();
            let error = (f64::from(exp(x)) - truth).abs() / truth;
            assert!(error < 2.5e-7, "exp({x}): {error:e}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e4), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(100.0), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn exp_below_zero_is_exp() {
        let some = [
            f32::NEG_INFINITY,
            -1e4,
            -87.3,
            -87.299_995,
            -1e-30,
            -0.0,
            0.0,
        ];
        for x in grid().filter(|x| *x <= 0.0).chain(some) {
            assert_eq!(exp_below_zero(x).to_bits(), exp(x).to_bits(), "{x}");
        }
        for bits in [0x7fc0_0000, 0xffc0_0001, 0x7fff_ffff] {
            assert!(exp_below_zero(f32::from_bits(bits)).is_nan());
        }
    }

    #[test]
    fn softplus_matches_double_precision() {
        for x in grid() {
            let truth = f64::from(x).max(0.0) + (-f64::from(x).abs()).exp().ln_1p();
            let error = (f64::from(softplus(x)) - truth).abs();
            assert!(error <= 1e-6 * truth + 1e-37, "softplus({x}): {error:e}");
        }
        assert_eq!(softplus(1e4), 1e4);
        assert_eq!(softplus(f32::NEG_INFINITY), 0.0);
        assert!(softplus(f32::NAN).is_nan());
    }

    /// erfc in double precision by its continued fraction or series, good to 1e-12.
    fn erfc_f64(x: f64) -> f64 {
        if x < 0.0 {
            return 2.0 - erfc_f64(-x);
        }
        if x < 2.5 {
            let mut term = x;
            let mut sum = x;
            for n in 1..200 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            return 1.0 - 2.0 / std::f64::consts::PI.sqrt() * sum;
        }
        let mut fraction = 0.0;
        for n in (1..200).rev() {
            fraction = f64::from(n) / 2.0 / (x + fraction);
        }
        (-x * x).exp() / std::f64::consts::PI.sqrt() / (x + fraction)
    }

    #[test]
    fn activations_match_double_precision() {
        for x in grid().filter(|x| x.abs() < 12.0) {
            let wide = f64::from(x);
            let silu_truth = wide / (1.0 + (-wide).exp());
            let u = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
            let tanh_truth = wide / (1.0 + (-2.0 * u).exp());
            let erf_truth = 0.5 * wide * erfc_f64(-wide / 2f64.sqrt());
            for (name, got, truth, bound) in [
                (
                    "soft_cap",
                    soft_cap(x, 3.0),
                    3.0 * (wide / 3.0).tanh(),
                    1e-6,
                ),
                ("scaled_silu", scaled_silu(x, 1.0), silu_truth, 1e-6),
                ("silu", silu(x), silu_truth, 1e-6),
                ("exp_m1", exp_m1(x), wide.exp_m1(), 1e-6),
                ("softplus", softplus(x), wide.exp().ln_1p(), 1e-6),
                // Far out the exponent grows to 200 or 72, and its rounding error with it.
                ("gelu_tanh", gelu_tanh(x), tanh_truth, 3e-5),
                (
                    "gelu_erf",
                    gelu_erf(x),
                    erf_truth,
                    if x > -5.0 { 3e-6 } else { 2e-5 },
                ),
            ] {
                let error = (f64::from(got) - truth).abs();
                assert!(
                    error <= bound * truth.abs() + 1e-37,
                    "{name}({x}) = {got}, not {truth}"
                );
            }
        }
    }

    #[test]
    fn reductions_cover_every_length() {
        for length in 0..70 {
            let values: Vec<f32> = (0..length).map(|i| (i as f32 * 7.0) % 11.0 - 3.0).collect();
            let total: f32 = values.iter().sum();
            assert_eq!(sum(&values), total);
            let squares: f32 = values.iter().map(|v| (v - 2.0) * (v - 2.0)).sum();
            assert_eq!(sum_of_squares(&values, 2.0), squares);
            let mut powers = values.clone();
            let expected: f32 = values.iter().map(|v| exp(v - 8.0)).sum();
            assert!((exp_sum(&mut powers, 8.0) - expected).abs() <= 1e-6 * expected);
            assert!(powers.iter().zip(&values).all(|(p, v)| *p == exp(v - 8.0)));
            assert_eq!(
                max(&values),
                values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
            );
        }
    }
}
