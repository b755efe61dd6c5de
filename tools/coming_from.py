"""Runs the Python blocks of docs/coming-from.md, and compares what the tools end each job with.

    coming_from.py TOOL --out DIR     runs the blocks of one tool, in a Python that has it
    coming_from.py --compare DIR      prints the largest differences, as Markdown, and fails above TOLERANCE

A block says in its first line whose it is: "# nnsight", or "# TransformerLens, nnsight: why". The blocks of a
tool run one after another in one namespace. What a block assigns and can be an array of numbers is compared
with what other tools assign to the same name under the same heading.
"""

import argparse
import ast
import json
from pathlib import Path

import numpy as np

PAGE = Path(__file__).parent.parent / "docs" / "coming-from.md"
#: Of the largest magnitude of a value.
TOLERANCE = 1e-5
TOOLS = ("massact", "reference program", "TransformerLens", "nnsight")


def blocks(tool: str):
    """Heading and code of each block of a tool."""
    heading = ""
    parts = PAGE.read_text().split("```")
    for outside, inside in zip(parts[::2], parts[1::2]):
        headings = [line[3:] for line in outside.splitlines() if line.startswith("## ")]
        heading = headings[-1] if headings else heading
        language, code = inside.split("\n", 1)
        if language == "python":
            owners = code.split("\n", 1)[0].removeprefix("# ").split(":")[0].split(", ")
            if unknown := set(owners) - set(TOOLS):
                raise SystemExit(f"{PAGE.name}: a block under {heading!r} is of {unknown}: known are {TOOLS}")
            if tool in owners:
                yield heading, code


def assigned(code: str) -> list[str]:
    """Names that a block assigns, but for those inside its functions, in order."""
    names = [
        node.id
        for statement in ast.parse(code).body
        if not isinstance(statement, ast.FunctionDef)
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    return list(dict.fromkeys(names))


def numbers(value) -> np.ndarray | None:
    """A value as float64 without axes of one, if it has numbers only."""
    if hasattr(value, "detach"):
        value = value.detach().numpy()
    try:
        return np.squeeze(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError, RuntimeError):
        return None


def run(tool: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    space, kept = {}, {}
    for number, (heading, code) in enumerate(blocks(tool)):
        print(f"{tool}: {heading}", flush=True)
        # nnsight reads the source of what it traces.
        file = out / f"{tool}.{number}.py"
        file.write_text(code)
        exec(compile(code, file, "exec"), space)  # noqa: S102
        for name in filter(space.__contains__, assigned(code)):
            value = numbers(space[name])
            if value is not None and value.size:
                kept[json.dumps([heading, name])] = value
    np.savez(out / f"{tool}.npz", **kept)


def compare(out: Path) -> None:
    """A line a value that massact and another tool have."""
    found = {tool: np.load(out / f"{tool}.npz") for tool in TOOLS if (out / f"{tool}.npz").is_file()}
    ours = found.pop("massact")
    wrong = []
    print("| job | value | largest magnitude | " + " | ".join(found) + " |")
    print("|---|---|---" + "|---" * len(found) + "|")
    for key in ours.files:
        heading, name = json.loads(key)
        largest = np.abs(ours[key]).max()
        cells = []
        for tool, others in found.items():
            if key not in others.files:
                cells.append("")
                continue
            same_shape = others[key].shape == ours[key].shape
            difference = np.abs(others[key] - ours[key]).max() if same_shape else np.inf
            cells.append(f"{difference:.1e}" if difference else "0")
            if not difference <= TOLERANCE * largest:
                wrong.append(f"{tool}: {name} of {heading}")
        if any(cells):
            # The number of the job; what is before the first one has none.
            job = heading.split(".")[0] if heading[0].isdigit() else ""
            print(f"| {job} | `{name}` | {largest:.4g} | " + " | ".join(cells) + " |")
    if wrong:
        raise SystemExit("differs from massact: " + "; ".join(wrong))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("tool", nargs="?", choices=TOOLS)
    arguments.add_argument("--out", type=Path, help="where the tool's values go")
    arguments.add_argument("--compare", type=Path, help="a folder with the values of massact and others")
    given = arguments.parse_args()
    if given.compare:
        compare(given.compare)
    elif given.tool and given.out:
        run(given.tool, given.out)
    else:
        arguments.error("a tool and --out, or --compare")


main()
