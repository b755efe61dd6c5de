"""Token streams and windows of the demo corpus, shared by training and measuring."""

import numpy as np
import torch
from tokenizers import Tokenizer

from gather_corpus import DOCUMENT_MARK

BOS, EOS = 0, 1


def token_stream(work, part):
    """All documents of `part` as one array of token ids, `</s>` after each; cached in DIR."""
    cache = work / f"{part}.npy"
    if not cache.exists():
        tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
        documents = (work / f"{part}.txt").read_text(encoding="utf-8").split(f"\n{DOCUMENT_MARK}\n")
        ids = [encoding.ids + [EOS] for encoding in tokenizer.encode_batch(documents)]
        np.save(cache, np.concatenate(ids).astype(np.uint16))
    return np.load(cache)


def random_windows(stream, count, length, rng):
    """`count` windows of `length` tokens at random places, the first token replaced by `<s>`."""
    starts = rng.integers(0, len(stream) - length, size=count)
    windows = np.stack([stream[s:s + length] for s in starts]).astype(np.int64)
    windows[:, 0] = BOS
    return torch.from_numpy(windows)


def even_windows(stream, count, length, bos=True):
    """`count` windows spread evenly over the stream: the same ones at every call."""
    starts = np.linspace(0, len(stream) - length, count).astype(int)
    windows = np.stack([stream[s:s + length] for s in starts]).astype(np.int64)
    if bos:
        windows[:, 0] = BOS
    return torch.from_numpy(windows)
