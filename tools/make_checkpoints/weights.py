"""Random weights in which every tensor matters.

A library's own initialisation makes layers that are nearly the identity, with norm
weights of one and biases of zero; a reader that forgets a bias or swaps two norms
would pass. Here matrices keep the scale of their input, and norms and biases are
moved away from their neutral values.
"""

import torch

MATRIX_GAIN = 1.5
EMBEDDING_STD = 1.0
VECTOR_STD = 0.3


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Overwrites all parameters of `model`, in the order of their names."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    # GPT-2's Conv1D keeps its matrix as [in, out]; all others are [out, in].
    transposed = {id(module.weight) for module in model.modules() if type(module).__name__ == "Conv1D"}
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if id(parameter) in embeddings:
                parameter.copy_(EMBEDDING_STD * noise)
            elif parameter.dim() >= 2:
                inputs = parameter.shape[0 if id(parameter) in transposed else -1]
                parameter.copy_(MATRIX_GAIN / inputs**0.5 * noise)
            else:
                # Kept relative to the initial value: a norm's weight may be centred
                # on one or (Gemma) on zero.
                parameter.add_(VECTOR_STD * noise)
