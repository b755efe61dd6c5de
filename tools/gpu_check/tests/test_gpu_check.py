"""The check of a card, without a card: a program in massact's place that answers, fails and hangs as told."""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

TESTS = Path(__file__).resolve().parent
CHECK = TESTS.parent
sys.path += [str(CHECK), str(CHECK.parent)]

import beside  # noqa: E402
import pack  # noqa: E402
import side_by_side  # noqa: E402
import targets  # noqa: E402
import walk  # noqa: E402
from job import Job  # noqa: E402
from plan import BUDGETS, Plan  # noqa: E402
from records import Records, read  # noqa: E402
from sizes import micro  # noqa: E402


class WithFake(unittest.TestCase):
    """A folder with the program, and nothing else on the PATH: no git, no nvidia-smi, no torch."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.massact = self.folder / "massact"
        self.massact.write_text(f"#!{sys.executable}\n" + (TESTS / "fake_massact.py").read_text())
        self.massact.chmod(0o755)
        self.out = self.folder / "out"
        (self.folder / "nothing").mkdir()

    def environment(self, happens: dict) -> dict:
        return os.environ | {
            "PATH": str(self.folder / "nothing"),
            "PYTHONPATH": str(TESTS / "without_torch"),
            "FAKE_MASSACT": json.dumps(happens),
            "FAKE_MASSACT_PID": str(self.folder / "pid"),
        }

    def begin(self, *parts: str, happens: dict, seconds: float = 100, massact: Path | None = None):
        command = [sys.executable, str(CHECK), "--massact", str(massact or self.massact)]
        command += ["--seconds", str(seconds), "--out", str(self.out), "--only", *parts]
        pipe = subprocess.PIPE
        environment = self.environment(happens)
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)

    def check(self, *parts: str, **options) -> dict:
        """What is in the JSON, with the exit code and what was printed."""
        process = self.begin(*parts, **options)
        printed, said = process.communicate(timeout=120)
        self.assertNotIn("Traceback", said)
        return self.written() | {"code": process.returncode, "printed": printed, "said": said}

    def written(self) -> dict:
        (path,) = self.out.glob("*.json")
        return json.loads(path.read_text())

    def records(self, document: dict, part: str) -> list[dict]:
        (found,) = (one["records"] for one in document["parts"] if one["name"] == part)
        return found

    def hung_is_gone(self) -> None:
        status = Path("/proc") / (self.folder / "pid").read_text() / "stat"
        for _ in range(1000):
            # One that nobody has waited for yet has ended, too.
            if not status.exists() or ") Z " in status.read_text():
                return
            time.sleep(0.01)
        self.fail("the program that hung runs on")


class Reports(WithFake):
    def test_the_report_is_written_before_the_first_part_and_after_each(self):
        happens = {"devices": 1.5, "selftest": {"0": 1.5}, "model": "hang"}
        process = self.begin("devices", "selftest", "walk", happens=happens, seconds=4000)
        self.addCleanup(process.communicate)
        self.addCleanup(process.terminate)
        begun, until = [None], time.monotonic() + 60
        while not (self.folder / "pid").exists() or begun[-1] != ["devices", "selftest"]:
            self.assertIsNone(process.poll())
            self.assertLess(time.monotonic(), until, begun)
            if list(self.out.glob("*.json")):
                names = [part["name"] for part in self.written()["parts"]]
                begun += [] if begun[-1] == names else [names]
            time.sleep(0.01)
        self.assertEqual(begun[1:], [[], ["devices"], ["devices", "selftest"]])
        self.assertEqual(self.written()["summary"]["not_begun"], ["walk"])
        # Whoever ends it finds what there is, and nothing of it runs on.
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        self.assertEqual(self.written()["summary"]["unfinished"], ["walk"])
        (text,) = self.out.glob("*.md")
        self.assertIn("- walk, STOPPED FROM OUTSIDE", text.read_text().splitlines()[4:6])
        self.hung_is_gone()

    def test_git_need_not_be_there(self):
        found = self.check("devices", happens={})
        self.assertEqual(found["machine"]["commit"], "0123456789ab")
        self.assertEqual((found["code"], found["summary"]["passed"]), (0, 1), found["said"])
        with mock.patch.dict(os.environ, {"PATH": str(self.folder / "nothing")}):
            self.assertIsNone(side_by_side.commit())

    def test_a_card_that_is_not_used_ends_it_with_the_reason(self):
        found = self.check("devices", "selftest", "walk", happens={"unusable_because": "it is too old"})
        self.assertEqual(found["summary"]["not_begun"], ["selftest", "walk"])
        self.assertEqual(found["code"], 1)
        first = "\n".join(found["printed"].splitlines()[:6])
        self.assertIn("Card of the tests (not used: it is too old)", first)

    def test_a_packed_binary_runs(self):
        packed = self.folder / "massact.xz"
        with redirect_stderr(io.StringIO()):
            pack.pack(self.massact, packed)
        self.assertTrue(pack.is_packed(packed))
        self.assertEqual(self.check("devices", happens={}, massact=packed)["code"], 0)


class Selftest(WithFake):
    def test_a_check_that_fails_is_named_first(self):
        found = self.check("devices", "selftest", happens={"selftest": {"2": "fail"}})
        first = "\n".join(found["printed"].splitlines()[:6])
        wrong = "attention of 128, bfloat16: FAILED: error 2.0e-01, allowed 1.0e-02; value 7 of 64 is 3 instead of 2.5"
        self.assertIn(wrong, first)
        self.assertIn(wrong, found["said"])
        # All others were made.
        self.assertEqual(found["summary"]["passed"], 6)
        self.assertEqual((found["code"], found["summary"]["failed"]), (1, 2))

    def test_a_check_that_hangs_loses_only_itself(self):
        found = self.records(self.check("selftest", happens={"selftest": {"2": "hang"}}), "selftest")
        verdicts = {record["check"]: record["verdict"] for record in found}
        self.assertEqual(verdicts["after norm, bfloat16"], "failed")
        self.assertEqual(verdicts["statistics, bfloat16"], "passed")
        self.assertEqual(verdicts["whole model, bfloat16"], "passed")
        self.assertNotIn("attention of 128, bfloat16", verdicts)
        self.hung_is_gone()

    def test_a_crash_is_told_with_what_was_before_it(self):
        found = self.records(self.check("selftest", happens={"selftest": {"0": "crash"}}), "selftest")
        (first, *_) = (record for record in found if record["verdict"] == "failed")
        self.assertIn("ended with 101", first["detail"])
        self.assertIn("illegal memory access", first["detail"])
        passed = [record["check"] for record in found if record["verdict"] == "passed"]
        self.assertEqual(len(passed), 5)
        self.assertEqual(passed[0], "norm, bfloat16")

    def test_a_program_that_never_answers_is_not_asked_again_and_again(self):
        happens = {"selftest": {str(step): "crash" for step in range(6)}}
        found = self.records(self.check("selftest", happens=happens), "selftest")
        self.assertEqual([record["verdict"] for record in found], ["failed", "failed", "not run", "failed"])

    def test_no_time_is_no_failure(self):
        # Each is within the patience, all together are not within the part's time.
        happens = {"selftest": {str(step): 1.4 for step in range(6)}}
        found = self.records(self.check("selftest", happens=happens), "selftest")
        self.assertEqual([record for record in found if record["verdict"] == "failed"], [])
        self.assertIn("no time was left", [record["detail"] for record in found])
        # Nor does it make a card good.
        self.assertNotIn("this card is good in bfloat16", [record["check"] for record in found])


class Benches(WithFake):
    def test_attention_that_hangs_loses_only_itself(self):
        document = self.check("attention", happens={"attention 128": "hang"})
        found = self.records(document, "attention")
        measured = {record["measured"] for record in found if "measured" in record}
        kinds = ("attention", "attention_sink")
        others = {f"massact {kind} {width}" for kind in kinds for width in (64, 256)}
        self.assertEqual(measured, others)
        (failed,) = (record for record in found if record.get("verdict") == "failed")
        self.assertIn("no end within", failed["detail"])
        self.assertEqual(document["parts"][0]["ended"], "done")
        self.hung_is_gone()

    def test_pytorch_is_measured_before_what_may_hang(self):
        twins = SimpleNamespace(TWINS={"attention": lambda job, sizes: [("flash", None)]})
        clock = SimpleNamespace(seconds=lambda call, device: (0.01, 0.01))
        job = Job(self.massact, "cuda", False, 6, self.folder)
        records = Records(self.folder / "records")
        environment = self.environment({"attention 128": "hang"})
        with (
            mock.patch.dict(sys.modules, {"twins": twins, "clock": clock}),
            mock.patch.dict(os.environ, environment),
        ):
            size = micro(job)
            operations = [beside.attention(size, head_dim) for head_dim in (128, 64)]
            # Other sizes than massact's are found out.
            operations[1].sizes[0]["heads"] += 1
            beside.measure(job, records, operations)
        names = [record.get("measured", record.get("check")) for record in read(records.path)]
        expected = [
            "torch attention 128 flash",
            "torch attention 64 flash",
            "massact attention --head-dims 128",
        ]
        expected += [
            "massact attention 64",
            "attention 64 at the sizes of PyTorch's",
            "massact attention_sink 64",
        ]
        self.assertEqual(names, expected)

    def test_a_crash_loses_only_itself(self):
        found = self.records(self.check("attention", happens={"attention 64": "crash"}), "attention")
        (failed,) = (record for record in found if record.get("verdict") == "failed")
        self.assertIn("illegal memory access", failed["detail"])
        self.assertEqual(sum("measured" in record for record in found), 4)

    def test_the_walk_is_measured_tuned_and_untuned(self):
        job = Job(self.massact, "cuda", False, 60, self.folder)
        job.checkpoint.mkdir()
        records = Records(self.folder / "records")
        with mock.patch.dict(os.environ, {"MASSACT_CACHE_DIR": str(self.folder)}):
            walk.run(job, records)
        found = read(records.path)
        seconds = {record["measured"]: record["seconds"] for record in found if "measured" in record}
        self.assertEqual((seconds["massact forward"], seconds["untuned forward"]), (1.0, 1.25))
        self.assertIn({"noted": "tuned", "content": {"machine": "card", "algorithms": {}}}, found)

    def test_without_a_checkpoint_noise_is_not_judged(self):
        document = self.check("walk", happens={})
        self.assertEqual(document["ratios"][0]["verdict"], "not run")
        measured = [record.get("measured") for record in self.records(document, "walk")]
        self.assertIn("noise forward", measured)


class Targets(unittest.TestCase):
    """Made-up numbers, which meet every target by a hair; and one after the other, which miss one."""

    # FLOP of the pass and of the ceiling make the rates; the walk takes a second.
    MET = {
        "ceiling matmul": (1.0, 1000.0, "TFLOP/s"),
        "massact forward": (1.0, 32768, "tokens/s"),
        "massact forward_with_statistics": (1.0099, 32768, "tokens/s"),
        "massact whole process": (1.5, 32768, "tokens/s"),
        "torch best": (7.6, 32768, "tokens/s"),
        "reference": (5.7, 4096, "tokens/s"),
        "massact attention 128": (0.0114, 0, ""),
        "massact attention_sink 128": (0.0149, 0, ""),
        "torch attention 128 flash": (0.020, 0, ""),
        "torch attention 128 cudnn": (0.010, 0, ""),
    }
    MISSED = {
        "bare walk, all products": {"ceiling matmul": (1.0, 1010.0, "TFLOP/s")},
        "statistics of all layers add": {"massact forward_with_statistics": (1.0101, 32768, "tokens/s")},
        "attention, head_dim 128": {"massact attention 128": (0.0116, 0, "")},
        "attention with sink mass, head_dim 128": {"massact attention_sink 128": (0.0151, 0, "")},
        "whole process beside the walk": {"massact whole process": (1.519, 32768, "tokens/s")},
        "whole process beside the reference": {"reference": (5.6, 4096, "tokens/s")},
        "whole process beside PyTorch": {"torch best": (7.4, 32768, "tokens/s")},
    }

    def missed(self, numbers: dict) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            records = Records(Path(folder) / "records")
            records.note("pass", {"flops": 755e12})
            for name, (seconds, work, unit) in numbers.items():
                records.measured(name, seconds, work, unit)
            rows = targets.ratios(read(records.path))
        judged = [row for row in rows if row.target]
        self.assertEqual([row.what for row in judged], list(self.MISSED))
        return [row.what for row in judged if targets.verdict(row, True) != "met"]

    def test_each_is_met_or_missed_by_itself(self):
        self.assertEqual(self.missed(self.MET), [])
        for what, numbers in self.MISSED.items():
            self.assertEqual(self.missed(self.MET | numbers), [what])

    def test_other_operations_are_shown_beside_what_bounds_them(self):
        found = [
            {"measured": "massact statistics_added", "seconds": 2.0, "rate": 300.0, "unit": "GB/s"},
            {"measured": "massact product 1x2", "seconds": 2.0, "rate": 3.0, "unit": "TFLOP/s"},
            {"measured": "torch product 1x2", "seconds": 1.0, "rate": None, "unit": ""},
            {"measured": "ceiling copy", "seconds": 1.0, "rate": 400.0, "unit": "GB/s"},
            {"measured": "ceiling matmul", "seconds": 1.0, "rate": 4.0, "unit": "TFLOP/s"},
        ]
        rows = [(row.what, row.beside_what, row.ratio) for row in targets.ratios(found)]
        expected = [("statistics added", "ceiling copy", 0.75)]
        expected += [("product 1x2", "ceiling matmul", 0.75), ("product 1x2", "torch product 1x2", 2.0)]
        self.assertEqual(rows[-3:], expected)

    def test_what_is_not_measured_is_not_met(self):
        without = {name: value for name, value in self.MET.items() if not name.startswith("torch attention")}
        attention = ["attention, head_dim 128", "attention with sink mass, head_dim 128"]
        self.assertEqual(self.missed(without), attention)


class Plans(unittest.TestCase):
    def test_all_together_leave_time_for_a_second_call(self):
        self.assertLessEqual(sum(BUDGETS.values()), 415)

    def test_what_an_early_part_leaves_a_later_one_may_use(self):
        plan = Plan(["devices", "selftest"], sum(BUDGETS.values()))
        self.assertEqual(plan.allowed("devices", 0), BUDGETS["devices"])
        self.assertEqual(plan.allowed("selftest", 1), BUDGETS["devices"] + BUDGETS["selftest"] - 1)
        self.assertEqual(plan.allowed("selftest", 1000), 0)

    def test_every_part_is_there(self):
        for name in BUDGETS:
            self.assertIn("def run(job: Job, records: Records)", (CHECK / f"{name}.py").read_text())


class Packing(WithFake):
    def run_pack(self, *options: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(CHECK / "pack.py"), str(self.massact)]
        command += ["--to", str(self.folder / "packed" / "massact.xz"), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def test_what_fits_is_said_with_the_command_that_runs_it(self):
        done = self.run_pack("--most", "100000")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("tools/gpu_check --massact", done.stdout)
        unpacked = pack.unpacked(self.folder / "packed" / "massact.xz", self.folder / "nothing")
        self.assertEqual(unpacked.read_bytes(), self.massact.read_bytes())
        self.assertTrue(os.access(unpacked, os.X_OK))

    def test_what_is_too_large_is_named(self):
        done = self.run_pack("--most", "5")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("tests/checkpoints", done.stdout)

    def test_a_binary_without_kernels_is_refused(self):
        self.massact.write_text(self.massact.read_text().replace("built in, by nvcc 13.0", "none: NVCC=none"))
        done = self.run_pack()
        self.assertEqual(done.returncode, 1)
        self.assertIn("has no kernels", done.stderr)


if __name__ == "__main__":
    unittest.main()
