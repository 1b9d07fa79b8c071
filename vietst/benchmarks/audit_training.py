"""Benchmark stage `audit_training`: what a faulty corpus costs a model, and how much an audit wins back.

A sample corpus is split by video, and faults are put into its train split. The configuration nano_whisper is
trained on three train splits, from nothing and for equally many steps, with several seeds each: the clean
one, the faulty one, and what the audit's suggested thresholds leave of the faulty one. No checkpoint is
chosen: the last step's model counts. All are scored on the same clean test split.
"""

import hashlib
import json
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from vietst.audit.signals import suggested_drop
from vietst.benchmarks.faulty_corpus import FaultyCorpusOptions, make_clean_corpus, run_audit
from vietst.benchmarks.injected_faults import inject_faults
from vietst.benchmarks.results import Bar
from vietst.benchmarks.script_runs import run_checkout_script
from vietst.config import load_config
from vietst.constants import SPLITS
from vietst.data.feature_cache import build_feature_cache
from vietst.data.preparation import input_kind_of_config
from vietst.data.splits import split_manifest
from vietst.data.tables import open_table, read_table, write_table
from vietst.runtime import get_logger

CONDITIONS: Final = ("clean", "faulty", "audited")
SCORES: Final = ("wer", "bleu")

MIN_RECOVERED: Final = 0.6
"""Share of the rise in WER that the audit should win back."""

_logger = get_logger(__name__)


def measure(repo_root: Path, overrides: Sequence[str], model: str, **options: Any) -> dict[str, Any]:
    """`compare_trainings`; an empty model is none, `options` also has `FaultyCorpusOptions`' fields."""
    corpus = FaultyCorpusOptions(
        **{field.name: options.pop(field.name) for field in fields(FaultyCorpusOptions)}
    )
    return compare_trainings(repo_root, corpus, overrides, model=model or None, **options)


def bars(results: dict[str, Any]) -> list[Bar]:
    recovered = [share for share in results["recovered"] if share is not None]
    if not recovered:
        return []
    mean = statistics.mean(recovered)
    return [Bar("share of the gap in WER recovered", mean, MIN_RECOVERED, at_least=True)]


def compare_trainings(
    repo_root: Path,
    options: FaultyCorpusOptions,
    overrides: Sequence[str],
    *,
    model: str | None,
    seeds: Sequence[int],
    max_steps: int,
    num_proc: int,
    work_dir: Path | None,
) -> dict[str, Any]:
    """Scores of all trainings, and the share of the gap in WER that the audit closes.

    Args:
        repo_root: the checkout, whose scripts audit, train and evaluate.
        overrides: changes to the configuration nano_whisper, `section.key=value`.
        model: the seed model of the audit; None: signals of audio and texts only.
        seeds: of first weights and of the order of the batches; a training for each and each split.
        num_proc: trainings at once, one thread each; videos that are spoken at once.
        work_dir: where everything stays, and finished trainings are found; None: a temporary folder.

    Raises:
        VietstError: a model that cannot be used, or a script that fails.
    """
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as temporary:
        folder = (work_dir or Path(temporary)).resolve()
        splits = make_train_splits(repo_root, folder, options, model=model, num_proc=num_proc)
        runs = [(condition, seed) for seed in seeds for condition in CONDITIONS]
        for condition in CONDITIONS:
            _build_features(folder, splits[condition])
        with ThreadPoolExecutor(num_proc) as threads:
            scores = list(
                threads.map(
                    lambda run: train_and_score(
                        repo_root, folder, splits[run[0]], overrides, seed=run[1], max_steps=max_steps
                    ),
                    runs,
                )
            )
        num_rows = {name: len(read_table(path / "train.csv")) for name, path in splits.items()}
    by_condition = {
        condition: [score for (name, _), score in zip(runs, scores, strict=True) if name == condition]
        for condition in CONDITIONS
    }
    return {
        "model": model,
        **asdict(options),
        "overrides": list(overrides),
        "seeds": list(seeds),
        "max_steps": max_steps,
        "drop": suggested_drop(with_model=model is not None),
        "num_train_rows": num_rows,
        "scores": by_condition,
        "recovered": recovered_shares(by_condition),
    }


