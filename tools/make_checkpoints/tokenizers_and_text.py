"""The text of the planted checkpoints, and two small tokenizers trained on it.

`llama`: BPE over SentencePiece-style pieces with byte fallback, `<s>`, and a
post-processor that adds `<s>` unless told not to. `gpt2`: byte-level BPE that has
only an end-of-text token, so that experiments with BOS must fall back to it.
"""

import json
import random
from pathlib import Path

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from folder import write_json

TEXT_FILE = "text.txt"
TEXT_BYTES = 20_000
MERGES = 80

SUBJECTS = (
    "the river|a gardener|the old clock|my neighbour|the captain|an owl|the library|a small engine".split("|")
)
VERBS = "watches|repairs|remembers|follows|measures|carries|paints|forgets".split("|")
OBJECTS = (
    "the northern bridge|a wooden box|seven letters|the quiet harbour|an early train|the last lamp".split("|")
)
ENDINGS = "before dawn|without a sound|in 1874|for naïve visitors|again and again|near the market".split("|")


def text() -> str:
    """About 20 kB of sentences, every one ending in a full stop; some are not ASCII."""
    chance = random.Random(20)
    paragraphs, size = [], 0
    while size < TEXT_BYTES:
        sentences = []
        for _ in range(chance.randint(2, 6)):
            words = [chance.choice(SUBJECTS), chance.choice(VERBS), chance.choice(OBJECTS)]
            words += [chance.choice(ENDINGS)] * chance.randint(0, 1)
            sentences.append(" ".join(words).capitalize() + ".")
        paragraphs.append(" ".join(sentences))
        size += len(paragraphs[-1].encode()) + 2
    return "\n\n".join(paragraphs)


def write_text(start: str, folder: Path) -> None:
    """The text file of the experiments, without a final newline: it is tokenised as it is."""
    (folder / TEXT_FILE).write_text(start + text(), encoding="utf-8", newline="")


def special(content: str) -> AddedToken:
    """A special token as publishers declare it."""
    return AddedToken(content, special=True, normalized=False)


def llama_tokenizer() -> tuple[Tokenizer, dict]:
    """Spaces become U+2581, unknown characters become bytes, `<s>` comes first."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    # Cuts before every word mark and around punctuation, so that "." stays a token.
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("▁", "merged_with_next"),
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    learner.train_from_iterator([text()], trainers.BpeTrainer(vocab_size=60 + MERGES, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    # Rare and control characters are left to the byte tokens, as SentencePiece does.
    pieces = [piece for piece in learned["vocab"] if piece.isascii() and piece.isprintable() or "▁" in piece]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={name: index for index, name in enumerate(names)},
            merges=[tuple(merge) for merge in learned["merges"] if "".join(merge) in pieces],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = learner.normalizer
    tokenizer.pre_tokenizer = learner.pre_tokenizer
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([special(name) for name in names[:3]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    # Token declarations come as objects in some published files and as strings in others.
    config = {
        name: {
            "__type": "AddedToken",
            "content": content,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
        }
        for name, content in (("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>"))
    }
    return tokenizer, config | {"add_bos_token": True, "add_eos_token": False}


def gpt2_tokenizer() -> tuple[Tokenizer, dict]:
    """Byte-level BPE; the last id is the only special token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + MERGES, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([text()], trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([special("<|endoftext|>")])
    return tokenizer, {"bos_token": None, "eos_token": "<|endoftext|>", "add_prefix_space": False}


MAKERS = {"llama": llama_tokenizer, "gpt2": gpt2_tokenizer}


def write_tokenizer(kind: str, context_length: int, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json."""
    tokenizer, config = MAKERS[kind]()
    tokenizer.save(str(folder / "tokenizer.json"))
    common = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context_length}
    write_json(folder / "tokenizer_config.json", config | common)
