//! A line the size of a word.

use maud::{Markup, html};

const WIDTH: f64 = 88.0;
const HEIGHT: f64 = 24.0;
const ROOM: f64 = 3.0;

/// The values over their index on a logarithmic scale, their largest as a dot.
pub(super) fn sparkline(values: &[f64]) -> Markup {
    let logs: Vec<Option<f64>> = values
        .iter()
        .map(|value| (*value > 0.0 && value.is_finite()).then(|| value.log10()))
        .collect();
    let shown = || logs.iter().flatten().copied();
    let low = shown().fold(f64::INFINITY, f64::min);
    let high = shown().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return html! {};
    }
    let across = (WIDTH - 2.0 * ROOM) / (values.len() - 1).max(1) as f64;
    // Nearly even values stay a nearly even line.
    let decades = (high - low).max(0.1);
    let place = |index: usize, log: f64| {
        let x = ROOM + index as f64 * across;
        let y = HEIGHT - ROOM - (log - low) / decades * (HEIGHT - 2.0 * ROOM);
        (x, y)
    };
    let mut path = String::new();
    let mut pen = 'M';
    for (index, log) in logs.iter().enumerate() {
        let Some(log) = log else {
            pen = 'M';
            continue;
        };
        let (x, y) = place(index, *log);
        path.push_str(&format!("{pen}{x:.1} {y:.1}"));
        pen = 'L';
    }
    let numbered = logs.iter().enumerate();
    let top = numbered
        .filter_map(|(index, log)| Some((index, (*log)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    html! {
        svg.spark width=(WIDTH) height=(HEIGHT) viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } aria-hidden="true" {
            path d=(path) {}
            @if let Some((x, y)) = top.map(|(index, log)| place(index, log)) {
                circle cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="2.2" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_what_a_logarithm_has() {
        let text = sparkline(&[1.0, 0.0, 10.0, 100.0]).into_string();
        // A gap at zero; the largest value at the upper right.
        assert!(
            text.contains("d=\"M3.0 21.0M57.7 12.0L85.0 3.0\""),
            "{text}"
        );
        assert!(text.contains("cx=\"85.0\" cy=\"3.0\""), "{text}");
        assert_eq!(sparkline(&[]).into_string(), "");
        assert_eq!(sparkline(&[0.0, f64::NAN]).into_string(), "");
        assert!(sparkline(&[5.0]).into_string().contains("M3.0 21.0"));
    }
}
