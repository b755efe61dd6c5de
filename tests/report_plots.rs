//! Figures end to end: every chart becomes valid SVG and a picture, whatever the data.
//!
//! With `MASSACT_PLOT_DIR=folder` the pictures are kept there for looking at.

use std::collections::BTreeSet;

use massact::report::plot::{
    Heatmap, HeatmapGrid, Highlight, LineChart, Marker, RidgeGrid, RidgePlot, RidgeShape, Scale,
    Series, palette, svg_to_png,
};

fn keep(name: &str, svg: &str, scale: f64) -> image::RgbImage {
    let png = svg_to_png(svg, scale).unwrap();
    if let Some(folder) = std::env::var_os("MASSACT_PLOT_DIR") {
        let folder = std::path::Path::new(&folder);
        std::fs::write(folder.join(format!("{name}.svg")), svg).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), &png).unwrap();
    }
    image::load_from_memory(&png).unwrap().to_rgb8()
}

fn magnitudes(title: &str, top: &[f64], median: &[f64], y_scale: Scale) -> LineChart {
    let points = |values: &[f64]| {
        values
            .iter()
            .enumerate()
            .map(|(layer, &value)| (layer as f64, value))
            .collect()
    };
    LineChart {
        title: title.into(),
        x_label: "Layer Number".into(),
        y_label: "Activation Magnitude".into(),
        series: vec![
            Series {
                label: "top-1 hidden states".into(),
                color: palette::BLUE,
                marker: Marker::Circle,
                points: points(top),
            },
            Series {
                label: "median hidden states".into(),
                color: palette::GRAY,
                marker: Marker::Square,
                points: points(median),
            },
        ],
        y_scale,
        highlight: Some(Highlight {
            label: "massive".into(),
            xs: (0..top.len())
                .filter(|&i| top[i] > 100.0 && top[i] > 1000.0 * median[i])
                .map(|i| i as f64)
                .collect(),
        }),
    }
}

/// A model with massive activations in all but the first and last layers.
fn typical(layers: usize) -> (Vec<f64>, Vec<f64>) {
    let top = (0..layers)
        .map(|l| match l {
            0 => 12.0,
            l if l + 1 == layers => 350.0,
            l => 2400.0 + 20.0 * (l as f64).sin(),
        })
        .collect();
    let median = (0..layers)
        .map(|l| 0.02 + 0.9 * l as f64 / layers as f64)
        .collect();
    (top, median)
}

fn count(picture: &image::RgbImage, colour: [u8; 3]) -> usize {
    picture.pixels().filter(|pixel| pixel.0 == colour).count()
}

const BLUE: [u8; 3] = [0x00, 0x72, 0xb2];
const GRAY: [u8; 3] = [0x6e, 0x6e, 0x6e];
const MASSIVE: [u8; 3] = [0xfd, 0xf1, 0xd6];

#[test]
fn line_charts_of_all_sizes() {
    for (layers, scale, name) in [
        (4, Scale::Linear, "line_4"),
        (32, Scale::Linear, "line_32"),
        (80, Scale::Log, "line_80_log"),
        (32, Scale::Log, "line_32_log"),
    ] {
        let (top, median) = typical(layers);
        let picture = keep(
            name,
            &magnitudes("Llama-2-7b-hf", &top, &median, scale).to_svg(),
            2.0,
        );
        assert_eq!(picture.dimensions(), (1040, 720));
        assert!(count(&picture, BLUE) > 1000, "{name}");
        assert!(count(&picture, GRAY) > 1000, "{name}");
        assert!(count(&picture, MASSIVE) > 10_000, "{name}");
    }
}