def recovered_shares(scores: dict[str, list[dict[str, float]]]) -> list[float | None]:
    """For each seed, the share of the rise in WER from clean to faulty that the audited rows take back.

    None where nothing rises, as after too few steps.
    """
    wers = {condition: [score["wer"] for score in of_seeds] for condition, of_seeds in scores.items()}
    return [
        round((faulty - audited) / (faulty - clean), 4) if faulty > clean else None
        for clean, faulty, audited in zip(wers["clean"], wers["faulty"], wers["audited"], strict=True)
    ]


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    lines = [
        f"nano_whisper, {results['max_steps']} steps, seeds {', '.join(map(str, results['seeds']))}",
        f"{'train split':<12}{'rows':>6}  WER %: mean (each)          BLEU: mean (each)",
    ]
    for condition, scores in results["scores"].items():
        columns = [
            f"{statistics.mean(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})"
            for values in ([score[name] for score in scores] for name in SCORES)
        ]
        lines.append(f"{condition:<12}{results['num_train_rows'][condition]:>6}  {'  '.join(columns)}")
    recovered = ["no gap" if share is None else f"{share:.0%}" for share in results["recovered"]]
    lines.append(f"recovered share of the gap in WER, for each seed: {', '.join(recovered)}")
    return "\n".join(lines)


# --- three train splits -----------------------------------------------------------------------------------


def make_train_splits(
    repo_root: Path, folder: Path, options: FaultyCorpusOptions, *, model: str | None, num_proc: int
) -> dict[str, Path]:
    """The folders of the splits of each condition, with equal dev and test."""
    manifest = make_clean_corpus(folder, options, num_proc=num_proc)
    clean = folder / "clean" / "splits"
    split_manifest(manifest, clean)
    faulty = folder / "faulty" / "train.tsv"
    train = folder / "clean" / "train.tsv"
    write_table(train, read_table(clean / "train.csv"), open_table(clean / "train.csv").columns)
    inject_faults(train, faulty, audio_root=folder, share=options.share, seed=options.fault_seed)
    audited = folder / "audited" / "train.tsv"
    run_audit(
        repo_root,
        faulty,
        folder / "audit",
        audio_root=folder,
        model=model,
        drop=suggested_drop(with_model=model is not None),
        kept=audited,
    )
    return {"clean": clean, "faulty": _with_train(clean, faulty), "audited": _with_train(clean, audited)}


def _with_train(clean_splits: Path, train: Path) -> Path:
    """Splits like the clean ones but with another train split, as splitting anew makes them."""
    table = open_table(train)
    rows = [row for _, row in table.rows()]
    for split in SPLITS[1:]:
        rows += read_table(clean_splits / f"{split}.csv")
    manifest = train.with_name("manifest_clean.tsv")
    write_table(manifest, rows, open_table(clean_splits / "train.csv").columns)
    splits = train.with_name("splits")
    if not splits.is_dir():
        shutil.copytree(clean_splits, splits)  # rows that are known keep their split
    split_manifest(manifest, splits)
    return splits


# --- training -----------------------------------------------------------------------------------------------


def _build_features(folder: Path, splits_dir: Path) -> None:
    kind = input_kind_of_config(load_config("nano_whisper", []).config)
    build_feature_cache(
        splits_dir, splits_dir.with_name("features"), kind, audio_root=folder, num_proc=1, progress=False
    )


def train_and_score(
    repo_root: Path, folder: Path, splits_dir: Path, overrides: Sequence[str], *, seed: int, max_steps: int
) -> dict[str, float]:
    """Trains with one seed, unless that was done already, and scores on the test split."""
    decisive = [(splits_dir / "train.csv").read_text(encoding="utf-8"), list(overrides), seed, max_steps]
    digest = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:12]
    run_dir = splits_dir.with_name(f"run-seed{seed}-{digest}")
    metrics_path = run_dir / "results" / f"{run_dir.name}_metrics.json"
    if not metrics_path.is_file():
        own = [
            f"paths.data_root={folder.as_posix()}",
            f"paths.splits_dir={splits_dir.as_posix()}",
            f"paths.features_dir={splits_dir.with_name('features').as_posix()}",
            f"model.name={splits_dir.with_name(f'base-seed{seed}-{digest}').as_posix()}",
            *(f"output.dir={run_dir.as_posix()}", f"nano.seed={seed}", f"training.seed={seed}"),
            *(f"training.max_steps={max_steps}", f"training.save_steps={max_steps}"),
            *("training.eval_strategy=no", "training.load_best_model_at_end=false"),
            "training.report_to=none",
        ]
        run_checkout_script(
            repo_root,
            "train_whisper.py",
            ["--config", "nano_whisper", *own, *overrides],
            launch_config="cpu",
        )
        model = ["--model_dir", str(run_dir), "--model_type", "whisper"]
        test = ["--test_csv", str(splits_dir / "test.csv"), "--audio_root", str(folder)]
        run_checkout_script(
            repo_root, "run_evaluation.py", [*model, *test, "--output", str(metrics_path.parent)]
        )
    metrics = json.loads(metrics_path.read_text(encoding="utf-8"))
    scores = {name: metrics[name] for name in SCORES}
    _logger.info("%s, seed %d: %s", splits_dir.parent.name, seed, scores)
    return scores
