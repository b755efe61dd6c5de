//! A small SVG writer: shapes in, text out, everything escaped.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::font::FAMILY;
use super::palette::INK;
use crate::report::visible::visible;

/// Where text lies relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// One line of text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) content: &'a str,
    pub(super) x: f64,
    /// Baseline.
    pub(super) y: f64,
    pub(super) size: f64,
    pub(super) anchor: Anchor,
    pub(super) bold: bool,
    pub(super) fill: &'a str,
    /// Reads upwards instead of to the right.
    pub(super) upwards: bool,
    /// Turned by so many degrees, clockwise.
    pub(super) angle: f64,
}

impl<'a> Text<'a> {
    pub(super) fn new(content: &'a str, x: f64, y: f64, size: f64) -> Self {
        Self {
            content,
            x,
            y,
            size,
            anchor: Anchor::Start,
            bold: false,
            fill: INK,
            upwards: false,
            angle: 0.0,
        }
    }
}

/// An SVG document on a white ground, so that it reads the same on a dark page.
#[derive(Debug)]
pub(super) struct Svg {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

impl Svg {
    /// `title` is for screen readers.
    pub(super) fn new(width: f64, height: f64, title: &str) -> Self {
        let mut svg = Self {
            width,
            height,
            title: escape(title),
            body: String::new(),
        };
        svg.rect(0.0, 0.0, width, height, "#ffffff");
        svg
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        self.push(format_args!(
            r#"<rect x="{}" y="{}" width="{}" height="{}" fill="{fill}"/>"#,
            num(x),
            num(y),
            num(width),
            num(height)
        ));
    }

    pub(super) fn frame(&mut self, x: f64, y: f64, width: f64, height: f64, stroke: &str) {
        self.push(format_args!(
            r#"<rect x="{}" y="{}" width="{}" height="{}" fill="none" stroke="{stroke}"/>"#,
            num(x),
            num(y),
            num(width),
            num(height)
        ));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str, width: f64) {
        self.push(format_args!(
            r#"<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{stroke}" stroke-width="{}"/>"#,
            num(from.0),
            num(from.1),
            num(to.0),
            num(to.1),
            num(width)
        ));
    }

    pub(super) fn polyline(&mut self, points: &[(f64, f64)], stroke: &str, width: f64) {
        let points = join_points(points);
        self.push(format_args!(
            r#"<polyline points="{points}" fill="none" stroke="{stroke}" stroke-width="{}" stroke-linejoin="round" stroke-linecap="round"/>"#,
            num(width)
        ));
    }

    pub(super) fn polygon(&mut self, points: &[(f64, f64)], fill: &str, stroke: &str) {
        let points = join_points(points);
        self.push(format_args!(
            r#"<polygon points="{points}" fill="{fill}" stroke="{stroke}" stroke-width="1.2"/>"#
        ));
    }

    /// A polygon without an outline.
    pub(super) fn area(&mut self, points: &[(f64, f64)], fill: &str, opacity: f64) {
        let points = join_points(points);
        let opacity = match num(opacity).as_str() {
            "1" => String::new(),
            share => format!(r#" fill-opacity="{share}""#),
        };
        self.push(format_args!(
            r#"<polygon points="{points}" fill="{fill}"{opacity}/>"#
        ));
    }

    pub(super) fn circle(&mut self, x: f64, y: f64, radius: f64, fill: &str, stroke: &str) {
        self.push(format_args!(
            r#"<circle cx="{}" cy="{}" r="{}" fill="{fill}" stroke="{stroke}" stroke-width="1.2"/>"#,
            num(x),
            num(y),
            num(radius)
        ));
    }

    pub(super) fn text(&mut self, text: Text<'_>) {
        let anchor = match text.anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let weight = if text.bold {
            r#" font-weight="700""#
        } else {
            ""
        };
        let fill = if text.fill == INK {
            String::new()
        } else {
            format!(r#" fill="{}""#, text.fill)
        };
        let (x, y) = (num(text.x), num(text.y));
        let angle = if text.upwards { -90.0 } else { text.angle };
        let place = if angle != 0.0 {
            format!(r#"transform="translate({x} {y}) rotate({})""#, num(angle))
        } else {
            format!(r#"x="{x}" y="{y}""#)
        };
        self.push(format_args!(
            r#"<text {place} font-size="{}"{anchor}{weight}{fill}>{}</text>"#,
            num(text.size),
            escape(text.content)
        ));
    }

    /// A PNG stretched over a rectangle, its pixels kept as sharp squares.
    pub(super) fn pixels(&mut self, x: f64, y: f64, width: f64, height: f64, png: &[u8]) {
        self.push(format_args!(
            r#"<image x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none" style="image-rendering:pixelated" href="data:image/png;base64,{}"/>"#,
            num(x),
            num(y),
            num(width),
            num(height),
            STANDARD.encode(png)
        ));
    }

    /// Documents one below the other, below a heading of height `top` that the caller draws.
    pub(super) fn column(title: &str, top: f64, parts: &[Self]) -> Self {
        let width = parts.iter().map(|part| part.width).fold(0.0, f64::max);
        let height: f64 = parts.iter().map(|part| part.height).sum();
        let mut svg = Self::new(width, top + height, title);
        let mut y = top;
        for part in parts {
            let (width, height) = (num(part.width), num(part.height));
            svg.push(format_args!(
                r#"<svg y="{}" width="{width}" height="{height}" viewBox="0 0 {width} {height}">"#,
                num(y)
            ));
            svg.body.push_str(&part.body);
            svg.push(format_args!("</svg>"));
            y += part.height;
        }
        svg
    }

    pub(super) fn finish(self) -> String {
        let (width, height) = (num(self.width), num(self.height));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" \
             font-family=\"'{FAMILY}', Verdana, sans-serif\" fill=\"{INK}\">\n\
             <title>{}</title>\n{}</svg>\n",
            self.title, self.body
        )
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.body, "{element}");
    }
}

/// Two decimals are finer than a pixel at any size the figures are shown at.
fn num(value: f64) -> String {
    let text = format!("{value:.2}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" {
        "0".into()
    } else {
        short.into()
    }
}

fn join_points(points: &[(f64, f64)]) -> String {
    let mut joined = String::with_capacity(points.len() * 12);
    for (x, y) in points {
        let _ = write!(joined, "{},{} ", num(*x), num(*y));
    }
    joined.truncate(joined.trim_end().len());
    joined
}

/// Text as XML; characters that XML does not allow are made visible first.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(num(1.0), "1");
        assert_eq!(num(-0.001), "0");
        assert_eq!(num(10.126), "10.13");
        assert_eq!(num(100.0), "100");
    }

    #[test]
    fn escapes_markup_and_control_characters() {
        assert_eq!(escape("<s> & \"'\0"), "&lt;s&gt; &amp; &quot;&#39;\\x00");
    }
}