#[test]
fn line_charts_of_odd_data() {
    let charts = [
        ("line_one_layer", vec![130.0], vec![0.1], Scale::Linear),
        ("line_zeros", vec![0.0; 5], vec![0.0; 5], Scale::Linear),
        (
            "line_zeros_log",
            vec![0.0, 1e5, 3.0, 0.0, 2.0],
            vec![0.0, 1e-2, 0.5, 1e-3, 1.0],
            Scale::Log,
        ),
        ("line_equal", vec![7.0; 12], vec![7.0; 12], Scale::Linear),
        ("line_equal_log", vec![7.0; 12], vec![7.0; 12], Scale::Log),
        (
            "line_gaps",
            vec![1.0, f64::NAN, 3.0, f64::INFINITY, 2.0, 2.5],
            vec![0.5; 6],
            Scale::Linear,
        ),
        (
            "line_large",
            vec![1e30, 2e30, 3e38],
            vec![1e7; 3],
            Scale::Linear,
        ),
        (
            "line_tiny",
            vec![1e-7, 2e-7, 3e-7],
            vec![1e-9; 3],
            Scale::Linear,
        ),
        ("line_empty", vec![], vec![], Scale::Linear),
        ("line_empty_log", vec![], vec![], Scale::Log),
    ];
    for (name, top, median, scale) in charts {
        let title = "org/<model> & \"name\" 模型 🙂 \u{1} with a very long title that does not fit on one line of the chart at all";
        let svg = magnitudes(title, &top, &median, scale).to_svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}");
        keep(name, &svg, 1.0);
    }
}

fn attention(layers: usize, tokens: &[String], extra_key: bool) -> HeatmapGrid {
    let queries = tokens.len();
    let keys = queries + usize::from(extra_key);
    let shift = usize::from(extra_key);
    let maps = (0..layers)
        .map(|layer| {
            let mut values = vec![f32::NAN; queries * keys];
            for query in 0..queries {
                for key in 0..=query + shift {
                    let distance = (query + shift - key) as f32;
                    let sink = if key == 0 { layer as f32 } else { 0.0 };
                    values[query * keys + key] = sink - 0.1 * distance + (key as f32 * 1.7).sin();
                }
            }
            Heatmap::new(format!("Layer {layer}"), &values, queries, keys)
        })
        .collect();
    let mut column_labels = tokens.to_vec();
    if extra_key {
        column_labels.insert(0, "extra_kv".into());
    }
    HeatmapGrid {
        title: "Self-attention of Llama-2-7b-hf".into(),
        note: "attention logits, mean over heads; queries down, keys across; red: tokens with massive activations".into(),
        maps,
        row_labels: tokens.to_vec(),
        column_labels,
        emphasised: BTreeSet::from([0, 11, 500]),
        bright: BTreeSet::new(),
        bar_label: "mean logit".into(),
        shared: false,
    }
}

fn words(count: usize) -> Vec<String> {
    let text = "<s> ␣Summer ␣is ␣warm . ␣Winter ␣is ␣cold . ⏎ ⏎ ␣A ␣6 - sided ␣die ␣is ␣rolled ␣15 ␣times \
                and ␣the ␣results ␣are : ␣extraordinarily_long_token ␣模型 & < \" ␣side ␣1 ␣comes ␣up";
    text.split_whitespace()
        .cycle()
        .take(count)
        .map(String::from)
        .collect()
}

#[test]
fn attention_of_a_large_model() {
    let svg = attention(32, &words(40), false).to_svg().unwrap();
    assert_eq!(
        svg.matches("font-weight=\"700\" fill=\"#c00000\"").count(),
        2 * 32
    );
    let picture = keep("attention_32x40", &svg, 1.5);
    // The upper triangle stays white: the dark end of the scale would be far from it.
    let white = count(&picture, [255, 255, 255]);
    let all = f64::from(picture.width() * picture.height());
    assert!(white as f64 > 0.3 * all);
    // Greenish to blue colours come from the maps alone.
    let coloured = picture
        .pixels()
        .filter(|p| p.0[1].max(p.0[2]) > p.0[0].saturating_add(40));
    assert!(coloured.count() as f64 > 0.1 * all);
}

