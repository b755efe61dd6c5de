"""Find, measure and intervene on massive activations in decoder LLMs.

    import massact

    run = massact.run("tokens-analysis", pretrained="gpt2", context_length=512)
    run.json["massive"]          # the experiment's JSON
    run.table("activations")     # pandas or polars, if one of them is installed
    run                          # in a notebook: the page of the run

    found = massact.capture("gpt2", texts=["Summer is warm."], sites=["layer_output"])
    found["layer_output"][3][0]  # numpy, [tokens, hidden_size]

The work is done by the program `massact`, which this package brings along; see
`massact --help` for its commands and flags.
"""

from ._capture import Capture, capture
from ._program import Failed, program, version
from ._run import Run, open_run, run

__all__ = ["Capture", "Failed", "Run", "capture", "open_run", "program", "run", "version"]
