"""Measure what this project claims about its speed, on this machine.

    python scripts/benchmark.py features [--manifest data/export/manifest_clean.tsv] [--num_proc 1]
    python scripts/benchmark.py feature_scaling [--sizes 1000 10000 100000] [--num_proc 2]
    python scripts/benchmark.py training_step
    python scripts/benchmark.py short_context
    python scripts/benchmark.py frozen_encoder
    python scripts/benchmark.py memory
    python scripts/benchmark.py batch_seconds [paths.features_dir=data/features …]
    python scripts/benchmark.py scaling [paths.features_dir=data/features …]
    python scripts/benchmark.py reading [paths.features_dir=data/features …]
    python scripts/benchmark.py start [paths.features_dir=data/features …]
    python scripts/benchmark.py generation [--manifest data/export/manifest_clean.tsv]
    python scripts/benchmark.py scoring [--manifest data/export/manifest_clean.tsv] [--num_utterances 100000]
    python scripts/benchmark.py long_form [--minutes 60] [--speed_minutes 60] [--num_threads 1]
    python scripts/benchmark.py audit [--model outputs/nano_whisper] [--corpus_seed 3] [--fault_seed 1]
    python scripts/benchmark.py audit_training [--model outputs/nano_whisper] [--seeds 1 2 3]

features: the feature cache against the public Hugging Face recipe (30 s padded float32), on the same clips
with the same number of processes. feature_scaling: memory and time from the manifest to the features, by
number of utterances, also drawn to benchmarks/feature_scaling.png. training_step: a step on both tasks,
encoding once, against the doubled batch in a plain Seq2SeqTrainer, at the sizes of Whisper tiny and of
wav2vec2-base + mBART-50 with its full and a trimmed vocabulary (16 GB, tens of minutes on a CPU).
short_context: training steps and generation of short clips in short windows (`audio.context: bucketed`)
against the window of 30 s, at the dimensions of Whisper tiny and small (10 minutes on a CPU).
frozen_encoder: a step on cached states of the frozen encoder against computing them, and against the decoder
alone, at true sizes with random weights (10 GB, tens of minutes on a CPU). memory: the memory plan against
the peak of training steps at the sizes of Whisper small and of wav2vec2-base + mBART-50 with a trimmed
vocabulary (8 GB). batch_seconds: training of nano_e2e on the corpus at hand with batches by seconds, against
batches of equally many clips in random order. scaling: training of nano_whisper there by two processes
against one. reading: the share of its time that this training waits for data, with one worker. start: how
long `--help` of every script takes, and the first training step against the imports alone. generation:
decoding clips for both tasks against transformers' pipeline, at Whisper tiny's dimensions. scoring: all that
an evaluation computes from texts, intervals included, against jiwer and sacreBLEU alone on the same texts.
long_form: a long recording by SpeechTranslator against transformers' chunked pipeline, both tasks, at Whisper
small's dimensions with random weights; and the memory of an hour against that of six minutes (5 GB; of the
hour the translator hears about 135 windows, for 6 s of CPU time each, the pipeline 360).
audit: which faults of a sample corpus, put there with known truth, the audit finds at its suggested
thresholds, and how many good rows it drops; the seed model must not have seen that corpus. audit_training:
scores of nano_whisper trained on that corpus without faults, with them, and with what the audit leaves (a
training for each of these and each seed; with --work_dir, finished ones are used again).
Each prints its figures and ratios, and adds them with the machine and the versions to
benchmarks/<stage>.json. Run it on an idle machine.
"""

import argparse
from pathlib import Path
from typing import Any

from vietst.runtime import quiet_libraries, run_script

