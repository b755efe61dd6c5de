"""Tokenizers without tokenizer.json, and the ids that transformers gives with them."""

import base64
import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import sentencepiece
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

# tiktoken keeps a copy of a file by its path, though the file has changed.
os.environ["TIKTOKEN_CACHE_DIR"] = ""

ROOT = Path(__file__).resolve().parents[2]

# Many scripts, digits, spaces, control characters, emoji, and what only normalisers change.
TEXTS = [
    "",
    " ",
    "a",
    "The river paints a wooden box.",
    " The  river   paints\ta wooden\nbox.\r\n\r\n  Twice. ",
    "don't we'll I'VE they're It's 1st 22nd 3.14159 1,000,000 2025-11-27",
    "Ünïcödé naïve café e\u0301 ﬁne Å ½ ²³ Ⅷ ﷺ",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم",
    "你好，世界。 中文English混合 日本語のテキスト 한국어 텍스트",
    "नमस्ते दुनिया ภาษาไทย ქართული አማርኛ",
    "👋🏽 🤗 👨‍👩‍👧‍👦 🇪🇺 x🙂y \U0001f980",
    "\u0000\u0001\u0007\u001b[0m \u007f\u0085\u00a0\u200b\u2028\ufeff",
    "def f(x):\n    return x ** 2  # comment\n\n\n\treturn\n",
    "▁▁lower▁block ▁",
    "<s>inside</s> <unk> <pad> <bos><eos> <|endoftext|> after",
    "<|im_start|>user\nhi<|im_end|>\n<start_of_turn> <mask> <0x41> [INST] x [/INST]",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" + " " * 40 + "b" + "\n" * 20,
    "https://example.org/a?b=c&d=%20#e user@example.org C:\\temp\\x.txt {\"k\": [1, 2]}",
]


def corpus() -> list[str]:
    text = (ROOT / "tests/checkpoints/planted-gpt2/text.txt").read_text()
    return text.splitlines() + [text for text in TEXTS if "\u0000" not in text] * 5


def write(folder: Path, name: str, value) -> None:
    (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def bytes_bpe(folder: Path, first: list[str], size: int = 420) -> None:
    """vocab.json and merges.txt of a byte-level BPE whose first ids are these tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=first,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.model.save(str(folder))


def pieces(folder: Path, **settings) -> None:
    """sentencepiece's tokenizer.model."""
    # The paths stand in the file, so they are short and the same every time.
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
        Path("text").write_text("\n".join(corpus()))
        # Short forms of what the usual rules do with some characters; those take 240 kB.
        Path("rules").write_text("".join(f"{f}\t{t}\n" for f, t in RULES))
        options = dict(
            input="text",
            model_prefix="tokenizer",
            vocab_size=500,
            hard_vocab_limit=False,
            character_coverage=0.99,
            num_threads=1,
            minloglevel=2,
        )
        if settings.pop("rules", False):
            options["normalization_rule_tsv"] = "rules"
        sentencepiece.SentencePieceTrainer.train(**(options | settings))
        made = Path("tokenizer.model").read_bytes()
    (folder / "tokenizer.model").write_bytes(made)


RULES = [
    ("41 308", "C4"),  # a base and its accent
    ("65 301", "E9"),
    ("FB01", "66 69"),  # ligatures
    ("FDFA", "635 644 649"),
    ("2163", "49 56"),
    ("2167", "56 49 49 49"),
    ("FF21", "41"),  # wide letters
    ("BD", "31 2044 32"),
    ("A0", "20"),
    ("9", "20"),
    ("200B", ""),
    ("FEFF", ""),
    ("41", "61"),  # letter case
    ("54", "74"),
]


LLAMA = dict(
    model_type="bpe",
    byte_fallback=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    split_digits=True,
    allow_whitespace_only_pieces=True,
)
GEMMA = LLAMA | dict(
    add_dummy_prefix=False,
    pad_id=0,
    eos_id=1,
    bos_id=2,
    unk_id=3,
    pad_piece="<pad>",
    eos_piece="<eos>",
    bos_piece="<bos>",
    user_defined_symbols=["<mask>", "<start_of_turn>", "  ", "   ", "\t"],
)


def gpt2(folder: Path) -> None:
    bytes_bpe(folder, ["<|endoftext|>"])
    write(folder, "config.json", {"model_type": "gpt2"})


def gpt2_prefix(folder: Path) -> None:
    """With a space before the text, and tokens that the vocabulary lacks."""
    bytes_bpe(folder, [])
    write(folder, "config.json", {"model_type": "gptj"})
    settings = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True, "pad_token": "<pad>"}
    write(folder, "tokenizer_config.json", settings)
    write(folder, "added_tokens.json", {"<|im_start|>": 421, "<|im_end|>": 422})


