"""A tiny corpus, overrides that make the nano configurations tiny and deterministic, and what runs leave."""

import json
from pathlib import Path


def make_tiny_corpus(root: Path) -> Path:
    """A folder with `data/export`, `data/splits` and both nano feature caches of 60 spoken utterances."""
    from vietst.data.feature_cache import build_feature_cache
    from vietst.data.features import LOG_MEL_80_NANO, WAVEFORM_16K
    from vietst.data.manifest import preprocess_manifest
    from vietst.data.sample_corpus import CorpusOptions, make_sample_corpus
    from vietst.data.splits import split_manifest

    data = root / "data"
    export = data / "export"
    make_sample_corpus(export, CorpusOptions(num_utterances=60, num_videos=12, seed=1), data_root=root)
    preprocess_manifest(export / "manifest.tsv", export / "manifest_clean.tsv", audio_root=root, num_proc=1)
    split_manifest(export / "manifest_clean.tsv", data / "splits", ratios=(0.6, 0.2, 0.2), seed=42)
    for kind in (LOG_MEL_80_NANO, WAVEFORM_16K):
        build_feature_cache(data / "splits", data / "features", kind, audio_root=root, num_proc=1)
    return root


def tiny_run_overrides(corpus: Path, folder: Path) -> list[str]:
    """Of `nano_whisper`: 4 steps in fp32, unmasked, over the tiny corpus; all its files below `folder`."""
    sizes = ("nano.d_model=32", "nano.encoder_layers=1", "nano.decoder_layers=1", "nano.ffn_dim=64")
    return [*sizes, *short_run_overrides(corpus, folder)]


def tiny_e2e_run_overrides(corpus: Path, folder: Path) -> list[str]:
    """The same of `nano_e2e`."""
    sizes = {
        "encoder_width": 32,
        "encoder_layers": 1,
        "encoder_ffn_dim": 64,
        "decoder_width": 48,
        "decoder_layers": 1,
        "decoder_ffn_dim": 64,
        "vocab_size": 320,
    }
    return [
        *(f"model.{part}={(folder / 'parts' / part).as_posix()}" for part in ("encoder", "decoder")),
        *(f"nano_e2e.{name}={size}" for name, size in sizes.items()),
        *short_run_overrides(corpus, folder),
        "training.batch_seconds=null",
    ]


def short_run_overrides(corpus: Path, folder: Path) -> list[str]:
    """Of both, without the sizes of their models."""
    return [
        f"model.name={(folder / 'nano').as_posix()}",
        f"paths.data_root={corpus.as_posix()}",
        f"paths.splits_dir={(corpus / 'data' / 'splits').as_posix()}",
        f"paths.features_dir={(corpus / 'data' / 'features').as_posix()}",
        f"output.dir={(folder / 'run').as_posix()}",
        "training.bf16=false",
        "training.batch_size=4",
        "training.max_steps=4",
        "training.logging_steps=1",
        "training.eval_steps=4",
        "training.save_steps=4",
        "training.report_to=none",
        "augmentation.mask_time_prob=0",
        "augmentation.mask_feature_prob=0",
        "evaluation.max_new_tokens_base=6",
        "evaluation.max_new_tokens_per_second=1",
    ]


def history(run_dir: Path, key: str) -> list[float]:
    """All logged values of a run, in order: `loss`, `grad_norm`, `eval_wer` …"""
    path = next((run_dir / "metrics").glob("*_metrics.json"))
    entries = json.loads(path.read_text(encoding="utf-8"))["history"]
    return [entry[key] for entry in entries if key in entry]
