"""Measure what this project claims about its speed, on this machine.

    python scripts/benchmark.py                      all stages below but the audit's, and a table of the bars
    python scripts/benchmark.py all features scaling                                              some of them
    python scripts/benchmark.py features [--manifest data/export/manifest_clean.tsv] [--num_utterances 2000]
    python scripts/benchmark.py cost_by_size [--sizes 1000 10000 100000] [--num_proc 2]
    python scripts/benchmark.py reading [paths.features_dir=data/features …]
    python scripts/benchmark.py training_step
    python scripts/benchmark.py short_context
    python scripts/benchmark.py gpu_step [--model openai/whisper-medium]
    python scripts/benchmark.py frozen_encoder
    python scripts/benchmark.py memory
    python scripts/benchmark.py batch_seconds [paths.features_dir=data/features …]
    python scripts/benchmark.py generation [--manifest data/export/manifest_clean.tsv] [--model tiny]
    python scripts/benchmark.py long_form [--minutes 60] [--speed_minutes 60] [--num_threads 1]
    python scripts/benchmark.py scoring [--manifest data/export/manifest_clean.tsv] [--num_utterances 100000]
    python scripts/benchmark.py scaling [paths.features_dir=data/features …]
    python scripts/benchmark.py start [paths.features_dir=data/features …]
    python scripts/benchmark.py audit [--model outputs/nano_whisper] [--corpus_seed 3] [--fault_seed 1]
    python scripts/benchmark.py audit_training [--model outputs/nano_whisper] [--seeds 1 2 3]

features: the feature cache against the public Hugging Face recipe (30 s padded float32), lhotse,
openai-whisper (both with the extra `benchmark`), and decoding, resampling and the Fourier transform alone.
cost_by_size: memory and time of all steps from manifest to scores, by number of utterances, also drawn.
reading: the share of its time that training nano_whisper on the corpus at hand waits for data, with one
worker. training_step: a step on both tasks, encoding once, against the doubled batch in a plain
Seq2SeqTrainer, at the sizes of Whisper tiny and of wav2vec2-base + mBART-50 with its full and a trimmed
vocabulary (16 GB, tens of minutes on a CPU). short_context: training steps and generation of short clips in
short windows (`audio.context: bucketed`) against the window of 30 s, at the dimensions of Whisper tiny and
small (10 minutes on a CPU). gpu_step: training on both tasks in bfloat16, eager and compiled, against the
matrix rate of the same GPU; without a GPU it is not part of the table. frozen_encoder: a step on cached
states of the frozen encoder against computing them, and against the decoder alone, at true sizes with random
weights (10 GB, tens of minutes on a CPU). memory: the memory plan against the peak of training steps at the
sizes of Whisper small and of wav2vec2-base + mBART-50 with a trimmed vocabulary (8 GB). batch_seconds:
training of nano_e2e on the corpus at hand with batches by seconds, against batches of equally many clips in
random order. generation: decoding clips for both tasks against transformers' pipeline and faster-whisper
(with the extra `export`), at Whisper tiny's dimensions. long_form: a long recording by SpeechTranslator
against transformers' chunked pipeline, both tasks, at Whisper small's dimensions with random weights; and
the memory of an hour against that of six minutes (5 GB; of the hour the translator hears about 135 windows,
for 6 s of CPU time each, the pipeline 360). scoring: all that an evaluation computes from texts, intervals
included, against jiwer and sacreBLEU alone on the same texts. scaling: training of nano_whisper by two
processes against one. start: how long `--help` of every script takes, and the first training step against
the imports alone. audit: which faults of a sample corpus, put there with known truth, the audit finds at its
suggested thresholds, and how many good rows it drops; the seed model must not have seen that corpus.
audit_training: scores of nano_whisper trained on that corpus without faults, with them, and with what the
audit leaves (a training for each of these and each seed; with --work_dir, finished ones are used again).
Each prints its figures and ratios, and adds them with the machine and the versions to
benchmarks/<stage>.json. Several stages run one after the other, with fewer rounds and smaller corpora where
they would take hours (each says with which), and are told together in benchmarks/table.md. Run it on an idle
machine.
"""

import argparse
from pathlib import Path

from vietst.benchmarks.stages import STAGES, add_parsers, run_stage, run_table, stages_of_table
from vietst.errors import VietstError
from vietst.runtime import quiet_libraries
from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks"), help="where results go")
    add_parsers(parser)
    arguments = parser.parse_args()
    if unknown := set(getattr(arguments, "stages", ())) - set(STAGES):
        parser.error(f"no such stage: {', '.join(sorted(unknown))} (there are {', '.join(STAGES)})")
    return arguments


def main() -> None:
    options = vars(parse_arguments())
    stage, output_dir = options.pop("stage") or "all", options.pop("output_dir")
    if stage != "all":
        quiet_libraries()
        print(run_stage(stage, options, output_dir))
        return
    all_of_speed, left_out = stages_of_table()
    named = options.get("stages")
    table, failed = run_table(Path(__file__), named or all_of_speed, output_dir)
    print(table)
    if left_out and not named:
        print(f"left out, for want of a GPU: {', '.join(left_out)}")
    if failed:
        raise VietstError(
            where="benchmark",
            rule="every stage can be measured",
            found=f"not so {', '.join(failed)}",
            do="see the messages above; the other stages are measured",
        )


if __name__ == "__main__":
    run_script(main)
