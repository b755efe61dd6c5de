"""Which of transformers' classes runs a checkpoint: wrappers of a decoder are in another list, or in both."""

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText


def auto_class(config) -> type:
    """For a config that AutoConfig has read."""
    decoder = type(config) in AutoModelForCausalLM._model_mapping.keys()
    wrapper = type(config) in AutoModelForImageTextToText._model_mapping.keys()
    # Of both lists one class is the decoder alone, which would leave the wrapper's tensors out.
    whole = (config.architectures or [""])[0].endswith("ForConditionalGeneration")
    # This one's whole class does not run without images.
    whole = whole and config.model_type != "llama4"
    return AutoModelForCausalLM if decoder and not (wrapper and whole) else AutoModelForImageTextToText
