//! Axis ranges, tick positions and their labels.

/// A value's label and where it goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

/// A range with ticks inside it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<Tick>,
}

/// An axis from a tick at or below `low` to one at or above `high`.
pub(super) fn linear(low: f64, high: f64, about: usize) -> Axis {
    let (low, high) = widen(low, high);
    let step = nice_step((high - low) / about.max(1) as f64);
    axis_of_steps((low / step).floor(), (high / step).ceil(), step)
}

/// Ticks inside `low..=high`, for ranges that must not grow.
pub(super) fn linear_inside(low: f64, high: f64, about: usize) -> Axis {
    let (low, high) = widen(low, high);
    let step = nice_step((high - low) / about.max(1) as f64);
    let inside = axis_of_steps((low / step).ceil(), (high / step).floor(), step);
    Axis {
        low,
        high,
        ..inside
    }
}

/// Whole numbers inside `low..=high`.
pub(super) fn integers(low: f64, high: f64, about: usize) -> Vec<Tick> {
    let step = nice_step((high - low) / about.max(1) as f64).max(1.0);
    axis_of_steps((low / step).ceil(), (high / step).floor(), step).ticks
}

/// Decades around positive values, or steps 1-2-5 where there are few decades.
pub(super) fn log(low: f64, high: f64) -> Axis {
    let (mut first, mut last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    if first == last {
        first -= 1;
        last += 1;
    }
    let every = ((last - first) as usize).div_ceil(8).max(1);
    let mantissas: &[f64] = if last - first <= 2 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    // One form for all labels of an axis: powers of ten, or plain numbers where steps lie between.
    let plain = mantissas.len() > 1 && first >= -3 && last <= 5;
    let ticks = (first..=last).step_by(every).flat_map(|decade| {
        let inside = mantissas
            .iter()
            .filter(move |m| **m == 1.0 || decade < last);
        inside.map(move |mantissa| {
            let value = mantissa * power(decade);
            let label = match *mantissa {
                _ if plain => format_steps(value, power(decade.min(0)), false),
                1.0 => decade_label(decade),
                mantissa => format!("{mantissa}×{}", decade_label(decade)),
            };
            Tick { value, label }
        })
    });
    let ticks = ticks.collect();
    Axis {
        low: power(first),
        high: power(last),
        ticks,
    }
}

/// A range of equal or missing values gets some room, so that it can be divided.
fn widen(low: f64, high: f64) -> (f64, f64) {
    let room = f64::MIN_POSITIVE.max(low.abs().max(high.abs()) * 1e-9);
    if high - low > room {
        return (low, high);
    }
    match low {
        0.0 => (0.0, 1.0),
        low if low > 0.0 => (low * 0.9, low * 1.1),
        low => (low * 1.1, low * 0.9),
    }
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn nice_step(rough: f64) -> f64 {
    if !(rough > 0.0 && rough.is_finite()) {
        return 1.0;
    }
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * unit)
        .find(|&step| step >= rough * (1.0 - 1e-9));
    step.unwrap_or(10.0 * unit)
}

fn axis_of_steps(first: f64, last: f64, step: f64) -> Axis {
    // Steps come from a nice division of the range, so there are few of them.
    let count = ((last - first).max(0.0) as usize).min(1000);
    let ticks = if last < first { 0 } else { count + 1 };
    let scientific = first.abs().max(last.abs()) * step >= 1e6 || step < 1e-4;
    Axis {
        low: first * step,
        high: last * step,
        ticks: (0..ticks)
            .map(|i| {
                let value = (first + i as f64) * step;
                Tick {
                    value,
                    label: format_steps(value, step, scientific),
                }
            })
            .collect(),
    }
}

/// `value`, a multiple of `step`, with the decimals that `step` needs: all labels of an axis have the
/// same.
fn format_steps(value: f64, step: f64, scientific: bool) -> String {
    let zero = value.abs() < step * 1e-6;
    // The minus sign of the font is as wide as its plus.
    let signed = |text: String| text.replace('-', "−");
    if scientific {
        let text = format!("{value:.3e}");
        if let (false, Some((mantissa, exponent))) = (zero, text.split_once('e')) {
            let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
            return signed(format!("{mantissa}×10{}", superscript(exponent)));
        }
        return "0".into();
    }
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let value = if zero { 0.0 } else { value };
    signed(format!("{value:.decimals$}"))
}

fn decade_label(decade: i32) -> String {
    format!("10{}", superscript(&decade.to_string()))
}

fn superscript(number: &str) -> String {
    number
        .chars()
        .map(|c| match c {
            '-' => '⁻',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            c => c
                .to_digit(10)
                .and_then(|digit| char::from_u32(0x2070 + digit))
                .unwrap_or(c),
        })
        .collect()
}

fn power(decade: i32) -> f64 {
    10f64.powi(decade)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn linear_axes_end_on_ticks() {
        let axis = linear(0.0, 2576.0, 6);
        assert_eq!(
            labels(&axis.ticks),
            ["0", "500", "1000", "1500", "2000", "2500", "3000"]
        );
        assert_eq!((axis.low, axis.high), (0.0, 3000.0));
        assert_eq!(
            labels(&linear(0.0, 0.3, 3).ticks),
            ["0.0", "0.1", "0.2", "0.3"]
        );
        assert_eq!(labels(&linear(-1.0, 1.0, 2).ticks), ["−1", "0", "1"]);
        assert_eq!(labels(&linear(0.0, 0.0, 2).ticks), ["0.0", "0.5", "1.0"]);
        assert_eq!(labels(&linear(0.0, 2e6, 2).ticks), ["0", "1×10⁶", "2×10⁶"]);
    }

    #[test]
    fn integer_ticks() {
        assert_eq!(labels(&integers(0.0, 3.0, 10)), ["0", "1", "2", "3"]);
        assert_eq!(
            labels(&integers(1.0, 80.0, 9)),
            ["10", "20", "30", "40", "50", "60", "70", "80"]
        );
        assert_eq!(labels(&integers(5.0, 5.0, 9)), ["5"]);
    }

    #[test]
    fn log_axes() {
        assert_eq!(
            labels(&log(0.02, 3e4).ticks),
            ["10⁻²", "10⁻¹", "10⁰", "10¹", "10²", "10³", "10⁴", "10⁵"]
        );
        assert_eq!(
            labels(&log(10.0, 10.0).ticks),
            ["1", "2", "5", "10", "20", "50", "100"]
        );
        assert_eq!(
            labels(&log(0.02, 0.5).ticks),
            ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]
        );
        assert_eq!(
            labels(&log(2e7, 3e7).ticks),
            ["10⁷", "2×10⁷", "5×10⁷", "10⁸"]
        );
    }

    /// A label in another form than its neighbours reads as another quantity.
    #[test]
    fn labels_of_an_axis_have_one_form() {
        for axis in [
            linear(0.0, 1.5e6, 4),
            linear(4e5, 2e6, 6),
            linear(0.0, 4e-5, 4),
        ] {
            let shown = labels(&axis.ticks);
            let plain = shown
                .iter()
                .filter(|label| !label.contains('×') && **label != "0");
            assert_eq!(plain.count(), 0, "{shown:?}");
        }
        for axis in [
            linear(-0.5, 1.0, 5),
            linear(0.0, 2.5, 5),
            linear(0.0, 0.07, 4),
        ] {
            let shown = labels(&axis.ticks);
            let decimals = |label: &&str| label.split_once('.').map_or(0, |parts| parts.1.len());
            assert!(
                shown.iter().all(|l| decimals(l) == decimals(&shown[0])),
                "{shown:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn axes_cover_their_data(a in -1e9f64..1e9, b in -1e9f64..1e9, about in 1usize..20) {
            let (low, high) = (a.min(b), a.max(b));
            let axis = linear(low, high, about);
            let slack = (axis.high - axis.low) * 1e-6;
            prop_assert!(axis.low <= low + slack && axis.high >= high - slack);
            prop_assert!(axis.ticks.len() >= 2 && axis.ticks.len() <= about * 2 + 4);
        }

        #[test]
        fn log_axes_cover_their_data(a in -30f64..30.0, b in -30f64..30.0) {
            let (low, high) = (10f64.powf(a.min(b)), 10f64.powf(a.max(b)));
            let axis = log(low, high);
            prop_assert!(axis.low <= low * 1.000001 && axis.high >= high * 0.999999);
            prop_assert!(axis.ticks.len() >= 2 && axis.ticks.len() <= 10);
        }
    }
}
