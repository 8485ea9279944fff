"""Tokenizers, trained on a text with the library `tokenizers`: a token per character or byte-pair encoding.

Byte-pair encoding starts from the 256 bytes and repeatedly joins the most frequent pair of neighbours, so it
can represent every text. Source: Sennrich, Haddow & Birch (2016), "Neural Machine Translation of Rare Words
with Subword Units", arXiv:1508.07909; over bytes as in Radford et al. (2019), "Language Models are
Unsupervised Multitask Learners".
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from zoo.tasks.baseline import places_of

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Token for each character that does not occur in the training text."""
MOST = 1 << 16  # tokens
TOKEN = "token"
"""Baseline name of the distribution of token numbers."""
EDGE = 256  # characters at either end of a part, whose tokens may differ in the whole text
OBSERVED_TOKENS = 64  # tokens of a text to compare with the training split's


def character_tokenizer(text: str) -> Tokenizer:
    """Returns a tokenizer with a token for each character of the text, after one for all other characters."""
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.train_from_iterator(
        [text], trainers.WordLevelTrainer(vocab_size=MOST, special_tokens=[UNKNOWN], show_progress=False)
    )
    return tokenizer


def byte_pair_tokenizer(texts: Iterable[str], vocabulary: int, special: tuple[str, ...] = ()) -> Tokenizer:
    """Returns a tokenizer of `vocabulary` tokens, special ones first; it has fewer if the texts are short."""
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


def token_bytes(tokenizer: Tokenizer) -> tuple[bytes, ...]:
    """Returns the UTF-8 bytes of each token, by number; with byte pairs, maybe a part of a character."""
    tokens = [tokenizer.id_to_token(number) or "" for number in range(tokenizer.get_vocab_size())]
    if not isinstance(tokenizer.decoder, decoders.ByteLevel):
        return tuple(token.encode() for token in tokens)
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    # A byte that is not a visible character of Latin-1 is written as one of the characters after Latin-1.
    written = {chr(byte): byte for byte in plain}
    written |= {chr(0x100 + i): byte for i, byte in enumerate(sorted({*range(0x100)} - {*plain}))}
    added = {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}
    return tuple(
        added[number].encode() if number in added else bytes(written[letter] for letter in token)
        for number, token in enumerate(tokens)
    )


def surely_longer(tokenizer: Tokenizer, text: str, most: int, part: int) -> bool:
    """Returns True if a text of more than `part` characters certainly has more than `most` tokens.

    Tokenizes one part at a time until that is certain: a thousand characters take up to 4 ms.
    """
    if len(text) <= part:
        return False
    found = 0
    for begin in range(0, len(text), part):
        piece = text[begin : begin + part]
        places = tokenizer.encode(piece, add_special_tokens=False).offsets
        found += sum(start >= EDGE and end <= len(piece) - EDGE for start, end in places)
        if found > most:
            return True
    return False


def observed_tokens(tokens: NDArray[np.int64], padding: int | None = None) -> NDArray[np.float32]:
    """Returns evenly spaced tokens [N, OBSERVED_TOKENS] of texts [N, T]; NaN where a text has no more.

    Tokenizers number tokens by frequency, or from single bytes to longer sequences, so near numbers stand for
    similar tokens.
    """
    length = tokens.shape[1]
    observed = np.full((len(tokens), OBSERVED_TOKENS), np.nan, np.float32)
    taken = tokens if length <= OBSERVED_TOKENS else tokens[:, places_of(length, OBSERVED_TOKENS)]
    observed[:, : taken.shape[1]] = taken
    if padding is not None:
        observed[observed == padding] = np.nan
    return observed
