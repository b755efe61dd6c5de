//! The checkpoints of the paper's table, each from the files that the hub has for it: a repository with
//! such a listing, small models in the place of the real ones, through the program.

#[allow(dead_code, reason = "tests/hub.rs uses the rest")]
#[path = "support/loopback.rs"]
mod loopback;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "support/program.rs"]
mod program;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use loopback::{Content, Reply, Server};
use program::{Done, checkpoint, massact, run};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How a repository has its weights.
#[derive(Clone, Copy, Debug)]
enum Weights {
    /// model.safetensors
    Single,
    /// Shards of safetensors, so many.
    Shards(usize),
    /// pytorch_model.bin and nothing else that is read.
    Torch,
    /// Its shards.
    TorchShards,
}

/// A repository on the hub.
struct Repository {
    id: &'static str,
    weights: Weights,
    /// The small model in its place: a checkpoint, or a layout of tests/layouts/torch.
    model: &'static str,
    /// The folder that the tokenizer's files come from, and which of them.
    tokenizer: &'static str,
    tokens: &'static [&'static str],
    /// What lies there, too, and is not read.
    beside: &'static [&'static str],
}

const FAST: &[&str] = &["tokenizer.json", "tokenizer_config.json"];
const MERGES: &[&str] = &[
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

const fn repository(
    id: &'static str,
    weights: Weights,
    model: &'static str,
    beside: &'static [&'static str],
) -> Repository {
    Repository {
        id,
        weights,
        model,
        tokenizer: "planted-llama",
        tokens: FAST,
        beside,
    }
}

use Weights::{Shards, Single, Torch, TorchShards};

