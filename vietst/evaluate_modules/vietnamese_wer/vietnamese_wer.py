"""Word error rate of Vietnamese–English text with this project's normalizer, as a module of `evaluate`.

    evaluate.load("vietst/evaluate_modules/vietnamese_wer").compute(predictions=[…], references=[…])

In Vietnamese a word between spaces is a syllable. Case, punctuation and tone placement are set equal, tones
are kept (`vietst.text.normalize_for_scoring`). Needs no network; vietst is installed.
"""

import datasets
import evaluate

import vietst.evaluation.metrics
import vietst.text


class VietnameseWer(evaluate.Metric):
    """`compute` returns `wer` (percent, over the whole corpus) and the `normalizer`'s id."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions and references: lists of texts as they are",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float | str]:
        normalize = vietst.text.normalize_for_scoring
        return {
            "wer": vietst.evaluation.metrics.word_error_rate(
                [normalize(text) for text in references], [normalize(text) for text in predictions]
            ),
            "normalizer": vietst.text.NORMALIZER_ID,
        }
