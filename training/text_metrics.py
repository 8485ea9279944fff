"""How near written texts come to their references: BLEU and chrF by sacrebleu, ROUGE by rouge-score.

Papineni et al. (2002), "BLEU", doi:10.3115/1073083.1073135; Popović (2015), "chrF", doi:10.18653/v1/W15-3049;
Lin (2004), "ROUGE"; Post (2018), "A Call for Clarity in Reporting BLEU Scores", arXiv:1804.08771.
"""

from collections.abc import Sequence

import numpy as np

ROUGES = ("rouge1", "rouge2", "rougeL")


def translation_metrics(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Of 100 each: `bleu` and `chrf`, of a whole corpus."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {
        "bleu": BLEU().corpus_score(written, [references]).score,
        "chrf": CHRF().corpus_score(written, [references]).score,
    }


def signatures(written: Sequence[str], references: Sequence[str]) -> list[str]:
    """How sacrebleu counted, in its own words."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    counted = []
    for name, metric in (("BLEU", BLEU()), ("chrF", CHRF())):
        metric.corpus_score(written, [references])  # it knows the number of references only afterwards
        counted.append(f"{name}: {metric.get_signature()}")
    return counted


def summary_metrics(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Mean F-measures from 0 to 1: `rouge_1`, `rouge_2` and `rouge_l`, of word stems."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGES), use_stemmer=True)
    scores = [scorer.score(reference, text) for text, reference in zip(written, references, strict=True)]
    return {
        f"rouge_{name.removeprefix('rouge').lower()}": float(np.mean([s[name].fmeasure for s in scores]))
        for name in ROUGES
    }


def first_words(texts: Sequence[str], count: int) -> list[str]:
    """The summary that copies: so many words of each text's beginning."""
    return [" ".join(text.split()[:count]) for text in texts]
