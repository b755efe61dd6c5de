"""Runs a notebook from its start in a folder of its own, and fails with its first error.

    python python/run_notebook.py NOTEBOOK FOLDER [--write]

With --write the notebook is left with what it showed, but for cells tagged `remove-output`, whose
output is a whole page.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main() -> None:
    path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    print(f"{path}: {cells} cells ran")
    if "--write" in sys.argv[3:]:
        for cell in notebook.cells:
            if "remove-output" in cell.metadata.get("tags", []):
                cell.outputs = []
            cell.metadata.pop("execution", None)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