def opt(folder: Path) -> None:
    """As facebook/opt-6.7b: EOS serves as BOS, which the files beside the vocabulary say."""
    bytes_bpe(folder, ["<s>", "<pad>", "</s>", "<unk>"])
    write(folder, "config.json", {"model_type": "opt", "bos_token_id": 2, "eos_token_id": 2})

    def token(content: str) -> dict:
        flags = dict(lstrip=False, normalized=True, rstrip=False, single_word=False)
        return {"__type": "AddedToken", "content": content, **flags}

    settings = {
        "errors": "replace",
        "unk_token": token("</s>"),
        "bos_token": token("</s>"),
        "eos_token": token("</s>"),
        "pad_token": token("<pad>"),
        "add_prefix_space": False,
        "add_bos_token": True,
        "special_tokens_map_file": None,
        "tokenizer_class": "GPT2Tokenizer",
    }
    write(folder, "tokenizer_config.json", settings)
    special = {role: token("</s>") for role in ("bos_token", "eos_token", "unk_token")}
    special = {role: {k: v for k, v in value.items() if k != "__type"} for role, value in special.items()}
    write(folder, "special_tokens_map.json", special | {"pad_token": "<pad>"})


def gpt_neox(folder: Path) -> None:
    bytes_bpe(folder, ["<|endoftext|>", "<|padding|>"])
    write(folder, "config.json", {"model_type": "gpt_neox"})
    write(folder, "tokenizer_config.json", {"tokenizer_class": "GPTNeoXTokenizer"})


def qwen2(folder: Path) -> None:
    bytes_bpe(folder, [])
    write(folder, "config.json", {"model_type": "qwen2"})
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    flags = dict(lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
    settings = {
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(420 + place): {"content": name, **flags} for place, name in enumerate(names)
        },
        "additional_special_tokens": names[1:],
        "bos_token": None,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    write(folder, "tokenizer_config.json", settings)


def llama(folder: Path) -> None:
    pieces(folder, **LLAMA)
    write(folder, "config.json", {"model_type": "llama"})
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True}
    settings |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None}
    write(folder, "tokenizer_config.json", settings)


