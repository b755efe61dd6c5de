//! How PyTorch prints a float tensor of shape [1, n]; the reference logs values that way.

/// PyTorch breaks lines at this width.
const LINE_WIDTH: usize = 80;
/// `tensor([[` and the column where later lines go on.
const INDENT: usize = 8;

/// `tensor([[520.]])`, with PyTorch's choice of integer, fixed or scientific notation.
pub fn torch_row(values: &[f64]) -> String {
    let notation = Notation::of(values);
    let texts: Vec<String> = values.iter().map(|&value| notation.format(value)).collect();
    // Zeros and non-finite values do not widen PyTorch's columns.
    let width = values
        .iter()
        .zip(&texts)
        .filter(|(value, _)| value.is_finite() && **value != 0.0)
        .map(|(_, text)| text.len())
        .max()
        .unwrap_or(1);
    let per_line = ((LINE_WIDTH - INDENT) / (width + 2)).max(1);
    let lines: Vec<String> = texts
        .chunks(per_line)
        .map(|line| {
            let cells: Vec<String> = line.iter().map(|text| format!("{text:>width$}")).collect();
            cells.join(", ")
        })
        .collect();
    let line_break = format!(",\n{}", " ".repeat(INDENT + 1));
    format!("tensor([[{}]])", lines.join(&line_break))
}

enum Notation {
    Integer,
    Fixed,
    Scientific,
}

impl Notation {
    fn of(values: &[f64]) -> Self {
        let shown = || {
            values
                .iter()
                .copied()
                .filter(|value| value.is_finite() && *value != 0.0)
        };
        let largest = shown().map(f64::abs).fold(0.0, f64::max);
        let smallest = shown().map(f64::abs).fold(f64::INFINITY, f64::min);
        let whole = shown().all(|value| value == value.ceil());
        let spread = largest / smallest > 1000.0 || largest > 1e8;
        if spread || (!whole && smallest < 1e-4) {
            Self::Scientific
        } else if whole {
            Self::Integer
        } else {
            Self::Fixed
        }
    }

    fn format(&self, value: f64) -> String {
        if value.is_nan() {
            return "nan".into();
        }
        if value.is_infinite() {
            return if value > 0.0 { "inf" } else { "-inf" }.into();
        }
        match self {
            Self::Integer => format!("{value:.0}."),
            Self::Fixed => format!("{value:.4}"),
            Self::Scientific => {
                let text = format!("{value:.4e}");
                match text.split_once('e') {
                    Some((digits, exponent)) => {
                        let (sign, exponent) = match exponent.strip_prefix('-') {
                            Some(exponent) => ('-', exponent),
                            None => ('+', exponent),
                        };
                        format!("{digits}e{sign}{exponent:0>2}")
                    }
                    None => text,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What torch prints for the same values in float32.
    #[test]
    fn rows_as_torch_prints_them() {
        for (text, values) in [
            ("tensor([[520.]])", &[520.0][..]),
            ("tensor([[-45.5000]])", &[-45.5]),
            ("tensor([[0.]])", &[0.0]),
            ("tensor([[nan]])", &[f64::NAN]),
            ("tensor([[ 520., 1520.]])", &[520.0, 1520.0]),
            ("tensor([[-45.5000,  12.0000]])", &[-45.5, 12.0]),
            ("tensor([[5.0000e-01, 2.0000e+03]])", &[0.5, 2000.0]),
            ("tensor([[1.5000e-05]])", &[1.5e-5]),
            ("tensor([[-2.0000e+09]])", &[-2e9]),
        ] {
            assert_eq!(torch_row(values), text);
        }
    }

    #[test]
    fn long_rows_break_at_80_columns() {
        let text = torch_row(&[1520.0; 11]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "tensor([[1520., 1520., 1520., 1520., 1520., 1520., 1520., 1520., 1520., 1520.,",
                "         1520.]])"
            ]
        );
    }
}
