"""The checkpoint table: one file per family (or group of close relatives), each with `ROWS`."""

from families import (
    gemma,
    gpt2,
    llama,
    mistral_olmo,
    mitigations,
    mixtures,
    neox_bloom,
    opt_falcon,
    others,
    packed,
    phi,
    planted,
    planted_depths,
    qwen,
    relatives,
    routed,
    stored,
    wrapped,
)

GROUPS = (
    llama,
    gpt2,
    planted,
    planted_depths,
    opt_falcon,
    gemma,
    phi,
    mistral_olmo,
    qwen,
    mixtures,
    neox_bloom,
    others,
    mitigations,
    stored,
    packed,
    relatives,
    routed,
    wrapped,
)
ROWS = [row for group in GROUPS for row in group.ROWS]