REPO_ROOT = Path(__file__).resolve().parents[1]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output_dir", type=Path, default=Path("benchmarks"), help="where results go")
    stages = parser.add_subparsers(dest="stage", required=True, metavar="STAGE")
    features = stages.add_parser("features", help="building the feature cache")
    features.add_argument("--manifest", type=Path, default=Path("data/export/manifest_clean.tsv"))
    features.add_argument("--data_root", type=Path, default=Path(), help="audio_path is relative to it")
    features.add_argument("--num_utterances", type=int, default=2000, help="the first of the manifest")
    features.add_argument("--num_proc", type=int, default=1, help="processes, for both")
    features.add_argument("--work_dir", type=Path, help="for temporary files: 1 MB per utterance")
    sizes = stages.add_parser("feature_scaling", help="memory and time by number of utterances")
    sizes.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], metavar="N")
    sizes.add_argument("--num_proc", type=int, default=2, help="processes of the build")
    sizes.add_argument("--work_dir", type=Path, help="for temporary files: 10 kB per utterance")
    step = stages.add_parser("training_step", help="a training step on both tasks")
    step.add_argument("--num_utterances", type=int, default=2, help="clips in a batch")
    step.add_argument("--num_label_tokens", type=int, default=40, help="tokens of each target")
    step.add_argument("--num_rounds", type=int, default=5, help="timed steps of each way")
    short = stages.add_parser("short_context", help="short clips in short windows")
    short.add_argument("--num_utterances", type=int, default=2, help="clips in a batch")
    short.add_argument("--num_rounds", type=int, default=3, help="timed steps in each window")
    frozen = stages.add_parser("frozen_encoder", help="a training step on cached encoder states")
    frozen.add_argument("--num_utterances", type=int, default=2, help="clips in a batch")
    frozen.add_argument("--duration_s", type=float, default=10.0, help="seconds of each clip")
    frozen.add_argument("--num_label_tokens", type=int, default=40, help="tokens of each target")
    frozen.add_argument("--num_rounds", type=int, default=5, help="timed steps of each way")
    stages.add_parser("memory", help="forecast and measured memory of training steps")
    seconds = stages.add_parser("batch_seconds", help="training with batches by seconds")
    seconds.add_argument("--max_steps", type=int, help="steps of each way; default: an epoch")
    seconds.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the configuration nano_e2e"
    )
    scaling = stages.add_parser("scaling", help="training by two processes and by one")
    scaling.add_argument("--max_steps", type=int, default=100, help="steps of each run")
    scaling.add_argument("--num_rounds", type=int, default=2, help="runs of each kind")
    scaling.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the configuration nano_whisper"
    )
    reading = stages.add_parser("reading", help="how long training waits for data")
    reading.add_argument("--max_steps", type=int, default=400, help="steps of the training")
    reading.add_argument("--num_rounds", type=int, default=5, help="passes over the batches")
    reading.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the configuration nano_whisper"
    )
    start = stages.add_parser("start", help="help, refusals and the first training step")
    start.add_argument("--num_rounds", type=int, default=5, help="measurements of each kind")
    start.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the configuration nano_whisper"
    )
    generation = stages.add_parser("generation", help="decoding clips for both tasks")
    generation.add_argument("--manifest", type=Path, default=Path("data/export/manifest_clean.tsv"))
    generation.add_argument("--data_root", type=Path, default=Path(), help="audio_path is relative to it")
    generation.add_argument("--num_utterances", type=int, default=32, help="the first of the manifest")
    generation.add_argument("--num_tokens", type=int, default=24, help="generated for each clip and task")
    generation.add_argument("--num_rounds", type=int, default=3, help="timed decodings of each way")
    scoring = stages.add_parser("scoring", help="scores and intervals of an evaluation")
    scoring.add_argument("--manifest", type=Path, default=Path("data/export/manifest_clean.tsv"))
    scoring.add_argument(
        "--num_utterances",
        type=int,
        default=100_000,
        help="texts of the manifest, repeated with other errors",
    )
    long_form = stages.add_parser("long_form", help="long recordings against transformers' pipeline")
    long_form.add_argument("--manifest", type=Path, default=Path("data/export/manifest_clean.tsv"))
    long_form.add_argument("--data_root", type=Path, default=Path(), help="audio_path is relative to it")
    long_form.add_argument("--minutes", type=float, default=60.0, help="of speech, for the memory")
    long_form.add_argument("--speed_minutes", type=float, help="of speech, for the speed; default: as many")
    long_form.add_argument("--num_tokens", type=int, default=60, help="of each window and task")
    long_form.add_argument("--batch_size", type=int, default=8, help="windows in a batch")
    long_form.add_argument("--num_threads", type=int, default=1, help="of each way")
    audit = stages.add_parser("audit", help="faults found in a corpus, and false alarms")
    audit.add_argument("--model", default="outputs/nano_whisper", help="seed model; an empty text: none")
    add_faulty_corpus_options(audit)
    trainings = stages.add_parser("audit_training", help="training on clean, faulty and audited rows")
    trainings.add_argument("--model", default="outputs/nano_whisper", help="seed model of the audit")
    trainings.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="a training for each")
    trainings.add_argument("--max_steps", type=int, default=1000, help="steps of each training")
    add_faulty_corpus_options(trainings)
    trainings.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="changes to the configuration nano_whisper"
    )
    return parser.parse_args()