#[test]
fn attention_of_odd_shapes() {
    keep(
        "attention_2x5",
        &attention(2, &words(5), false).to_svg().unwrap(),
        2.0,
    );
    keep(
        "attention_extra",
        &attention(5, &words(12), true).to_svg().unwrap(),
        1.5,
    );
    keep(
        "attention_1",
        &attention(1, &words(1), false).to_svg().unwrap(),
        1.0,
    );
    keep(
        "attention_none",
        &attention(0, &words(0), false).to_svg().unwrap(),
        1.0,
    );
    let thin = attention(4, &words(100), false).to_svg().unwrap();
    assert!(thin.contains("some token labels are left out"));
    keep("attention_100", &thin, 1.0);
    let binned = attention(3, &words(700), false).to_svg().unwrap();
    assert!(binned.contains("each cell shows the largest of 3 x 3 values"));
    keep("attention_700", &binned, 1.0);
    let mut blank = attention(2, &words(6), false);
    blank.maps = vec![
        Heatmap::new("nothing".into(), &[f32::NAN; 36], 6, 6),
        Heatmap::new("one value".into(), &[0.25; 36], 6, 6),
        Heatmap::new("short".into(), &[1.0, 2.0], 6, 6),
    ];
    let svg = blank.to_svg().unwrap();
    assert!(svg.contains("no values"));
    keep("attention_blank", &svg, 1.0);
}

/// One text of a picture: what it says, its box turned so that it is level, and the angle.
struct Label {
    content: String,
    angle: i32,
    left: f64,
    right: f64,
    baseline: f64,
    size: f64,
}

/// Every text of an SVG document that this crate wrote.
fn labels(svg: &str) -> Vec<Label> {
    let value = |line: &str, name: &str| -> Option<f64> {
        let rest = line.split_once(&format!(" {name}=\""))?.1;
        rest.split_once('"')?.0.parse().ok()
    };
    let mut shift = 0.0;
    let mut found = Vec::new();
    for line in svg.lines() {
        if line.starts_with("<svg y=") {
            shift = value(line, "y").expect("a number");
        } else if line.starts_with("</svg>") {
            shift = 0.0;
        }
        let Some(rest) = line.strip_prefix("<text") else {
            continue;
        };
        let content = rest.split_once('>').expect("a tag").1;
        let mut content = content.trim_end_matches("</text>").to_owned();
        for (entity, character) in [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&quot;", "\""),
            ("&amp;", "&"),
        ] {
            content = content.replace(entity, character);
        }
        let size = value(line, "font-size").expect("a size");
        let ((x, y), angle) = match line.split_once("translate(") {
            None => ((value(line, "x"), value(line, "y")), 0),
            Some((_, rest)) => {
                let (place, rest) = rest.split_once(')').expect("closed");
                let (x, y) = place.split_once(' ').expect("two numbers");
                let angle = rest.split_once("rotate(").and_then(|r| r.1.split_once(')'));
                let angle = angle.expect("an angle").0.parse().expect("whole degrees");
                ((x.parse().ok(), y.parse().ok()), angle)
            }
        };
        let (x, y) = (x.expect("a number"), y.expect("a number") + shift);
        let (sin, cos) = f64::from(angle).to_radians().sin_cos();
        let (along, baseline) = (x * cos + y * sin, y * cos - x * sin);
        // No letter of the font is wider than an em; most are near half of one.
        let width = content.chars().count() as f64 * size * 0.6;
        let left = along
            - match () {
                () if line.contains("\"middle\"") => width / 2.0,
                () if line.contains("\"end\"") => width,
                () => 0.0,
            };
        found.push(Label {
            content,
            angle,
            left,
            right: left + width,
            baseline,
            size,
        });
    }
    found
}

