//! Chat templates against transformers' `apply_chat_template` (tools/make_chat_reference.py).

mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use massact::model::{
    config::Config,
    tokenizer::{Tokenizer, TokenizerFiles, Vocabulary},
};
use serde_json::{Value, json};
use support::program::{massact, only_run, read_json, run};

/// The demo's tokenizer with a template in a file, or with another tokenizer_config.json.
fn tokenizer(file: Option<&str>, config: Option<&Value>) -> Tokenizer {
    let read = |name: &str| std::fs::read(format!("assets/demo/{name}")).expect("an asset");
    let mut described: Value =
        serde_json::from_slice(&read("tokenizer_config.json")).expect("JSON");
    for (key, value) in config.and_then(Value::as_object).into_iter().flatten() {
        described[key] = value.clone();
    }
    let files = TokenizerFiles {
        vocabulary: Vocabulary::Fast(read("tokenizer.json")),
        config: Some(described.to_string().into_bytes()),
        chat_template: file.map(|text| text.as_bytes().to_vec()),
        ..TokenizerFiles::default()
    };
    let config = Config::parse(b"{}").expect("a config");
    Tokenizer::parse(&files, &config).expect("a tokenizer")
}

/// The demo as a folder, in which it has no template.
fn demo(place: &Path) -> PathBuf {
    let model = place.join("model");
    let mut write = massact(["tvr", "--quiet", "--target-std", "9", "--out"]);
    write.arg(&model).arg("--save-dir").arg(place.join("runs"));
    run(&mut write).succeeded();
    model
}

#[test]
fn templates_are_rendered_as_transformers_does() {
    let reference = read_json(Path::new("tests/chat_reference.json"));
    let cases = reference["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 7);
    for case in cases {
        let template = case["template"].as_str().expect("text");
        let of_file = tokenizer(Some(template), Some(&json!({"chat_template": "another"})));
        let of_config = tokenizer(None, Some(&json!({"chat_template": template})));
        let named = json!({"chat_template": [
            {"name": "tool_use", "template": "another"},
            {"name": "default", "template": template},
        ]});
        let of_several = tokenizer(None, Some(&named));
        for turn in case["turns"].as_array().expect("turns") {
            let text = turn["text"].as_str().expect("text");
            for tokenizer in [&of_file, &of_config, &of_several] {
                let rendered = tokenizer.chat(text).expect("rendered");
                assert_eq!(rendered, turn["rendered"], "{}: {text:?}", case["name"]);
            }
            let rendered = turn["rendered"].as_str().expect("text");
            let ids = of_file.encode(rendered).expect("ids");
            assert_eq!(json!(ids), turn["ids"], "{}: {text:?}", case["name"]);
        }
    }
}

/// The library walks a chain of operators by recursion, and some of its values are as deep as a loop is long: no
/// template may exhaust the stack, the memory or the patience.
#[test]
fn templates_that_ask_for_much() {
    let chain = |before: &str, link: &str, after: &str| {
        // As long as a template may be.
        let links = ((256 << 10) - before.len() - after.len()) / link.len();
        format!("{before}{}{after}", link.repeat(links))
    };
    let grown = |change: &str| {
        format!(
            "{{% set ns = namespace(x='ab') %}}{{% for i in range(99999) %}}\
             {{% set ns.x = {change} %}}{{% endfor %}}{{{{ ns.x|length }}}}"
        )
    };
    for template in [
        chain("{{ ", "-", "1 }}"),
        chain("{{ ", "not ", "x }}"),
        chain("{{ ", "1+", "1 }}"),
        chain("{{ ", "x~", "x }}"),
        chain("{{ x", ".a", " }}"),
        chain("{{ x", "()", " }}"),
        chain("{{ x", "|trim", " }}"),
        chain("{{ x", "[:1]", " }}"),
        chain("{{ ", "1 if x else ", "1 }}"),
        chain("{% if x %}", "{% elif x %}", "{% endif %}"),
        chain("{{ ", "(", "1 }}"),
        grown("ns.x ~ ns.x"),
        grown("ns.x[:1]"),
        grown("ns.x|reverse"),
        grown("[ns.x]"),
        grown("[1] + ns.x|list"),
        "x".repeat((256 << 10) + 1),
    ] {
        let began = std::time::Instant::now();
        let rendered = tokenizer(Some(&template), None).chat("x");
        let start = &template[..template.len().min(40)];
        assert!(began.elapsed().as_secs() < 5, "{start}");
        // What is short enough and quick may be rendered.
        if let Err(error) = rendered {
            let said = error.to_string();
            assert!(said.starts_with("chat template: "), "{start}: {said}");
        }
    }
}

#[test]
fn what_cannot_be_rendered_is_named() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}";
    for (template, reason) in [
        (
            "{{ raise_exception('only with tools') }}",
            "only with tools",
        ),
        ("{% if %}", "syntax error"),
        ("{%}{% endfor %}", "syntax error"),
        ("{{ messages[0].content.unheard_of() }}", "unheard_of"),
        (endless, "fuel"),
    ] {
        let error = tokenizer(Some(template), None)
            .chat("x")
            .expect_err(template);
        let said = error.to_string();
        assert!(
            said.starts_with("chat template: ") && said.contains(reason),
            "{said}"
        );
        assert!(!said.contains('\n'), "{said}");
    }
    let without = tokenizer(None, None).chat("x").expect_err("no template");
    assert!(
        without.to_string().contains("has no chat template"),
        "{without}"
    );
    for (templates, reason) in [
        (
            json!([{"name": "rag", "template": "x"}]),
            "none named `default`: rag",
        ),
        (
            json!([{"name": "default", "template": 5}]),
            "one named `default` that has no text",
        ),
        (json!(5), "neither a text nor a list"),
    ] {
        let config = json!({"chat_template": templates});
        let error = tokenizer(None, Some(&config))
            .chat("x")
            .expect_err("no default");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let year = tokenizer(Some("{{ strftime_now('%Y') }}"), None)
        .chat("x")
        .expect("a year");
    assert_eq!(year.len(), 4);
}

