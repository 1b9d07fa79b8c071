"""Benchmark stage `scoring`: all that an evaluation computes from texts, against jiwer and sacreBLEU alone.

Texts are those of a manifest, over and over with other errors each time: words that are left out, said twice
or exchanged for others. Copies of a video count as videos of their own. Both ways run in one process, one
after the other.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from vietst.benchmarks.inputs import manifest_rows
from vietst.benchmarks.results import Bar
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.report import write_results
from vietst.evaluation.without_model import baselines
from vietst.text import normalize_for_scoring

MAX_SECONDS: Final = 300.0
"""For `NUM_UTTERANCES_OF_TARGET`, on two cores."""

NUM_UTTERANCES_OF_TARGET: Final = 100_000

ERROR_SHARE: Final = 0.15
"""Of words; about what a usable model makes."""

SEED: Final = 1


def compare_scoring(manifest: Path, *, num_utterances: int) -> dict[str, Any]:
    """Seconds both ways.

    Raises:
        VietstError: a manifest that cannot be read or holds no utterance.
    """
    predictions = make_predictions(manifest, num_utterances)
    libraries_s = _timed_libraries(predictions)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-") as folder:
        training = [p.transcript for p in predictions], [p.translation for p in predictions]
        scored = baselines(predictions, *training, seed=SEED)
        write_results(Path(folder), "benchmark", predictions, None, {}, scored)
    ours_s = time.perf_counter() - start
    return {
        "num_utterances": num_utterances,
        "num_videos": len({p.video_id for p in predictions}),
        "num_words": sum(len(f"{p.transcript} {p.translation}".split()) for p in predictions),
        "libraries_s": {name: round(seconds, 5) for name, seconds in libraries_s.items()},
        "ours_s": round(ours_s, 3),
        "times_libraries": round(ours_s / sum(libraries_s.values()), 3),
    }


def make_predictions(manifest: Path, num_utterances: int) -> list[Prediction]:
    """Utterances of a manifest, repeated as often as it takes, with errors in both hypotheses.

    Raises:
        VietstError: a manifest that cannot be read or holds no utterance.
    """
    rows = manifest_rows(manifest)
    generator = random.Random(SEED)
    vocabulary = [word for row in rows for word in row["transcript"].split()]
    predictions = []
    for number in range(num_utterances):
        copy, row = number // len(rows), rows[number % len(rows)]
        transcript, translation = row["transcript"], row["translation"]
        predictions.append(
            Prediction(
                id=f"{row['id']}/{copy}",
                video_id=f"{row['video_id']}/{copy}",
                duration_s=float(row["duration"]),
                transcript=transcript,
                translation=translation,
                transcript_hypothesis=_with_errors(transcript, vocabulary, generator),
                translation_hypothesis=_with_errors(translation, vocabulary, generator),
            )
        )
    return predictions


def _with_errors(text: str, vocabulary: Sequence[str], generator: random.Random) -> str:
    written: list[str] = []
    for word in text.split():
        kind = generator.choice(("left out", "twice", "other")) if generator.random() < ERROR_SHARE else ""
        if kind == "twice":
            written += [word, word]
        elif kind == "other":
            written.append(generator.choice(vocabulary))
        elif not kind:
            written.append(word)
    return " ".join(written)


def _timed_libraries(predictions: Sequence[Prediction]) -> dict[str, float]:
    """Seconds of the plain calls on the same texts: error rates on normalized ones, the rest on raw ones."""
    import jiwer
    import sacrebleu

    said = [normalize_for_scoring(p.transcript) for p in predictions]
    heard = [normalize_for_scoring(str(p.transcript_hypothesis)) for p in predictions]
    translations = [[p.translation for p in predictions]]
    translated = [str(p.translation_hypothesis) for p in predictions]
    calls = {
        "wer": lambda: jiwer.wer(said, heard),
        "cer": lambda: jiwer.cer(said, heard),
        "bleu": lambda: sacrebleu.corpus_bleu(translated, translations),
        "chrf": lambda: sacrebleu.corpus_chrf(translated, translations),
        "chrf++": lambda: sacrebleu.corpus_chrf(translated, translations, word_order=2),
    }
    seconds = {}
    for name, call in calls.items():
        start = time.perf_counter()
        call()
        seconds[name] = time.perf_counter() - start
    return seconds


def bars(results: dict[str, Any]) -> list[Bar]:
    """Only at the size that the target speaks of."""
    if results["num_utterances"] < NUM_UTTERANCES_OF_TARGET:
        return []
    return [Bar("100,000 utterances, all scores (s)", results["ours_s"], MAX_SECONDS, at_least=False)]


def describe(results: dict[str, Any]) -> str:
    """The results for people."""
    of_libraries = ", ".join(f"{name} {seconds:.1f}" for name, seconds in results["libraries_s"].items())
    lines = [
        f"{results['num_utterances']:,} utterances, {results['num_videos']:,} videos, "
        f"{results['num_words']:,} words of references",
        f"jiwer and sacreBLEU alone: {sum(results['libraries_s'].values()):.1f} s ({of_libraries})",
        f"everything but TER, baselines and intervals included: {results['ours_s']:.1f} s, "
        f"{results['times_libraries']:.2f} times that",
    ]
    if results["num_utterances"] >= NUM_UTTERANCES_OF_TARGET:
        verdict = "met" if results["ours_s"] < MAX_SECONDS else "MISSED"
        lines.append(f"under {MAX_SECONDS:g} s for {NUM_UTTERANCES_OF_TARGET:,} on two cores: {verdict}")
    return "\n".join(lines)
