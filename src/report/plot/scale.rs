//! Which scale the values of a figure have.

use clap::ValueEnum;

/// How values map to height or colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From zero (or the least value, if negative).
    Linear,
    /// Logarithmic; values of zero or less are drawn hollow at the bottom.
    Log,
}

/// Choices of `--scale`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ScaleChoice {
    /// Logarithmic where the values of a figure span two decades or more, else linear.
    #[default]
    Auto,
    /// Linear, as published figures are.
    Linear,
    /// Logarithmic.
    Log,
}

/// Values whose largest is this many times the least above zero span decades: on a linear axis the
/// least would lie on the frame.
const DECADES: f64 = 100.0;

impl ScaleChoice {
    /// The scale of these values. No logarithmic scale has a place for negative ones.
    pub fn of(self, values: impl IntoIterator<Item = f64>) -> Scale {
        let (mut least, mut largest, mut negative) = (f64::INFINITY, 0.0, false);
        for value in values.into_iter().filter(|value| value.is_finite()) {
            negative |= value < 0.0;
            if value > 0.0 {
                (least, largest) = (value.min(least), value.max(largest));
            }
        }
        match self {
            _ if negative => Scale::Linear,
            Self::Auto if largest >= DECADES * least => Scale::Log,
            Self::Auto | Self::Linear => Scale::Linear,
            Self::Log => Scale::Log,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithmic_where_values_span_decades() {
        let auto = |values: &[f64]| ScaleChoice::Auto.of(values.iter().copied());
        // A median beside massive activations.
        assert_eq!(auto(&[0.6, 14.0, 25_000.0]), Scale::Log);
        assert_eq!(auto(&[1.0, 99.0]), Scale::Linear);
        assert_eq!(auto(&[1.0, 100.0]), Scale::Log);
        assert_eq!(auto(&[0.0, 3.0, f64::NAN, f64::INFINITY]), Scale::Linear);
        assert_eq!(auto(&[-1.0, 0.001, 25_000.0]), Scale::Linear);
        assert_eq!(auto(&[]), Scale::Linear);
    }

    #[test]
    fn what_is_asked_for_where_it_can_be_drawn() {
        assert_eq!(ScaleChoice::Linear.of([0.1, 1e6]), Scale::Linear);
        assert_eq!(ScaleChoice::Log.of([3.0, 4.0]), Scale::Log);
        assert_eq!(ScaleChoice::Log.of([-3.0, 4.0]), Scale::Linear);
    }
}
