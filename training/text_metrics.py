"""Similarity of written texts to their references: BLEU and chrF by sacrebleu, ROUGE by rouge-score.

Papineni et al. (2002), "BLEU", doi:10.3115/1073083.1073135; Popović (2015), "chrF", doi:10.18653/v1/W15-3049;
Lin (2004), "ROUGE"; Post (2018), "A Call for Clarity in Reporting BLEU Scores", arXiv:1804.08771.
"""

from collections.abc import Sequence

import numpy as np

ROUGES = ("rouge1", "rouge2", "rougeL")


def translation_metrics(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Returns `bleu` and `chrf` of a whole corpus, each from 0 to 100."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {
        "bleu": BLEU().corpus_score(written, [references]).score,
        "chrf": CHRF().corpus_score(written, [references]).score,
    }


def signatures(written: Sequence[str], references: Sequence[str]) -> list[str]:
    """Returns sacrebleu's signatures, which describe how the metrics were computed."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    counted = []
    for name, metric in (("BLEU", BLEU()), ("chrF", CHRF())):
        metric.corpus_score(written, [references])  # sets the number of references in the signature
        counted.append(f"{name}: {metric.get_signature()}")
    return counted


def summary_metrics(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Returns mean F-measures of word stems, from 0 to 1: `rouge_1`, `rouge_2` and `rouge_l`."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGES), use_stemmer=True)
    scores = [scorer.score(reference, text) for text, reference in zip(written, references, strict=True)]
    return {
        f"rouge_{name.removeprefix('rouge').lower()}": float(np.mean([s[name].fmeasure for s in scores]))
        for name in ROUGES
    }


def first_words(texts: Sequence[str], count: int) -> list[str]:
    """Returns the first `count` words of each text: the baseline summary by copying."""
    return [" ".join(text.split()[:count]) for text in texts]
