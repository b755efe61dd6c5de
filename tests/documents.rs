//! Every JSON file that any command writes is what its schema says.

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use support::program::{checkpoint, files, massact, read_json, run};
use support::schema::assert_valid;

/// The file of a schema: `massact/existence-validation/1` is in `existence_validation.schema.json`.
fn schema_of(document: &Value) -> String {
    let name = document["schema"].as_str().expect("a schema");
    let name = name.strip_prefix("massact/").expect("ours");
    let (name, _version) = name.rsplit_once('/').expect("a version");
    name.replace('-', "_")
}

/// Checks every JSON file below the folder and returns the schemas that were met.
fn check(folder: &Path, met: &mut BTreeSet<String>) {
    let mut documents = 0;
    for name in files(folder) {
        if name.ends_with(".json") {
            let document = read_json(&folder.join(&name));
            let schema = schema_of(&document);
            assert_valid(&schema, &document);
            met.insert(schema);
            documents += 1;
        }
    }
    assert!(documents > 0, "{}", folder.display());
}

#[test]
fn every_document_of_every_command_is_valid() {
    let model = checkpoint("planted-llama").display().to_string();
    let other = checkpoint("planted-gpt2").display().to_string();
    let text = checkpoint("planted-llama")
        .join("text.txt")
        .display()
        .to_string();
    let from_text = ["--text-file", &text, "--context-length", "12"];
    let eval = format!("mine={text}");
    let on_model = ["--pretrained", &model];
    let commands: [(&str, Vec<&str>); 13] = [
        ("existence-validation", [&on_model[..], &from_text].concat()),
        ("tokens-analysis", [&on_model[..], &from_text].concat()),
        (
            "intervention-analysis",
            [
                &on_model[..],
                &from_text,
                &["--eval", &eval, "--noise", "0.1", "--set-to", "3"],
            ]
            .concat(),
        ),
        (
            "top-activation-magnitude",
            [&on_model[..], &from_text].concat(),
        ),
        (
            "self-attention",
            [&on_model[..], &["--token-ids", "3,4,5,6"]].concat(),
        ),
        (
            "figures",
            [&on_model[..], &["--token-ids", "3,4,5,6"]].concat(),
        ),
        (
            "life",
            [&on_model[..], &from_text, &["--ablate-weight"]].concat(),
        ),
        (
            "capture",
            [
                &on_model[..],
                &["--token-ids", "3,4,5,6", "--nll", "--last-logits", "4"],
            ]
            .concat(),
        ),
        (
            "sinks",
            [&on_model[..], &["--token-ids", "3,4,5,6"]].concat(),
        ),
        (
            "profile",
            [&on_model[..], &["--token-ids", "3,4,5,6"]].concat(),
        ),
        ("tvr", [&on_model[..], &["--dry-run"]].concat()),
        (
            "compare",
            [
                &[model.as_str(), &other][..],
                &from_text,
                &["--nsamples", "2"],
            ]
            .concat(),
        ),
        // Nothing is massive: other fields are empty or null.
        (
            "intervention-analysis",
            [
                &on_model[..],
                &from_text,
                &["--eval", &eval, "--abs-threshold", "1e9"],
            ]
            .concat(),
        ),
    ];
    let mut met = BTreeSet::new();
    for (command, arguments) in commands {
        let out = tempfile::tempdir().expect("a folder");
        let mut program = massact([command]);
        program.args(arguments).arg("--save-dir").arg(out.path());
        run(&mut program).succeeded();
        check(out.path(), &mut met);
    }
    let printed = run(&mut massact([
        "bench",
        "--json",
        "--tokens",
        "8",
        "--repetitions",
        "1",
        "--parts",
        "norm,model,looking",
    ]));
    let printed = printed.succeeded().json();
    assert_valid(&schema_of(&printed), &printed);
    met.insert(schema_of(&printed));
    // selftest needs a card; the tests of the CUDA backend look at its report, those of sweeps at their
    // status.
    let known: BTreeSet<String> = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas"))
        .into_iter()
        .filter_map(|name| Some(name.strip_suffix(".schema.json")?.to_owned()))
        .filter(|name| name != "selftest" && name != "sweep_status")
        .collect();
    assert_eq!(met, known, "a schema of which no document was seen");
}
