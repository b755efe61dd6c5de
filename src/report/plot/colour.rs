//! The colour scale of heat maps: viridis, even to the eye and safe for the colour-blind.

/// Viridis (CC0) at 17 even steps.
const VIRIDIS: [[u8; 3]; 17] = [
    [68, 1, 84],
    [72, 24, 106],
    [71, 45, 123],
    [66, 64, 134],
    [59, 82, 139],
    [51, 99, 141],
    [44, 114, 142],
    [38, 130, 142],
    [33, 145, 140],
    [31, 160, 136],
    [40, 174, 128],
    [63, 188, 115],
    [94, 201, 98],
    [132, 212, 75],
    [173, 220, 48],
    [216, 226, 25],
    [253, 231, 37],
];

/// The colour at `fraction` of the scale; values outside 0..=1 take the colour of the end.
pub(super) fn viridis(fraction: f64) -> [u8; 3] {
    let steps = VIRIDIS.len() - 1;
    let at = fraction.clamp(0.0, 1.0) * steps as f64;
    // NaN casts to 0.
    let low = (at as usize).min(steps - 1);
    let part = at - low as f64;
    std::array::from_fn(|channel| {
        let (from, to) = (VIRIDIS[low][channel], VIRIDIS[low + 1][channel]);
        (f64::from(from) + part * (f64::from(to) - f64::from(from))).round() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_middle() {
        assert_eq!(viridis(0.0), VIRIDIS[0]);
        assert_eq!(viridis(1.0), VIRIDIS[16]);
        assert_eq!(viridis(0.5), VIRIDIS[8]);
        assert_eq!(viridis(9.0), VIRIDIS[16]);
        assert_eq!(viridis(1.0 / 32.0), [70, 13, 95]);
    }
}
