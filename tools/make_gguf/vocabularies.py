"""GGUF files with a vocabulary and next to no weights, and the ids that the tokenizer it was made from gives.

Byte-level vocabularies are trained with the normalizer and the pre-tokenizer that the models have whose name
is in `tokenizer.ggml.pre`; those of pieces with sentencepiece, and read as transformers reads its files.
"""

import json
import tempfile
from pathlib import Path

import gguf
import numpy as np
import sentencepiece
from gguf import TokenType
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers_and_text import text
from transformers import AutoTokenizer

SCRIPTS = [
    "Ελληνικά Русский العربية עברית हिन्दी বাংলা தமிழ் ไทย 中文字符 日本語テキスト 한국어 ქართული Հայերեն አማርኛ",
    "cafe\u0301 man\u0303ana caf\u00e9 \u1e69 \ufb01 \u2126 Ⅷ ½ ² ٣٤ १२३ 𝟘𝟙 １２３",
    "emoji 😀👍🏽👨‍👩‍👧‍👦🇩🇪 \u200b\u200d\ufeff \u00a0nbsp\u2003em \x01\x02\x7f control",
    "don't I'LL they'Re we've 'd ''s camelCaseHTTPServer snake_case foo(bar)[0] += 1; // http://a.b/c?d=e&f=%20",
    "Tabs\tand  spaces   here    12 345 6789  1 a1b2 1234567\n\n\n  indented\r\nCRLF\r\n\r\n x \n ~~~ ¡¿ «» „“ … — –",
    "<|begin|>user<|end|> <s> </s> <unk> [INST] <tool>x</tool>  <tool> end",
    " leading, trailing ",
    "  two",
    "",
    "\n",
    "a",
]

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{{N}}{{1,3}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pattern(*patterns: str, digits: bool = False) -> pre_tokenizers.PreTokenizer:
    steps = [pre_tokenizers.Split(Regex(one), "isolated") for one in patterns]
    steps += [pre_tokenizers.Digits(individual_digits=True)] * digits
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def usual() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def digits() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), usual()])


