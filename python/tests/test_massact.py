"""The installed package: runs the demo, offline."""

import json
import subprocess
import sys
from pathlib import Path

import massact
import numpy as np
import pytest


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    return massact.run("tokens-analysis", save_dir=folder, nsamples=2, tables="csv", quiet=True)


def test_a_run_has_its_results(analysis):
    assert analysis.command == "tokens-analysis"
    assert analysis.folder.is_dir()
    written = json.loads((analysis.folder / "tokens_analysis.json").read_text())
    assert analysis.json == written
    assert analysis.json["nsamples"] == 2
    assert analysis.record["device"] and analysis.record["seed"] == 42
    assert "massive activations" in analysis.text
    assert analysis.figures["massive_activations_by_layer"].suffix == ".svg"
    assert massact.open_run(analysis.folder).json == written


def test_tables(analysis):
    pandas = pytest.importorskip("pandas")
    frame = analysis.table("magnitudes")
    assert isinstance(frame, pandas.DataFrame) and len(frame) > 0
    with pytest.raises(KeyError, match="magnitudes"):
        analysis.table("nothing")


def test_a_notebook_shows_the_page(analysis):
    html = analysis._repr_html_()
    assert html.startswith("<iframe srcdoc=") and "<script" not in html


def test_flags():
    from massact._program import flags

    assert flags({"context_length": 5, "raw": True, "json": False, "layers": None}) == [
        "--context-length=5",
        "--raw",
    ]
    assert flags({"sites": ["q", "k"], "add_bos_token": False}) == ["--sites=q,k", "--add-bos-token=false"]
    assert flags({"token_ids": [[1, 2], (3,)], "text": [["- a, b"]]}) == [
        "--token-ids=1,2",
        "--token-ids=3",
        "--text=- a, b",
    ]
    assert flags({"text_file": Path("a b")}) == ["--text-file=a b"]


def test_captures():
    texts = ["Summer is warm, indeed.", "- no"]
    found = massact.capture(None, texts, sites=["layer_output", "q"], nll=True)
    assert list(found) == ["layer_output", "q"]
    for sequence, tokens in enumerate(found.tokens):
        assert found["layer_output"][3][sequence].shape == (len(tokens), 128)
    assert [len(ids) for ids in found.token_ids] == [len(tokens) for tokens in found.tokens]
    assert "".join(found.tokens[0][1:]) == texts[0]
    by_layer = found.json["sequences"][1]["layers"]
    largest = np.abs(found["layer_output"][2][1]).max()
    assert by_layer[2]["max"] == pytest.approx(largest, rel=1e-6)

    again = massact.capture(token_ids=found.token_ids, sites=["layer_output"])
    np.testing.assert_array_equal(again["layer_output"][5][-1], found["layer_output"][5][1])
    one = massact.capture(token_ids=np.array(found.token_ids[0]))
    np.testing.assert_array_equal(one["layer_output"][5][0], found["layer_output"][5][0])
    with pytest.raises(KeyError, match="these layers have"):
        found["q"][99]
    with pytest.raises(IndexError):
        found["q"][0][2]
    with pytest.raises(TypeError):
        massact.capture(None)


def test_what_is_taken_of_a_capture_keeps_its_files():
    assert massact.capture(token_ids=[1, 2])["layer_output"][0][0].shape == (2, 128)
    assert massact.capture(token_ids=[1, 2]).run.tensors["layer_output.0.0"].shape == (2, 128)
    gone = massact.capture(token_ids=[1, 2]).run.folder
    assert not gone.exists()


def test_the_files_of_a_capture_stay_where_they_are_wanted(tmp_path):
    found = massact.capture(None, "Summer", save_dir=tmp_path)
    folder = found.run.folder
    del found
    from safetensors import safe_open

    with safe_open(folder / "capture.safetensors", framework="numpy") as file:
        ids = json.loads(file.metadata()["token_ids"])
        assert file.get_tensor("layer_output.0.0").shape[0] == len(ids[0])


def test_torch(analysis):
    torch = pytest.importorskip("torch")
    found = massact.capture(token_ids=[[1, 2]])
    assert isinstance(found.run.tensors.torch("layer_output.0.0"), torch.Tensor)


def test_errors_are_exceptions(tmp_path):
    with pytest.raises(massact.Failed, match="no such folder") as failed:
        massact.run("tokens-analysis", tmp_path / "nothing", save_dir=tmp_path, quiet=True)
    assert failed.value.exit_code == 1
    with pytest.raises(massact.Failed, match="similar argument exists: '--context-length'"):
        massact.run("tokens-analysis", save_dir=tmp_path, contextlength=5, quiet=True)
    with pytest.raises(massact.Failed, match="tokens-analysis"):
        massact.run("tokens-analyis", save_dir=tmp_path, quiet=True)
    with pytest.raises(FileNotFoundError, match=r"run\.json"):
        massact.open_run(tmp_path)


def test_what_the_program_says_is_seen(tmp_path, capsys):
    massact.run("tokens-analysis", save_dir=tmp_path, nsamples=2)
    assert "massact: results" not in capsys.readouterr().out


def test_the_module_is_the_program():
    done = subprocess.run([sys.executable, "-m", "massact", "-V"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("massact ")
    assert massact.version() == done.stdout.strip()