/// What would end the process that it runs in: values that hold themselves, in all the ways that a template can make
/// one and look at it, and texts of gigabytes.
#[test]
fn templates_that_end_their_process() {
    let temp = tempfile::tempdir().expect("a folder");
    let model = demo(temp.path());
    let out = temp.path().join("out");
    let cycle = "{% set n = namespace() %}{% set n.x = n %}";
    let without_end = "it goes on without end";
    for (template, reason) in [
        (format!("{cycle}{{{{ n }}}}"), without_end),
        (format!("{cycle}{{{{ n|tojson }}}}"), without_end),
        (format!("{cycle}{{{{ [n]|join }}}}"), without_end),
        (
            "{% set n = namespace() %}{% set n.x | default(n, true) %}{% endset %}{{ n }}"
                .to_owned(),
            without_end,
        ),
        (
            "{% set n = namespace(x=[1]) %}{% set l = namespace(x='a'*9999) %}\
             {% for i in range(9999) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n|tojson }}"
                .to_owned(),
            "it ",
        ),
        ("{{ '{:>900000000}'.format('a') }}".to_owned(), "it "),
    ] {
        std::fs::write(model.join("chat_template.jinja"), &template).expect("written");
        let mut command = massact(["capture", "--chat", "--text", "Hi.", "--pretrained"]);
        command.arg(&model).arg("--save-dir").arg(&out);
        let done = run(&mut command);
        assert_eq!(done.code, Some(1), "{template}: {}", done.stderr);
        let last = done.stderr.lines().last().unwrap_or_default();
        let says = format!("massact: chat template: {reason}");
        assert!(last.starts_with(&says), "{template}: {last}");
        assert!(!out.exists(), "{template}");
    }
}

/// As Ctrl-C on a terminal does, which reaches every process of the group.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_template() {
    use std::os::unix::process::CommandExt as _;
    let temp = tempfile::tempdir().expect("a folder");
    let model = demo(temp.path());
    let slow = "{{ (['x' * 1000000] * 2000)|tojson|length }}";
    std::fs::write(model.join("chat_template.jinja"), slow).expect("written");
    let mut command = massact(["capture", "--chat", "--text", "Hi.", "--pretrained"]);
    command.arg(&model).process_group(0);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(child.try_wait().expect("a child"), None, "ended before");
    let group = format!("-{}", child.id());
    let sent = Command::new("kill")
        .args(["-s", "INT", "--", &group])
        .status();
    assert!(sent.expect("kill runs").success());
    let done = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(3), "{said}");
    assert!(said.contains("interrupted"), "{said}");
}

#[test]
fn a_turn_is_a_sequence_without_another_bos() {
    let temp = tempfile::tempdir().expect("a folder");
    let model = demo(temp.path());
    let template =
        "{{ bos_token }}[{{ messages[0].content }}]{% if add_generation_prompt %}>{% endif %}";
    std::fs::write(model.join("chat_template.jinja"), template).expect("written");
    let out = temp.path().join("out");
    let capture = |more: &[&str]| {
        let mut command = massact(["capture", "--quiet", "--pretrained"]);
        command.arg(&model).args(more).arg("--save-dir").arg(&out);
        run(&mut command)
    };
    let ids = |more: &[&str]| {
        capture(more).succeeded();
        let folder = only_run(&out);
        let found = read_json(&folder.join("capture.json"));
        std::fs::remove_dir_all(&out).expect("removed");
        found["sequences"][0]["token_ids"].clone()
    };
    let chat = ids(&["--chat", "--text", "Hi."]);
    assert_eq!(chat, ids(&["--text", "[Hi.]>"]));
    assert_eq!(
        chat,
        ids(&["--text", "<s>[Hi.]>", "--add-bos-token", "false"])
    );
    // Only where something is said.
    assert_eq!(capture(&["--chat"]).code, Some(2));
    let demo = run(&mut massact(["capture", "--chat", "--text", "x"]));
    assert!(
        demo.stderr.contains("has no chat template"),
        "{}",
        demo.stderr
    );
}
