//! The frame of every page: head, look, scripts and data, all in the one file.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::report::visible::visible;

const STYLE: &str = include_str!("../../../assets/page/page.css");
const LIBRARY: &str = include_str!("../../../assets/page/plot.js");
const HEAD: &str = include_str!("../../../assets/page/head.js");

/// The scripts behind the content; each is a function of its own, so that they are one element.
const SCRIPTS: &str = concat!(
    include_str!("../../../assets/page/dom.js"),
    include_str!("../../../assets/page/lines.js"),
    include_str!("../../../assets/page/intervals.js"),
    include_str!("../../../assets/page/grid.js"),
    include_str!("../../../assets/page/stacks.js"),
    include_str!("../../../assets/page/maps.js"),
    include_str!("../../../assets/page/tables.js"),
    include_str!("../../../assets/page/sweep.js"),
    include_str!("../../../assets/page/page.js"),
);

/// What the browser may do with the page: run these three scripts, whatever else a text may have smuggled
/// in, and fetch nothing.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hashes = [HEAD, LIBRARY, SCRIPTS].map(|script| {
        let hash = digest(&SHA256, script.as_bytes());
        format!("'sha256-{}'", BASE64_STANDARD.encode(hash))
    });
    format!(
        "default-src 'none'; script-src {}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'",
        hashes.join(" ")
    )
});

/// A whole page; `data` is for the scripts, none where there is nothing to draw.
pub(super) fn document(title: &str, content: &Markup, data: Option<&Value>) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(*POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (visible(title)) }
                style { (PreEscaped(STYLE)) }
                script { (PreEscaped(HEAD)) }
            }
            body {
                main {
                    (content)
                    footer { "massact " (env!("CARGO_PKG_VERSION")) }
                }
                @if let Some(data) = data {
                    script type="application/json" id="data" { (PreEscaped(island(data))) }
                    script { (PreEscaped(LIBRARY)) }
                }
                script { (PreEscaped(SCRIPTS)) }
            }
        }
    }
    .into_string()
}

/// JSON inside an element: a token may be `</script>`.
fn island(data: &Value) -> String {
    data.to_string().replace('<', "\\u003c")
}

/// Title, what was run, and the answer.
pub(super) fn opening(kicker: &str, title: &str, verdict: &str, highlight: bool) -> Markup {
    html! {
        header {
            div {
                @if !kicker.is_empty() { p.kicker { (visible(kicker)) } }
                h1 { (visible(title)) }
            }
            button #theme type="button" hidden {}
        }
        @if !verdict.is_empty() {
            p.verdict.highlight[highlight] { (visible(verdict)) }
        }
    }
}

/// Name and value pairs, and the command line, if known.
pub(super) fn facts(facts: &[(String, String)], command_line: &str) -> Markup {
    /// Values longer than this take a line of their own.
    const WIDE: usize = 60;
    html! {
        dl {
            @for (name, value) in facts {
                div.wide[value.chars().count() > WIDE] { dt { (visible(name)) } dd { (visible(value)) } }
            }
            @if !command_line.is_empty() {
                div.wide { dt { "Command line" } dd { code { (visible(command_line)) } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_cannot_end_its_element() {
        let data = json!({ "token": "</script><script>alert(1)</script><!--" });
        let text = island(&data);
        assert!(!text.contains('<'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), data);
    }

    #[test]
    fn scripts_end_where_their_elements_do() {
        for script in [HEAD, LIBRARY, SCRIPTS] {
            let text = script.to_lowercase();
            assert!(!text.contains("</script") && !text.contains("<!--"));
        }
        assert!(
            !STYLE.contains("</style") && !STYLE.contains("url(") && !STYLE.contains("@import")
        );
    }

    #[test]
    fn own_scripts_make_no_markup_and_no_request() {
        let own = [HEAD, SCRIPTS].concat();
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "fetch(",
            "XMLHttpRequest",
            "import(",
            "http:",
            "https:",
        ] {
            assert!(!own.contains(word), "{word}");
        }
    }
}
