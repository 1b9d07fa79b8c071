"""The corpus that the tests of real checkpoints train on."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def spoken_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with splits and both Whisper feature caches of 30 utterances, as the default paths name them."""
    from vietst.data.feature_cache import build_feature_cache
    from vietst.data.features import LOG_MEL_80, LOG_MEL_128
    from vietst.data.manifest import preprocess_manifest
    from vietst.data.sample_corpus import CorpusOptions, make_sample_corpus
    from vietst.data.splits import split_manifest

    root = tmp_path_factory.mktemp("spoken")
    export, splits = root / "data" / "export", root / "data" / "splits"
    make_sample_corpus(export, CorpusOptions(num_utterances=30, num_videos=10, seed=1), data_root=root)
    preprocess_manifest(export / "manifest.tsv", export / "manifest_clean.tsv", audio_root=root, num_proc=1)
    split_manifest(export / "manifest_clean.tsv", splits, ratios=(0.7, 0.15, 0.15), seed=42)
    for kind in (LOG_MEL_80, LOG_MEL_128):
        build_feature_cache(splits, root / "data" / "features", kind, audio_root=root, num_proc=1)
    return root