# Name, whether characters are composed, the pre-tokenizer, whether a whole part may be a token.
BYTE_LEVEL = [
    ("gpt-2", False, usual(), False),
    ("olmo", True, usual(), False),
    ("smollm", False, digits(), False),
    ("command-r", True, digits(), False),
    ("llama-bpe", False, pattern(LLAMA3), True),
    ("dbrx", False, pattern(LLAMA3), False),
    ("qwen2", True, pattern(QWEN2), False),
    ("tekken", False, pattern(TEKKEN), True),
    ("gpt-4o", False, pattern(GPT4O), False),
    (
        "deepseek-coder",
        False,
        pattern(r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", digits=True),
        False,
    ),
]


def build_all(folder: Path) -> str:
    """All files, and `ids.json`: by file the ids of every text."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, composed, split, ignore_merges in BYTE_LEVEL:
        found[name] = byte_level(folder, name, composed, split, ignore_merges)
    for name, prefix in (("pieces", True), ("pieces-without-prefix", False)):
        found[name] = pieces(folder, name, prefix)
    document = {"texts": SCRIPTS, "ids": found}
    lines = json.dumps(document, ensure_ascii=True).replace('], "', '],\n"').replace("], [", "],\n[")
    (folder / "ids.json").write_text(lines + "\n", encoding="utf-8")
    return f"{len(found)} vocabularies, {sum(path.stat().st_size for path in folder.iterdir()) // 1024} KiB"


def learned() -> list[str]:
    """What vocabularies are trained on."""
    return [text()[:6000], *SCRIPTS[:5]]


def byte_level(folder: Path, name: str, composed: bool, split, ignore_merges: bool) -> list[list[int]]:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|begin|>", "<|end|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(learned(), trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    model = json.loads(tokenizer.to_str())["model"]
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    if ignore_merges:
        # A whole part that no merges lead to.
        model["merges"] = [merge for merge in model["merges"] if "".join(merge) not in ("Ġbridge", "Ġlibrary")]
        model["ignore_merges"] = True
        changed = json.loads(tokenizer.to_str())
        changed["model"]["merges"] = model["merges"]
        tokenizer = Tokenizer.from_str(json.dumps(changed))
    tokens = [token for token, _ in sorted(vocab.items(), key=lambda item: item[1])]
    kinds = [TokenType.NORMAL] * len(tokens)
    for special in ("<|begin|>", "<|end|>"):
        kinds[vocab[special]] = TokenType.CONTROL
    kinds[vocab["<tool>"]] = TokenType.USER_DEFINED
    # As a table with more rows than tokens is filled up.
    tokens, kinds = [*tokens, "[PAD]"], [*kinds, TokenType.UNUSED]
    writer = start(folder, name, len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(vocab["<|begin|>"])
    writer.add_eos_token_id(vocab["<|end|>"])
    finish(writer, len(tokens))
    return [tokenizer.encode(one, add_special_tokens=False).ids for one in SCRIPTS]


def pieces(folder: Path, name: str, prefix: bool) -> list[list[int]]:
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter("\n".join(learned()).split("\n")),
            model_prefix=str(place / "tokenizer"),
            model_type="bpe",
            vocab_size=560,
            character_coverage=0.98,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            add_dummy_prefix=prefix,
            minloglevel=2,
        )
        config = {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": prefix, "legacy": True}
        config |= {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        (place / "tokenizer_config.json").write_text(json.dumps(config))
        (place / "config.json").write_text(json.dumps({"model_type": "llama"}))
        read = sentencepiece.SentencePieceProcessor(model_file=str(place / "tokenizer.model"))
        tokenizer = as_published(AutoTokenizer.from_pretrained(place).backend_tokenizer, prefix)
        ids = [tokenizer.encode(one, add_special_tokens=False).ids for one in SCRIPTS]
    for one, own in zip(SCRIPTS, ids, strict=True):
        # sentencepiece takes the names of special tokens for text.
        if "<s>" not in one and read.encode(one) != own:
            raise ValueError(f"{name}: sentencepiece gives {read.encode(one)} for {one!r}, not {own}")
    count = read.vocab_size()
    kinds = []
    for index in range(count):
        if read.is_unknown(index):
            kinds.append(TokenType.UNKNOWN)
        elif read.is_control(index):
            kinds.append(TokenType.CONTROL)
        elif read.is_byte(index):
            kinds.append(TokenType.BYTE)
        else:
            kinds.append(TokenType.NORMAL)
    writer = start(folder, name, count)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([read.id_to_piece(index) for index in range(count)])
    writer.add_token_scores([read.get_score(index) for index in range(count)])
    writer.add_token_types(kinds)
    writer.add_add_space_prefix(prefix)
    writer.add_bos_token_id(read.bos_id())
    writer.add_eos_token_id(read.eos_id())
    writer.add_unk_token_id(read.unk_id())
    finish(writer, count)
    return ids


def as_published(tokenizer: Tokenizer, prefix: bool) -> Tokenizer:
    """With the normalizer that the tokenizer.json of Llama 2 and of Gemma has: as sentencepiece, and other
    than transformers 5 when it converts, a text that begins with a space gets another."""
    content = json.loads(tokenizer.to_str())
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    before = {"type": "Prepend", "prepend": "▁"}
    content["normalizer"] = {"type": "Sequence", "normalizers": [before, spaces]} if prefix else spaces
    content["pre_tokenizer"] = None
    return Tokenizer.from_str(json.dumps(content))


def start(folder: Path, name: str, vocabulary: int) -> gguf.GGUFWriter:
    """The smallest model that there is."""
    writer = gguf.GGUFWriter(folder / f"{name}.gguf", "llama")
    writer.add_vocab_size(vocabulary)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(2)
    writer.add_feed_forward_length(1)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    return writer


def finish(writer: gguf.GGUFWriter, vocabulary: int) -> None:
    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, np.ones(shape, np.float16 if len(shape) > 1 else np.float32))

    add("token_embd.weight", vocabulary, 2)
    add("output_norm.weight", 2)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        add(f"blk.0.{name}.weight", 2, 2)
    add("blk.0.ffn_gate.weight", 1, 2)
    add("blk.0.ffn_up.weight", 1, 2)
    add("blk.0.ffn_down.weight", 2, 1)
    add("blk.0.attn_norm.weight", 2)
    add("blk.0.ffn_norm.weight", 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
