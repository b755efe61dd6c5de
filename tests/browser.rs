//! The pages in a real browser: charts are drawn, choosers work, nothing is fetched, no token is markup.

mod support;

use std::path::{Path, PathBuf};

use massact::report::html::overview::{
    Cell, Changed, Fit, Fits, Flag, Link, Overview, OverviewRow, OverviewTable, State, Trajectory,
    TrajectoryLayer, page,
};
use support::browser::Browser;
use support::program::{massact, only_run, run};

const HOSTILE: &str = "</script><script>alert(1)</script>";

/// A run of the program on the built-in demo, and its page.
struct Report {
    _folder: tempfile::TempDir,
    page: PathBuf,
}

fn report(arguments: &[&str]) -> Report {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = massact(arguments);
    command.arg("--save-dir").arg(folder.path());
    run(&mut command).succeeded();
    let page = only_run(folder.path()).join("report.html");
    Report {
        _folder: folder,
        page,
    }
}

/// What must hold of every page: drawn without a complaint, nothing fetched, no wider than a phone, dark
/// where the reader's system is.
#[track_caller]
fn assert_sound(browser: &mut Browser, path: &Path) {
    browser.window(390, 844);
    browser.prefers("light", "screen");
    browser.open(path);
    let name = path.display();
    let wide = browser.number("document.documentElement.scrollWidth");
    assert!(wide <= 390.0, "{name} is {wide} pixels wide on a phone");
    photograph(browser, path, "phone");
    browser.prefers("dark", "screen");
    browser.frames();
    let ground = browser.text("getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, "rgb(21, 23, 27)", "{name} in the dark");
    browser.window(1200, 900);
    browser.open(path);
    photograph(browser, path, "dark");
    browser.prefers("light", "screen");
    browser.open(path);
    photograph(browser, path, "light");
    let ground = browser.text("getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, "rgb(255, 255, 255)", "{name} in the light");
    let charts = browser.number("document.querySelectorAll('.chart').length");
    assert!(charts > 0.0, "{name} has no chart");
    let empty = "[...document.querySelectorAll('.chart')].filter((it) =>
        ![...it.querySelectorAll('.plot svg')].some((svg) => svg.getBoundingClientRect().width > 200
            && svg.querySelector('.series path, .point circle, .point path, .cell rect, [aria-label=raster] image'))).length";
    assert_eq!(browser.number(empty), 0.0, "{name} has an empty chart");
    assert_eq!(
        browser.number("document.querySelectorAll('section.failed').length"),
        0.0
    );
    let shown =
        "[...document.querySelectorAll('.still')].filter((it) => it.offsetHeight > 0).length";
    assert_eq!(browser.number(shown), 0.0, "{name} shows figures twice");
    assert_eq!(browser.complaints(), Vec::<String>::new(), "{name}");
    assert_nothing_fetched(browser, path);
}

#[track_caller]
fn assert_nothing_fetched(browser: &Browser, path: &Path) {
    let page = format!("file://{}", path.display());
    let mut requests = browser.requests();
    requests.retain(|url| !url.starts_with("data:") && !url.starts_with("blob:"));
    assert_eq!(requests, [page]);
}

/// Pictures for a person to look at, where `MASSACT_SCREENSHOTS` names a folder.
fn photograph(browser: &mut Browser, path: &Path, what: &str) {
    if let Some(folder) = std::env::var_os("MASSACT_SCREENSHOTS") {
        let run = path.parent().and_then(Path::file_name).expect("a folder");
        let name = format!("{}-{what}.png", run.to_string_lossy());
        browser.screenshot(&Path::new(&folder).join(name), true);
    }
}

/// Texts of a column's cells that are shown.
fn column(browser: &mut Browser, table: &str, index: usize) -> Vec<String> {
    let cells = format!(
        "[...document.querySelector('{table}').tBodies[0].rows].filter((row) => !row.hidden)
            .map((row) => row.cells[{index}].textContent)"
    );
    let cells = browser.value(&cells);
    let cells = cells.as_array().expect("a list").iter();
    cells
        .map(|cell| cell.as_str().expect("a text").to_owned())
        .collect()
}

#[test]
#[ignore = "needs chromium: .ci/browser runs it"]
fn existence() {
    let report = report(&["existence-validation", "--nsamples", "3"]);
    let mut browser = Browser::start();
    assert_sound(&mut browser, &report.page);
    assert_eq!(
        browser.text("document.title"),
        "demo – existence-validation – massact"
    );
    let command = browser.text("document.querySelector('dd code').textContent");
    assert!(
        command.starts_with("massact existence-validation --nsamples 3 --save-dir "),
        "{command}"
    );

    // Values over decades begin logarithmic; the switch goes to linear and back.
    let line = "document.querySelectorAll('.series path')[0].getAttribute('d')";
    let ticks = "document.querySelector('[aria-label=\"y-axis tick label\"]').textContent";
    let (log, log_ticks) = (browser.text(line), browser.text(ticks));
    assert!(browser.holds("document.querySelector('.switch [value=log]').ariaPressed === 'true'"));
    browser.click(".switch [value=linear]");
    let (linear, linear_ticks) = (browser.text(line), browser.text(ticks));
    assert_ne!(log, linear);
    assert_ne!(log_ticks, linear_ticks);
    browser.click(".switch [value=log]");
    assert_eq!(browser.text(line), log);

    // The legend hides and shows a line.
    let lines = "document.querySelectorAll('.series path').length";
    assert_eq!(browser.number(lines), 2.0);
    browser.click(".legend button");
    assert_eq!(browser.number(lines), 1.0);
    browser.click(".legend button");
    assert_eq!(browser.number(lines), 2.0);

    // The pointer tells value, token, position and dimension.
    browser.hover(".point + .point circle:last-child, .point circle:last-child");
    photograph(&mut browser, &report.page, "hover");
    let tip = browser.text("document.querySelector('[aria-label=tip]').textContent");
    for what in [
        "top-1 hidden states",
        "layer",
        "token",
        "position",
        "dimension",
    ] {
        assert!(tip.contains(what), "{what}: {tip}");
    }

    // A click on a title sorts, another turns the order round.
    let layers = column(&mut browser, "table", 0);
    browser.click("th:nth-child(2) button");
    let up: Vec<f64> = numbers(&column(&mut browser, "table", 1));
    assert!(up.is_sorted(), "{up:?}");
    browser.click("th:nth-child(2) button");
    let mut down = numbers(&column(&mut browser, "table", 1));
    down.reverse();
    assert!(down.is_sorted() && down.len() == layers.len());

    // The button, by keyboard, against the system's light.
    browser.value("document.querySelector('#theme').focus()");
    browser.press(" ", 32);
    let ground = "getComputedStyle(document.body).backgroundColor";
    assert_eq!(browser.text(ground), "rgb(21, 23, 27)");
    let ink = "getComputedStyle(document.querySelector('.plot svg')).color";
    assert_eq!(browser.text(ink), "rgb(230, 232, 235)");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

fn numbers(texts: &[String]) -> Vec<f64> {
    let numbers = texts.iter().map(|text| text.parse().expect("a number"));
    numbers.collect()
}

#[test]
#[ignore = "needs chromium: .ci/browser runs it"]
fn without_scripts_and_on_paper() {
    let report = report(&["existence-validation", "--nsamples", "3"]);
    let mut browser = Browser::start();
    let figure = "document.querySelector('.still svg').getBoundingClientRect().width";
    let chart = "document.querySelector('.chart').offsetHeight";
    browser.scripts(false);
    browser.open(&report.page);
    assert!(browser.number(figure) > 200.0);
    assert_eq!(browser.number(chart), 0.0);
    let rows = "document.querySelectorAll('tbody tr').length";
    assert_eq!(browser.number(rows), 6.0);

    browser.scripts(true);
    browser.prefers("dark", "print");
    browser.open(&report.page);
    let ground = browser.text("getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, "rgb(255, 255, 255)");
    assert!(browser.number(chart) > 200.0);
    let tools = "[...document.querySelectorAll('.switch, #theme')].filter((it) => it.offsetHeight > 0).length";
    assert_eq!(browser.number(tools), 0.0);
}

#[test]
#[ignore = "needs chromium: .ci/browser runs it"]
fn tokens() {
    let report = report(&["tokens-analysis", "--nsamples", "4"]);
    let mut browser = Browser::start();
    assert_sound(&mut browser, &report.page);
    let table = "section:nth-of-type(5) table";
    assert_eq!(
        browser.text("document.querySelector('section:nth-of-type(5) h2').textContent"),
        "Massive activations"
    );
    let all = column(&mut browser, table, 1);
    browser.click("section:nth-of-type(5) input[type=search]");
    browser.write("89 13439");
    let found = column(&mut browser, table, 4);
    assert!(!found.is_empty() && found.len() < all.len());
    assert!(found.iter().all(|dimension| dimension == "89"), "{found:?}");
    let count = browser.text("document.querySelector('section:nth-of-type(5) .count').textContent");
    assert_eq!(count, format!("{} of {} rows", found.len(), all.len()));
}

#[test]
#[ignore = "needs chromium: .ci/browser runs it"]
fn interventions() {
    let report = report(&[
        "intervention-analysis",
        "--nsamples",
        "4",
        "--calibration-nsamples",
        "4",
    ]);
    let mut browser = Browser::start();
    assert_sound(&mut browser, &report.page);
    let intervals = browser.number("document.querySelectorAll('.interval path').length");
    assert!(intervals > 0.0);
    let place = "document.querySelectorAll('.point circle')[0].getAttribute('cx')";
    browser.hover(".point circle");
    let tip = browser.text("document.querySelector('[aria-label=tip]').textContent");
    for what in ["set_to_zero", "ratio", "95 % interval", "class"] {
        assert!(tip.contains(what), "{what}: {tip}");
    }
    let log = browser.text(place);
    browser.click(".switch [value=linear]");
    assert_ne!(browser.text(place), log);
}

#[test]
#[ignore = "needs chromium: .ci/browser runs it"]
fn attention() {
    let report = report(&["self-attention", "--heads", "1,3", "--sentence", HOSTILE]);
    let mut browser = Browser::start();
    assert_sound(&mut browser, &report.page);
    let picture = "document.querySelector('[aria-label=raster] image').getAttribute('href')";
    let heads = "document.querySelectorAll('select')[1].options.length";
    let layer = browser.text("document.querySelector('select').value");
    assert_eq!(layer, "3");
    assert_eq!(browser.number(heads), 5.0);
    let mean = browser.text(picture);

    // A head; then, by keyboard, the next layer, which has none.
    browser.value("document.querySelectorAll('select')[1].focus()");
    browser.press("ArrowDown", 40);
    let head = browser.text(picture);
    assert_ne!(head, mean);
    browser.value("document.querySelectorAll('select')[0].focus()");
    browser.press("ArrowDown", 40);
    assert_eq!(browser.text("document.querySelector('select').value"), "4");
    assert_eq!(browser.number(heads), 1.0);
    let next = browser.text(picture);
    assert!(next != head && next != mean);
    browser.click("[aria-label='Previous layer']");
    assert_eq!(browser.text(picture), mean);

    // One scale for all maps gives the same map other colours.
    browser.click(".switch [value=shared]");
    assert_ne!(browser.text(picture), mean);

    browser.hover("[aria-label=raster] image");
    let tip = browser.text("document.querySelector('[aria-label=tip]').textContent");
    for what in ["query", "key", "logit"] {
        assert!(tip.contains(what), "{what}: {tip}");
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs chromium: .ci/browser runs it"]
fn life() {
    let report = report(&["life", "--sentence", HOSTILE]);
    let mut browser = Browser::start();
    assert_sound(&mut browser, &report.page);
    let bars = "document.querySelectorAll('.bar rect').length";
    let shape = "document.querySelector('.bar').innerHTML";
    let (all, first) = (browser.number(bars), browser.text(shape));
    assert!(all >= 6.0, "{all} bars");

    // What each part of the layer adds stands beside the pointer, with a sign.
    browser.hover(".bar rect:last-child");
    let tip = browser.text("document.querySelector('[aria-label=tip]').textContent");
    for what in ["layer", "attention", "MLP", "value as it leaves the layer"] {
        assert!(tip.contains(what), "{what}: {tip}");
    }

    // A part that is hidden has no bars; another value has its own.
    browser.click(".legend button");
    assert!(browser.number(bars) < all);
    browser.click(".legend button");
    assert_eq!(browser.number(bars), all);
    browser.value("document.querySelector('select').focus()");
    browser.press("ArrowDown", 40);
    assert_ne!(browser.text(shape), first);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
#[ignore = "needs chromium: .ci/browser runs it"]
fn comparison() {
    let report = report(&["compare", "one=demo", "two=demo", "--nsamples", "3"]);
    let mut browser = Browser::start();
    assert_sound(&mut browser, &report.page);
    assert_eq!(
        browser.text("document.title"),
        "one, two – compare – massact"
    );
    // A checkpoint has one colour in all charts, and it is the static figure's.
    let colors = browser.value(
        "[...document.querySelectorAll('.chart .legend')].map((legend) =>
            [...legend.querySelectorAll('button')].filter((it) => it.textContent === 'two')
                .map((it) => it.querySelector('.swatch').style.getPropertyValue('--color'))[0])
            .filter((color) => color)",
    );
    let colors = colors.as_array().expect("a list");
    assert!(colors.len() > 3);
    assert!(colors.iter().all(|color| *color == colors[0]), "{colors:?}");
    let color = colors[0].as_str().expect("a colour");
    let figure = browser.text("document.querySelector('.still svg').outerHTML");
    assert!(figure.contains(color), "{color}");
}

/// Made-up runs: all states, hostile names, trajectories, and a table of agreement.
fn overview() -> Overview {
    let layers = |peak: f64| -> Vec<f64> {
        let rise = |layer: u32| {
            if layer < 3 {
                4.0 + f64::from(layer)
            } else {
                peak
            }
        };
        (0..12).map(rise).collect()
    };
    let changed = |ratio: f64| Changed {
        perplexity: Some(12.0 * ratio),
        ratio: Some(ratio),
        interval: Some((ratio * 0.9, ratio * 1.2)),
    };
    let done = |label: &str, bos: bool, peak: f64| OverviewRow {
        label: label.to_owned(),
        model: "owner/model".to_owned(),
        settings: vec![("add_bos_token".to_owned(), bos.to_string())],
        state: State::Done,
        massive: Some(peak > 100.0),
        first_layer: (peak > 100.0).then_some(3),
        dimensions: if peak > 100.0 {
            vec![138, 378, 447]
        } else {
            Vec::new()
        },
        ratio: Some(peak / 0.4),
        top1: layers(peak),
        median: vec![0.4; 12],
        places: vec![format!("{HOSTILE} at 0, dimension 447"); 12],
        original: Some(12.0),
        zeroed: (peak > 100.0).then(|| changed(peak)),
        mean: (peak > 100.0).then(|| changed(1.001)),
        links: vec![Link {
            text: "existence".to_owned(),
            path: "owner--model/existence-validation-0/report.html".to_owned(),
        }],
        ..OverviewRow::default()
    };
    let mut rows = vec![
        done("gpt2", true, 3000.0),
        done("gpt2, no BOS", false, 2900.0),
        done("opt-125m", true, 40.0),
        done("phi-2", true, 700.0),
        done(HOSTILE, true, 1500.0),
        done("pythia-70m", false, 60.0),
        done("qwen", true, 9000.0),
    ];
    rows.push(OverviewRow {
        label: "gone".to_owned(),
        state: State::Failed("owner/gone: not found on the hub; check the name".to_owned()),
        ..OverviewRow::default()
    });
    rows.push(OverviewRow {
        label: "later".to_owned(),
        ..OverviewRow::default()
    });
    let steps: Vec<f64> = vec![1.0, 8.0, 64.0, 512.0, 4000.0, 33000.0, 143_000.0];
    let rising =
        |scale: f64| -> Vec<f64> { steps.iter().map(|step| scale * (1.0 + step.ln())).collect() };
    let of_layer = |layer: usize| TrajectoryLayer {
        layer,
        max: rising(50.0 * (layer + 1) as f64),
        median: rising(0.1),
        ratio: rising(500.0),
        fits: Fits {
            max: (layer == 0).then(|| Fit {
                says: "f(t) = A exp(-λx) ln x + K, A 1, λ 0.1, K 2".to_owned(),
                r2: 0.987,
                curve: steps
                    .iter()
                    .map(|step| (*step, 48.0 * (1.0 + step.ln())))
                    .collect(),
            }),
            ..Fits::default()
        },
    };
    Overview {
        title: "paper.toml".to_owned(),
        verdict: "5 of 7 checkpoints have massive activations; 1 task failed".to_owned(),
        highlight: true,
        facts: vec![
            ("Tasks".to_owned(), "18".to_owned()),
            ("Date".to_owned(), "2026-01-02T03:04:05Z".to_owned()),
        ],
        command_line: "massact sweep run paper".to_owned(),
        rows,
        trajectories: vec![
            Trajectory {
                label: "pythia-70m".to_owned(),
                layers: vec![of_layer(0), of_layer(3)],
                steps: steps.clone(),
            },
            Trajectory {
                label: HOSTILE.to_owned(),
                layers: vec![of_layer(1)],
                steps: steps.clone(),
            },
        ],
        tables: vec![OverviewTable {
            heading: "Measured beside published".to_owned(),
            note: "Published: table 2 of arXiv 2503.22329.".to_owned(),
            header: ["model", "measured", "published", "agreement"]
                .map(str::to_owned)
                .to_vec(),
            rows: [
                ("gpt2", Flag::Agrees, "yes"),
                ("phi-2", Flag::Differs, "no"),
                ("qwen", Flag::Known, "known"),
            ]
            .into_iter()
            .map(|(model, flag, text)| {
                let agreement = Cell {
                    text: text.to_owned(),
                    flag,
                };
                vec![
                    Cell::plain(model),
                    Cell::plain("3000"),
                    Cell::plain("2998"),
                    agreement,
                ]
            })
            .collect(),
        }],
    }
}

#[test]
#[ignore = "needs chromium: .ci/browser runs it"]
fn sweep() {
    let folder = tempfile::Builder::new()
        .prefix("sweep")
        .tempdir()
        .expect("a folder");
    let path = folder.path().join("report.html");
    std::fs::write(&path, page(&overview())).expect("a file");
    let mut browser = Browser::start();
    assert_sound(&mut browser, &path);
    let table = "#overview table";
    assert_eq!(column(&mut browser, table, 1).len(), 9);

    // By verdict, and by a text besides.
    browser.value(
        "(() => { const list = document.querySelector('.filter select');
           list.value = 'massive'; list.dispatchEvent(new Event('change')); })()",
    );
    assert_eq!(column(&mut browser, table, 1).len(), 5);
    browser.click(".filter input");
    browser.write("gpt2 false");
    assert_eq!(
        column(&mut browser, table, 1),
        ["gpt2, no BOSowner/modelexistence"]
    );
    let failed = "document.querySelector('.error').textContent";
    assert!(browser.text(failed).contains("not found on the hub"));

    // Sorted by the largest ratio; rows without one stay last.
    browser.value(
        "(() => { const list = document.querySelector('.filter select');
           list.value = ''; list.dispatchEvent(new Event('change'));
           const text = document.querySelector('.filter input');
           text.value = ''; text.dispatchEvent(new Event('input')); })()",
    );
    browser.click("#overview th:nth-child(5) button");
    browser.click("#overview th:nth-child(5) button");
    let sorted = column(&mut browser, table, 1);
    assert!(sorted[0].starts_with("qwen"), "{sorted:?}");
    assert!(
        sorted[7..]
            .iter()
            .all(|label| label == "gone" || label == "later"),
        "{sorted:?}"
    );

    // Rows that are laid over each other.
    let lines = "document.querySelectorAll('#overlay .series path').length";
    assert_eq!(browser.number(lines), 6.0);
    browser.click("#overview tr[data-row='6'] input");
    assert_eq!(browser.number(lines), 7.0);
    let first = "document.querySelector('#overlay .series path').getAttribute('d')";
    let by_layer = browser.text(first);
    browser.click("#overlay .switch [value=depth]");
    assert_eq!(browser.number(lines), 7.0);
    assert!(
        browser
            .text("document.querySelector('#overlay').textContent")
            .contains("Depth")
    );
    browser.value(
        "(() => { const list = document.querySelector('#overlay select');
           list.value = 'median'; list.dispatchEvent(new Event('change')); })()",
    );
    browser.frames();
    assert_ne!(browser.text(first), by_layer);

    // A model's values over training: with the fitted curve where there is one.
    let lines = "document.querySelectorAll('#trajectories .series path').length";
    assert_eq!(browser.number(lines), 2.0);
    assert!(
        browser
            .text("document.querySelector('#trajectories').textContent")
            .contains("R² 0.987")
    );
    browser.value("document.querySelectorAll('#trajectories select')[1].focus()");
    browser.press("ArrowDown", 40);
    assert_eq!(browser.number(lines), 1.0);

    // A name is a text, wherever it stands.
    let named = format!("document.body.textContent.split({HOSTILE:?}).length - 1");
    assert!(browser.number(&named) >= 3.0);
    let address = "document.querySelector('#overview a').getAttribute('href')";
    assert_eq!(
        browser.text(address),
        "owner--model/existence-validation-0/report.html"
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
    assert_nothing_fetched(&browser, &path);
}

#[test]
#[ignore = "needs chromium: .ci/browser runs it"]
fn other_commands() {
    let mut browser = Browser::start();
    for arguments in [
        &["figures"][..],
        &["top-activation-magnitude", "--nsamples", "2"],
        &["tvr", "--dry-run"],
    ] {
        let report = report(arguments);
        let path = &report.page;
        browser.prefers("light", "screen");
        browser.window(390, 844);
        browser.open(path);
        let wide = browser.number("document.documentElement.scrollWidth");
        assert!(
            wide <= 390.0,
            "{arguments:?}: {wide} pixels wide on a phone"
        );
        browser.window(1200, 900);
        browser.open(path);
        photograph(&mut browser, path, "light");
        assert!(browser.number("document.querySelectorAll('.series path').length") >= 2.0);
        assert_eq!(browser.complaints(), Vec::<String>::new());
        assert_nothing_fetched(&browser, path);
    }
}
