"""Train the demo model's tokenizer: byte-level BPE, 2,048 tokens, `<s>` = 0 and `</s>` = 1.

    python tools/train_demo/train_tokenizer.py --work DIR

Reads DIR/train.txt and writes DIR/tokenizer.json. The tokenizer has no post-processor: encoding a
text adds no special token, so whoever builds a sequence decides whether `<s>` comes first.
"""

import argparse
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gather_corpus import DOCUMENT_MARK

VOCAB_SIZE = 2048


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--work", type=Path, required=True)
    work = cli.parse_args().work

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    documents = (work / "train.txt").read_text(encoding="utf-8").split(f"\n{DOCUMENT_MARK}\n")
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer.save(str(work / "tokenizer.json"))


if __name__ == "__main__":
    main()
