"""The checkpoint table: one file per family (or group of close relatives), each with `ROWS`."""

from families import gpt2, llama, planted

ROWS = [*llama.ROWS, *gpt2.ROWS, *planted.ROWS]