def add_faulty_corpus_options(stage: argparse.ArgumentParser) -> None:
    stage.add_argument("--corpus_seed", type=int, default=3, help="of the sample corpus")
    stage.add_argument("--fault_seed", type=int, default=1, help="of the choice of faulty rows")
    stage.add_argument("--num_utterances", type=int, default=4000, help="of the sample corpus")
    stage.add_argument("--num_videos", type=int, default=88, help="that they come from")
    stage.add_argument("--share", type=float, default=0.05, help="of the rows, for each kind of fault")
    stage.add_argument("--num_proc", type=int, default=1, help="videos spoken, and trainings, at once")
    stage.add_argument("--work_dir", type=Path, help="keeps everything there (default: nothing is kept)")


def measure(stage: str, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The results of a stage, and what is printed about them."""
    quiet_libraries()
    if stage == "features":
        from vietst.benchmarks import feature_build

        results = feature_build.benchmark_manifest(
            options.pop("manifest"), options.pop("data_root"), **options
        )
        return results, feature_build.describe(results)
    if stage == "feature_scaling":
        from vietst.benchmarks import feature_scaling

        results = feature_scaling.measure_scaling(options.pop("sizes"), **options)
        return results, feature_scaling.describe(results)
    if stage == "short_context":
        from vietst.benchmarks import short_context

        num_rounds = options.pop("num_rounds")
        results = short_context.compare_windows(short_context.Work(**options), num_rounds=num_rounds)
        return results, short_context.describe(results)
    if stage == "frozen_encoder":
        from vietst.benchmarks import frozen_encoder

        num_rounds = options.pop("num_rounds")
        results = frozen_encoder.compare_cases(
            frozen_encoder.published_cases(), frozen_encoder.Workload(**options), num_rounds=num_rounds
        )
        return results, frozen_encoder.describe(results)
    if stage == "batch_seconds":
        from vietst.benchmarks import batch_seconds

        results = batch_seconds.compare_batches(options.pop("overrides"), **options)
        return results, batch_seconds.describe(results)
    if stage == "scaling":
        from vietst.benchmarks import scaling

        results = scaling.compare_processes(REPO_ROOT, options.pop("overrides"), **options)
        return results, scaling.describe(results)
    if stage == "reading":
        from vietst.benchmarks import reading

        results = reading.measure_reading(options.pop("overrides"), **options)
        return results, reading.describe(results)
    if stage == "start":
        from vietst.benchmarks import start

        results = start.measure_start(REPO_ROOT, options.pop("overrides"), **options)
        return results, start.describe(results)
    if stage == "generation":
        from vietst.benchmarks import generation

        results = generation.compare_generation(options.pop("manifest"), options.pop("data_root"), **options)
        return results, generation.describe(results)
    if stage == "scoring":
        from vietst.benchmarks import scoring

        results = scoring.compare_scoring(options.pop("manifest"), **options)
        return results, scoring.describe(results)
    if stage == "long_form":
        from vietst.benchmarks import long_form

        results = long_form.compare_long_form(options.pop("manifest"), options.pop("data_root"), **options)
        return results, long_form.describe(results)
    if stage in ("audit", "audit_training"):
        return measure_audit_stage(stage, options)
    if stage == "memory":
        from vietst.benchmarks import memory

        results = memory.compare_cases(memory.published_cases())
        results["doubled_batch"] = memory.compare_with_doubled_batch()
        return results, memory.describe(results)
    from vietst.benchmarks import training_step

    num_rounds = options.pop("num_rounds")
    results = training_step.compare_cases(
        training_step.published_cases(), training_step.StepWorkload(**options), num_rounds=num_rounds
    )
    return results, training_step.describe(results)


def measure_audit_stage(stage: str, options: dict[str, Any]) -> tuple[dict[str, Any], str]:
    from vietst.benchmarks.faulty_corpus import FaultyCorpusOptions

    names = ("corpus_seed", "fault_seed", "num_utterances", "num_videos", "share")
    corpus = FaultyCorpusOptions(**{name: options.pop(name) for name in names})
    if stage == "audit":
        from vietst.benchmarks import audit_recall

        model = options.pop("model") or None
        results = audit_recall.measure_audit(REPO_ROOT, corpus, model=model, **options)
        return results, audit_recall.describe(results)
    from vietst.benchmarks import audit_training

    results = audit_training.compare_trainings(REPO_ROOT, corpus, options.pop("overrides"), **options)
    return results, audit_training.describe(results)


def main() -> None:
    options = vars(parse_arguments())
    stage, output_dir = options.pop("stage"), options.pop("output_dir")
    results, description = measure(stage, options)
    from vietst.benchmarks.results import add_result

    if stage == "feature_scaling":
        from vietst.benchmarks.feature_scaling import draw

        output_dir.mkdir(parents=True, exist_ok=True)
        draw(results).savefig(output_dir / "feature_scaling.png")
    print(f"{description}\nadded to {add_result(output_dir, stage, results)}")


if __name__ == "__main__":
    run_script(main)