def llama_legacy(folder: Path) -> None:
    """The first releases, with pieces of the user's own and tokens added later."""
    pieces(folder, **LLAMA, user_defined_symbols=["[INST]", "wooden"])
    write(folder, "config.json", {"model_type": "llama"})
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": True}
    write(folder, "tokenizer_config.json", settings)
    write(folder, "special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    write(folder, "added_tokens.json", {"<pad>": 500})


def llama_bare(folder: Path) -> None:
    """Nothing beside the pieces, and no space before the text."""
    pieces(folder, **(LLAMA | dict(remove_extra_whitespaces=True, split_digits=False)))
    write(folder, "config.json", {"model_type": "llama", "tokenizer_class": "LlamaTokenizer"})
    write(folder, "tokenizer_config.json", {"add_prefix_space": False})


def mistral(folder: Path) -> None:
    """By the settings in the pieces' own file: no class of transformers fits the model."""
    pieces(folder, **LLAMA)
    write(folder, "config.json", {"model_type": "mistral"})
    flags = dict(lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
    names = ["<unk>", "<s>", "</s>"]
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "legacy": True,
        "added_tokens_decoder": {
            str(place): {"content": name, **flags} for place, name in enumerate(names)
        },
        "additional_special_tokens": [],
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    write(folder, "tokenizer_config.json", settings)


def pieces_of_the_user(folder: Path) -> None:
    """As above, normalised, without bytes to fall back on, with pieces that are never merged."""
    own = dict(byte_fallback=False, rules=True, remove_extra_whitespaces=True)
    pieces(folder, **(LLAMA | own), user_defined_symbols=["[INST]", "[/INST]", "wood", "wooden"])
    write(folder, "config.json", {"model_type": "olmo2"})
    write(folder, "tokenizer_config.json", {"legacy": False})


def renamed(folder: Path) -> None:
    """Placeholders among the pieces get their names from tokenizer_config.json."""
    pieces(folder, **LLAMA, user_defined_symbols=["<reserved_1>", "<reserved_2>"])
    write(folder, "config.json", {"model_type": "phi3"})
    flags = dict(lstrip=False, normalized=True, rstrip=True, single_word=False, special=True)
    names = {"3": "<|im_start|>", "4": "<|im_end|>", "500": "<|endoftext|>"}
    settings = {
        "tokenizer_class": "LlamaTokenizer",
        "added_tokens_decoder": {id: {"content": name, **flags} for id, name in names.items()},
        "eos_token": "<|endoftext|>",
    }
    write(folder, "tokenizer_config.json", settings)


def unigram(folder: Path) -> None:
    pieces(folder, model_type="unigram", vocab_size=400, rules=True)
    write(folder, "config.json", {"model_type": "olmo2"})


def unigram_bytes(folder: Path) -> None:
    settings = dict(rules=True, add_dummy_prefix=False, byte_fallback=True)
    pieces(folder, model_type="unigram", vocab_size=560, **settings)
    write(folder, "config.json", {"model_type": "stablelm"})


def gemma(folder: Path) -> None:
    pieces(folder, **GEMMA)
    write(folder, "config.json", {"model_type": "gemma"})
    settings = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "bos_token": "<bos>"}
    settings |= {"eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    write(folder, "tokenizer_config.json", settings)


def tiktoken(folder: Path) -> None:
    """Llama 3's kind: tokens as base64 with their ranks."""
    bytes_bpe(folder, [])
    alphabet = {letter: byte for byte, letter in bytes_to_unicode().items()}
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").unlink()
    lines = []
    # Bytes have the first ranks; in the trained vocabulary they are sorted by their letters.
    for token, rank in sorted(vocabulary.items(), key=lambda item: item[1]):
        raw = bytes(alphabet[letter] for letter in token)
        lines.append(f"{base64.b64encode(raw).decode()} {rank}\n")
    (folder / "tiktoken.model").write_text("".join(lines))
    write(folder, "config.json", {"model_type": "llama"})
    flags = dict(lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
    names = {"420": "<|endoftext|>", "422": "<|im_start|>"}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {id: {"content": name, **flags} for id, name in names.items()},
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
    }
    write(folder, "tokenizer_config.json", settings)


def bytes_to_unicode() -> dict[int, str]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return bytes_to_unicode()


KINDS = [
    gpt2,
    gpt2_prefix,
    opt,
    gpt_neox,
    qwen2,
    llama,
    llama_legacy,
    llama_bare,
    mistral,
    pieces_of_the_user,
    renamed,
    unigram,
    unigram_bytes,
    gemma,
    tiktoken,
]


def build(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    expected = {"texts": TEXTS, "ids": {}, "bos": {}}
    for kind in KINDS:
        folder = (out / kind.__name__).absolute()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        kind(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        print(kind.__name__, type(tokenizer).__name__, len(tokenizer), tokenizer.bos_token)
        encode = lambda text: tokenizer.encode(text, add_special_tokens=False)
        expected["ids"][kind.__name__] = [encode(text) for text in TEXTS]
        expected["bos"][kind.__name__] = tokenizer.bos_token_id
    lines = json.dumps(expected, separators=(",", ":")).replace("],[", "],\n[")
    (out / "expected.json").write_text(lines + "\n")
