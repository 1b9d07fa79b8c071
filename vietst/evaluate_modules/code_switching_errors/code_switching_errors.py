"""Error rates by language of code-switched Vietnamese–English transcripts, as a module of `evaluate`.

    evaluate.load("vietst/evaluate_modules/code_switching_errors").compute(predictions=[…], references=[…])

A tagger tells the language of each word; case and punctuation of the references help it, so texts go in as
they are (`vietst.evaluation.code_switching`). Needs no network; vietst is installed.
"""

from typing import Any

import datasets
import evaluate

import vietst.evaluation.code_switching
import vietst.text


class CodeSwitchingErrors(evaluate.Metric):
    """`compute` returns what `vietst.evaluation.code_switching.error_rates` does, in percent over the whole
    corpus (`pier` on English words, `wer_vietnamese`, `wer_switch_points` …), and the `normalizer`'s id.

    English words that were translated are not told apart, since that takes reference translations.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions and references: lists of texts as they are",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, Any]:
        code_switching = vietst.evaluation.code_switching
        counts = code_switching.count_errors(references, predictions)
        return {**code_switching.error_rates(counts), "normalizer": vietst.text.NORMALIZER_ID}
