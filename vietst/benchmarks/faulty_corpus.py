"""The sample corpus that audits are measured on: made with a seed of its own, cleaned, made faulty, audited.

All lies in one folder, to which audio paths are relative. What is there already is used again.
"""

from dataclasses import dataclass
from pathlib import Path

from vietst.benchmarks.script_runs import run_checkout_script
from vietst.data.manifest import preprocess_manifest
from vietst.data.sample_corpus import CorpusOptions, make_sample_corpus


@dataclass(frozen=True)
class FaultyCorpusOptions:
    """Which corpus, and how faulty.

    Attributes:
        corpus_seed: of the sample corpus; not the one that the seed model was trained on (1 by default).
        fault_seed: of the choice of rows and of the varieties of faults.
        num_utterances: clips of the corpus.
        num_videos: videos that they come from.
        share: of the rows, for each kind of fault.
    """

    corpus_seed: int = 3
    fault_seed: int = 1
    num_utterances: int = 4000
    num_videos: int = 88
    share: float = 0.05


def make_clean_corpus(folder: Path, options: FaultyCorpusOptions, *, num_proc: int) -> Path:
    """The corpus without faults, cleaned. Returns its manifest."""
    corpus = CorpusOptions(options.num_utterances, options.num_videos, seed=options.corpus_seed)
    manifest = make_sample_corpus(folder / "corpus", corpus, data_root=folder, num_proc=num_proc)
    clean = manifest.with_name("manifest_clean.tsv")
    preprocess_manifest(manifest, clean, audio_root=folder, num_proc=num_proc, progress=False)
    return clean


def run_audit(
    repo_root: Path,
    manifest: Path,
    output_dir: Path,
    *,
    audio_root: Path,
    model: str | None,
    drop: str | None = None,
    kept: Path | None = None,
) -> None:
    """`scripts/audit_manifest.py`, with one process for the audio.

    Args:
        model: the seed model; None: no signals of a model.
        drop: rows to drop; None: none.
        kept: where the others go.
    """
    arguments = ["--manifest", str(manifest), "--output", str(output_dir)]
    arguments += ["--audio_root", str(audio_root), "--num_proc", "1"]
    for option, value in (("--model", model), ("--drop", drop), ("--kept", kept)):
        arguments += [] if value is None else [option, str(value)]
    run_checkout_script(repo_root, "audit_manifest.py", arguments)