const REPOSITORIES: [Repository; 18] = [
    // Both formats of weights, both of tokenizers.
    repository(
        "meta-llama/Llama-2-7b-hf",
        Shards(2),
        "llama-gqa3-f32",
        &[
            "LICENSE.txt",
            "generation_config.json",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
            "pytorch_model.bin.index.json",
            "tokenizer.model",
        ],
    ),
    // The authors' own layout in a folder beside.
    repository(
        "meta-llama/Llama-3.2-1B",
        Single,
        "llama-rope-parameters",
        &[
            "USE_POLICY.md",
            "generation_config.json",
            "original/consolidated.00.pth",
            "original/params.json",
            "original/tokenizer.model",
        ],
    ),
    repository(
        "meta-llama/Llama-3.2-3B",
        Shards(2),
        "llama-rope-parameters",
        &[
            "generation_config.json",
            "original/consolidated.00.pth",
            "original/params.json",
            "original/tokenizer.model",
        ],
    ),
    // The whole in one file of the authors' names beside the shards.
    repository(
        "mistralai/Mistral-7B-v0.3",
        Shards(3),
        "mistral-head-dim",
        &[
            "consolidated.safetensors",
            "generation_config.json",
            "params.json",
            "tokenizer.model",
            "tokenizer.model.v3",
        ],
    ),
    repository(
        "allenai/OLMo-2-1124-7B",
        Shards(6),
        "olmo2",
        &["generation_config.json", "merges.txt", "vocab.json"],
    ),
    repository(
        "allenai/OLMo-7B-0724-hf",
        Shards(6),
        "olmo",
        &["generation_config.json"],
    ),
    repository(
        "tiiuae/falcon-11B",
        Shards(5),
        "falcon-grouped-one-norm",
        &[
            "configuration_falcon.py",
            "generation_config.json",
            "modeling_falcon.py",
        ],
    ),
    repository(
        "tiiuae/falcon-7b",
        Shards(2),
        "falcon-multi-query",
        &[
            "configuration_falcon.py",
            "coreml/text-generation/falcon-7b-64-float32.mlpackage/Manifest.json",
            "handler.py",
            "modeling_falcon.py",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
            "pytorch_model.bin.index.json",
        ],
    ),
    repository(
        "google/gemma-2-2b",
        Shards(3),
        "gemma2",
        &["generation_config.json", "tokenizer.model"],
    ),
    repository(
        "google/gemma-2-9b",
        Shards(8),
        "gemma2",
        &["generation_config.json", "tokenizer.model"],
    ),
    repository(
        "google/gemma-3-1b-pt",
        Single,
        "gemma3-rope-parameters",
        &["generation_config.json", "tokenizer.model"],
    ),
    // With the tower for images.
    repository(
        "google/gemma-3-4b-pt",
        Shards(2),
        "gemma3-multimodal",
        &[
            "generation_config.json",
            "preprocessor_config.json",
            "processor_config.json",
            "tokenizer.model",
        ],
    ),
    repository(
        "google/gemma-3-12b-pt",
        Shards(5),
        "gemma3-multimodal",
        &[
            "chat_template.json",
            "generation_config.json",
            "preprocessor_config.json",
            "processor_config.json",
            "tokenizer.model",
        ],
    ),
    // GGUF of the whole beside the shards.
    repository(
        "google/gemma-7b",
        Shards(4),
        "gemma",
        &[
            "examples/example_fsdp.py",
            "gemma-7b.gguf",
            "generation_config.json",
            "tokenizer.model",
        ],
    ),
    // Every format there is.
    repository(
        "openai-community/gpt2",
        Single,
        "gpt2-bare-names",
        &[
            "64.tflite",
            "flax_model.msgpack",
            "generation_config.json",
            "merges.txt",
            "onnx/config.json",
            "onnx/decoder_model.onnx",
            "onnx/tokenizer.json",
            "pytorch_model.bin",
            "rust_model.ot",
            "tf_model.h5",
            "vocab.json",
        ],
    ),
    // Neither safetensors nor tokenizer.json.
    Repository {
        id: "facebook/opt-6.7b",
        weights: TorchShards,
        model: "sharded",
        tokenizer: "opt",
        tokens: MERGES,
        beside: &[
            "LICENSE.md",
            "flax_model-00001-of-00002.msgpack",
            "flax_model-00002-of-00002.msgpack",
            "flax_model.msgpack.index.json",
            "generation_config.json",
            "tf_model-00001-of-00002.h5",
            "tf_model-00002-of-00002.h5",
            "tf_model.h5.index.json",
        ],
    },
    repository(
        "microsoft/phi-2",
        Shards(2),
        "phi",
        &[
            "configuration_phi.py",
            "generation_config.json",
            "merges.txt",
            "modeling_phi.py",
            "vocab.json",
        ],
    ),
    repository(
        "microsoft/phi-4",
        Shards(6),
        "phi3-window",
        &["generation_config.json", "merges.txt", "vocab.json"],
    ),
];

/// A training step of Pythia: pytorch_model.bin and a tokenizer.json.
const STEP: Repository = Repository {
    weights: Torch,
    ..repository("EleutherAI/pythia-70m", Torch, "single", &["gitattributes"])
};

fn layouts(part: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/layouts").join(part)
}

impl Repository {
    /// The files that are to come, with what is in them.
    fn read(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut take = |folder: &Path, name: &str| {
            files.insert(name.to_owned(), fs::read(folder.join(name)).expect("there"));
        };
        let tokenizer = match self.tokens {
            FAST => checkpoint(self.tokenizer),
            _ => layouts("tokenizers").join(self.tokenizer),
        };
        self.tokens.iter().for_each(|name| take(&tokenizer, name));
        match self.weights {
            Torch | TorchShards => {
                let folder = layouts("torch").join(self.model);
                for entry in fs::read_dir(&folder).expect("a folder") {
                    let name = entry.expect("an entry").file_name();
                    take(&folder, name.to_str().expect("UTF-8"));
                }
            }
            Single => {
                let folder = checkpoint(self.model);
                take(&folder, "config.json");
                take(&folder, "model.safetensors");
            }
            Shards(count) => {
                let folder = checkpoint(self.model);
                take(&folder, "config.json");
                files.extend(shards(&folder.join("model.safetensors"), count));
            }
        }
        files
    }