/// Texts that read in the same direction do not touch.
fn nothing_overlaps(name: &str, svg: &str) {
    let labels = labels(svg);
    assert!(labels.len() > 5, "{name}");
    for (index, a) in labels.iter().enumerate() {
        for b in labels[index + 1..].iter().filter(|b| b.angle == a.angle) {
            // Capitals and digits are three quarters of the size high.
            let apart = (a.baseline - b.baseline).abs() >= 0.72 * a.size.max(b.size);
            let beside = a.right <= b.left || b.right <= a.left;
            assert!(apart || beside, "{name}: {} and {}", a.content, b.content);
        }
    }
}

/// Hidden states with massive activations in all but the first and the last layers.
fn features(layers: usize, tokens: usize, width: usize) -> RidgeGrid {
    let shape = RidgeShape::new(layers, tokens, width);
    let massive = [width / 3, width / 3 + 1, width - 2];
    let plots = (0..layers)
        .map(|layer| {
            let mut values: Vec<f32> = (0..tokens * width)
                .map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5) * 3.0)
                .collect();
            let is_massive = layer > 0 && layer + 1 < layers;
            if is_massive {
                for (rank, dimension) in massive.into_iter().enumerate() {
                    values[dimension] = 2400.0 / (rank + 1) as f32;
                    values[(tokens - 2) * width + dimension] = -900.0;
                }
            }
            let plot = RidgePlot::new(format!("Layer {layer}"), shape, &values);
            if is_massive {
                plot.marked(massive.to_vec(), BTreeSet::from([0, tokens - 2]))
            } else {
                plot
            }
        })
        .collect();
    RidgeGrid {
        title: "Output features of Llama-2-7b-hf".into(),
        note: "|hidden state|; tokens to the right, dimensions to the back".into(),
        shape,
        plots,
        row_labels: words(tokens),
        shared: false,
    }
}

#[test]
fn output_features() {
    for (layers, tokens, width, name) in [
        (32, 40, 4096, "features_32x40"),
        (12, 9, 768, "features_12x9"),
        (2, 300, 96, "features_300"),
    ] {
        let svg = features(layers, tokens, width).to_svg();
        nothing_overlaps(name, &svg);
        assert!(svg.len() < 6_000_000, "{name}: {}", svg.len());
        let red = svg.matches("font-weight=\"700\" fill=\"#c00000\"").count();
        assert_eq!(red, 2 * (layers - 2), "{name}");
        let picture = keep(name, &svg, 1.0);
        assert!(count(&picture, BLUE) > 100, "{name}");
    }
    let svg = features(2, 300, 96).to_svg();
    assert!(svg.contains("a line: the largest of 5 tokens"));
    let svg = features(32, 40, 4096).to_svg();
    assert!(svg.contains("a point: the largest of 33 dimensions"));
}

#[test]
fn output_features_of_odd_shapes() {
    for (layers, tokens, width) in [(0, 1, 4), (1, 1, 1), (1, 3, 2)] {
        let mut grid = features(0, tokens.max(2), 4);
        grid.shape = RidgeShape::new(layers, tokens, width);
        grid.row_labels.truncate(tokens);
        let values = vec![f32::NAN; tokens * width];
        grid.plots = (0..layers)
            .map(|layer| RidgePlot::new(format!("Layer {layer}"), grid.shape, &values))
            .collect();
        let svg = grid.to_svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        keep("features_odd", &svg, 1.0);
    }
}

#[test]
fn labels_do_not_overlap() {
    for (layers, tokens, extra) in [
        (32, 40, false),
        (32, 64, false),
        (8, 300, true),
        (2, 4, true),
    ] {
        let name = format!("attention of {layers} layers, {tokens} tokens");
        let svg = attention(layers, &words(tokens), extra).to_svg().unwrap();
        nothing_overlaps(&name, &svg);
    }
    let (top, median) = typical(80);
    let chart = magnitudes("", &top, &median, Scale::Log);
    let svg = LineChart::column("Two panels", &[chart.clone(), chart]);
    nothing_overlaps("column", &svg);
    assert_eq!(keep("column", &svg, 1.0).dimensions().0, 520);
}
