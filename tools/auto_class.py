"""Which of transformers' classes runs a checkpoint: wrappers of a decoder are in another list."""

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText


def auto_class(config) -> type:
    """For a config that AutoConfig has read."""
    decoder = type(config) in AutoModelForCausalLM._model_mapping.keys()
    return AutoModelForCausalLM if decoder else AutoModelForImageTextToText