    fn put(&self, mut content: Content) -> Content {
        for (name, body) in self.read() {
            content = content.file(self.id, &name, body);
        }
        for name in self.beside {
            content = content.file(self.id, name, "not to be read");
        }
        content.file(self.id, "README.md", "not to be read")
    }
}

/// A file of safetensors as `count` of them, with their index.
fn shards(path: &Path, count: usize) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(path).expect("there");
    let whole = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut names = whole.names();
    names.sort_unstable();
    let mut map = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (index, part) in names.chunks(names.len().div_ceil(count)).enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        let tensors = part
            .iter()
            .map(|tensor| (*tensor, whole.tensor(tensor).expect("there")));
        files.insert(name.clone(), serialize(tensors, None).expect("written"));
        map.extend(
            part.iter()
                .map(|tensor| ((*tensor).to_owned(), name.clone())),
        );
    }
    let index = json!({"metadata": {}, "weight_map": map}).to_string();
    files.insert(
        "model.safetensors.index.json".to_owned(),
        index.into_bytes(),
    );
    files
}

struct Place {
    server: Server,
    home: TempDir,
}

impl Place {
    fn new(content: Content) -> Self {
        Self {
            server: Server::start(content),
            home: tempfile::tempdir().expect("a folder"),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = massact(arguments);
        command
            .env_remove("HF_HUB_OFFLINE")
            .env("HF_ENDPOINT", self.server.endpoint())
            .env("HF_HOME", self.home.path());
        command
    }

    fn capture(&self, id: &str, more: &[&str]) -> Done {
        let mut command = self.command(&["capture", "--json", "--top-k", "1", "--pretrained", id]);
        run(command.args(more))
    }

    /// Names of what has come of a repository.
    fn files(&self, id: &str) -> BTreeSet<String> {
        let repo = format!("models--{}", id.replace('/', "--"));
        let folder = self.home.path().join("hub").join(repo).join("snapshots");
        let commits = fs::read_dir(folder).into_iter().flatten().flatten();
        let files = commits.flat_map(|commit| fs::read_dir(commit.path()).into_iter().flatten());
        files
            .flatten()
            .map(|entry| entry.file_name().into_string().expect("UTF-8"))
            .collect()
    }
}

#[test]
fn the_table_is_whole() {
    let text = include_str!("../assets/published_results.json");
    let published: Value = serde_json::from_str(text).expect("JSON");
    let runs = published["runs"].as_array().expect("runs").iter();
    let published: BTreeSet<&str> = runs.filter_map(|run| run["hub_id"].as_str()).collect();
    let here: BTreeSet<&str> = REPOSITORIES
        .iter()
        .map(|repository| repository.id)
        .collect();
    assert_eq!(published, here);
}

#[test]
fn every_checkpoint_of_the_table_runs_from_its_layout() {
    let all = REPOSITORIES.iter().chain([&STEP]);
    let content = all
        .clone()
        .fold(Content::default(), |content, own| own.put(content));
    let place = Place::new(content);
    for repository in all {
        let id = repository.id;
        let done = place.capture(id, &["--token-ids", "1,5,7"]).succeeded();
        assert_eq!(
            done.json()["sequences"][0]["layers"]
                .as_array()
                .map(Vec::is_empty),
            Some(false)
        );
        // Exactly what is read has come.
        let expected: BTreeSet<String> = repository.read().into_keys().collect();
        assert_eq!(place.files(id), expected, "{id}");
        // Nothing of it is in doubt without the network, and nothing is said of that.
        let mut again = place.command(&["capture", "--json", "--pretrained", id]);
        let again = again
            .args(["--token-ids", "1,5,7"])
            .env("HF_HUB_OFFLINE", "1");
        let again = run(again).succeeded();
        assert!(
            !again.stderr.contains("in the cache"),
            "{id}: {}",
            again.stderr
        );
    }
}

/// A text through the tokenizer of facebook/opt-6.7b, whose BOS is `</s>`, with fewer tokens.
#[test]
fn a_text_through_vocab_and_merges() {
    let opt = REPOSITORIES
        .iter()
        .find(|own| own.tokens == MERGES)
        .expect("there");
    let tokens = json!({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "b": 5, "ab": 6});
    let content = opt.put(Content::default());
    let content = content.file(opt.id, "vocab.json", tokens.to_string());
    let content = content.file(opt.id, "merges.txt", "#version: 0.2\na b\n");
    let place = Place::new(content);
    let done = place.capture(opt.id, &["--text", "abba", "--add-bos-token", "true"]);
    let ids = &done.succeeded().json()["sequences"][0]["token_ids"];
    assert_eq!(*ids, json!([2, 6, 5, 4]));
}

#[test]
fn a_repository_without_tokenizer_runs_on_ids() {
    let folder = checkpoint("llama-gqa3-f32");
    let mut content = Content::default();
    for name in ["config.json", "model.safetensors"] {
        content = content.file(
            "owner/bare",
            name,
            fs::read(folder.join(name)).expect("there"),
        );
    }
    let place = Place::new(content);
    place
        .capture("owner/bare", &["--token-ids", "1,2"])
        .succeeded();
    let mut offline = place.command(&["capture", "--json", "--pretrained", "owner/bare"]);
    offline
        .args(["--token-ids", "1,2"])
        .env("HF_HUB_OFFLINE", "1");
    let done = run(&mut offline).succeeded();
    assert!(!done.stderr.contains("in the cache"), "{}", done.stderr);
    let done = place.capture("owner/bare", &["--text", "x"]);
    assert!(
        done.code == Some(1) && done.stderr.contains("--token-ids"),
        "{}",
        done.stderr
    );
}

/// What the hub's converter has left in a pull request is offered, with one request more.
#[test]
fn pull_requests_are_offered() {
    let bare = || {
        ["config.json", "flax_model.msgpack", "tokenizer.json"]
            .into_iter()
            .fold(Content::default(), |content, name| {
                content.file("owner/old", name, "{}")
            })
    };
    let refs = |numbers: &[u32]| {
        let pull_requests: Vec<Value> = numbers
            .iter()
            .map(|number| {
                let name = format!("refs/pr/{number}");
                json!({"name": number.to_string(), "ref": name, "targetCommit": loopback::COMMIT})
            })
            .collect();
        let branch =
            json!({"name": "main", "ref": "refs/heads/main", "targetCommit": loopback::COMMIT});
        json!({"branches": [branch], "converts": [], "tags": [], "pullRequests": pull_requests})
    };
    for (numbers, expected) in [
        (vec![], None),
        (
            vec![4],
            Some(
                "its pull request, where the hub's converter may have left safetensors: --revision refs/pr/4",
            ),
        ),
        (vec![1, 2, 3, 4], Some("4 pull requests")),
    ] {
        let answer = refs(&numbers).to_string();
        let place = Place::new(bare().twist(move |request, _| {
            let asked = request
                .path
                .ends_with("/api/models/owner/old/refs?include_prs=1");
            asked.then(|| Reply::new(200, answer.clone()))
        }));
        let done = place.capture("owner/old", &["--token-ids", "1"]);
        assert_eq!(done.code, Some(1));
        assert!(done.stderr.contains("only in Flax"), "{}", done.stderr);
        assert_eq!(place.server.count("/refs?"), 1);
        match expected {
            Some(expected) => assert!(done.stderr.contains(expected), "{}", done.stderr),
            None => assert!(!done.stderr.contains("pull request"), "{}", done.stderr),
        }
    }
    // A hub that does not know the question changes nothing else.
    let place = Place::new(bare());
    let done = place.capture("owner/old", &["--token-ids", "1"]);
    assert!(done.stderr.contains("save_pretrained"), "{}", done.stderr);
}
