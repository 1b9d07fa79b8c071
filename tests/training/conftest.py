"""A tiny real corpus — spoken, cleaned, split, cached — that the training tests share."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vietst.config import LoadedConfig, load_config


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `data/export`, `data/splits` and the nano feature cache of 60 spoken utterances."""
    from vietst.data.feature_cache import build_feature_cache
    from vietst.data.features import LOG_MEL_80_NANO
    from vietst.data.manifest import preprocess_manifest
    from vietst.data.sample_corpus import CorpusOptions, make_sample_corpus
    from vietst.data.splits import split_manifest

    root = tmp_path_factory.mktemp("corpus")
    export = root / "data" / "export"
    make_sample_corpus(export, CorpusOptions(num_utterances=60, num_videos=12, seed=1), data_root=root)
    preprocess_manifest(export / "manifest.tsv", export / "manifest_clean.tsv", audio_root=root, num_proc=1)
    split_manifest(export / "manifest_clean.tsv", root / "data" / "splits", ratios=(0.6, 0.2, 0.2), seed=42)
    build_feature_cache(
        root / "data" / "splits", root / "data" / "features", LOG_MEL_80_NANO, audio_root=root, num_proc=1
    )
    return root


@pytest.fixture
def nano_config(tiny_corpus: Path, tmp_path: Path) -> Callable[..., LoadedConfig]:
    """`nano_config("training.max_steps=3")`: a tiny nano run over the tiny corpus, in fp32, unmasked."""

    def load(*overrides: str) -> LoadedConfig:
        return load_config("nano_whisper", [*tiny_run_overrides(tiny_corpus, tmp_path), *overrides])

    return load


def tiny_run_overrides(corpus: Path, folder: Path) -> list[str]:
    """Overrides that make `nano_whisper` tiny and deterministic, and keep all its files below `folder`."""
    sizes = ("nano.d_model=32", "nano.encoder_layers=1", "nano.decoder_layers=1", "nano.ffn_dim=64")
    return [
        f"paths.data_root={_posix(corpus)}",
        f"paths.splits_dir={_posix(corpus / 'data' / 'splits')}",
        f"paths.features_dir={_posix(corpus / 'data' / 'features')}",
        f"output.dir={_posix(folder / 'run')}",
        f"model.name={_posix(folder / 'nano')}",
        *sizes,
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


def _posix(path: Path) -> str:
    return str(path).replace(os.sep, "/")
