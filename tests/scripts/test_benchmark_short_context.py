"""`benchmark.py short_context`: what is gained follows from the measured seconds of each window."""

import statistics

from tests.rounded_figures import is_ratio_of
from vietst.benchmarks.short_context import Work, compare_windows, describe
from vietst.benchmarks.untrained_whisper import WhisperShape
from vietst.config_schema import AudioSection

TINY = WhisperShape(d_model=32, num_layers=1, num_heads=2, vocab_size=400)


def test_all_windows_from_that_of_the_shortest_clip_on_are_measured():
    work = Work(num_utterances=1, num_label_tokens=8, num_generated_tokens=2, num_decoded_utterances=2)
    results = compare_windows(
        ["smallest"], work, num_rounds=1, durations_s=(15.0, 11.0), shapes={"smallest": TINY}
    )
    (case,) = results["cases"]
    assert list(case["train_cpu_seconds"]) == ["15", "20", "30"]
    at_15, at_11 = case["gains"]
    assert (at_15["window_s"], at_11["window_s"]) == (20.0, 15.0)
    cost = {window: statistics.median(times) for window, times in case["train_cpu_seconds"].items()}
    longer, share = (cost["20"] + cost["30"]) / 2, AudioSection().context_longer_share
    mean = (1 - share) * cost["15"] + share * longer
    for told, numerator, denominator in (
        ("train_times_faster", cost["30"], cost["15"]),
        ("longer_windows_cost_times", longer, cost["15"]),
        ("train_times_faster_with_longer_windows", cost["30"], mean),
    ):
        assert is_ratio_of(at_11[told], numerator, denominator, digits=4), told
    assert at_11["generate_times_faster"] > 0
    assert "bar at 5 s: 3" in describe(results)
