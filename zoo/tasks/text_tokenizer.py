"""Tokenizers, trained on a text with the library `tokenizers`: a token a character, or byte-pair encoding.

Byte-pair encoding starts from the 256 bytes and joins the pair that stands side by side most often, again and
again, so every text can be written in its tokens. Source: Sennrich, Haddow & Birch (2016), "Neural Machine
Translation of Rare Words with Subword Units", arXiv:1508.07909; over bytes as in Radford et al. (2019),
"Language Models are Unsupervised Multitask Learners".
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Stands for each character that the training text has not."""
MOST = 1 << 16  # tokens


def character_tokenizer(text: str) -> Tokenizer:
    """A token for each character of the text, after one for all others."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.train_from_iterator(
        [text], trainers.WordLevelTrainer(vocab_size=MOST, special_tokens=[UNKNOWN], show_progress=False)
    )
    return tokenizer


def byte_pair_tokenizer(texts: Iterable[str], vocabulary: int, special: tuple[str, ...] = ()) -> Tokenizer:
    """`vocabulary` tokens, the special ones first; fewer where the texts are short."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(special),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return tokenizer


def token_baseline(tokens: NDArray[np.int64], vocabulary: int) -> dict[str, Any]:
    """How often each token is used, as statistics of inputs that may drift: a bin a token."""
    counts = np.bincount(tokens, minlength=vocabulary)
    edges = np.arange(1, vocabulary) - 0.5
    return {"shares": (counts / counts.sum()).tolist(), "edges": edges.tolist()}
