"""What a run needs before its weights: the processor, and the rows that the model can learn from."""

import contextlib
import dataclasses
import functools
import json
import random
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vietst.config_rules import accumulation_steps
from vietst.config_schema import AudioSection, PathsSection, RunConfig
from vietst.constants import TASKS
from vietst.data.batching import UtteranceDataset
from vietst.data.context import Context, ContextWindows, WindowDraws, windows_of
from vietst.data.ctc_units import CharacterTable, CtcTable, SubwordTable, describe_table
from vietst.data.duration_batches import DurationBatchSampler, fixed_length_s
from vietst.data.feature_cache import open_feature_cache
from vietst.data.features import InputKind, input_kind_of
from vietst.data.hub_features import open_hub_features
from vietst.data.preparation import input_kind_of_config
from vietst.data.source_weights import DrawnUtterances, EpochDraws
from vietst.data.sources import (
    LANGUAGE_COLUMN,
    SOURCE_COLUMN,
    is_monolingual,
    manifests_of,
    paths_of,
)
from vietst.data.splits import read_audit, read_split
from vietst.data.streaming import RemoteShards, StreamedUtteranceDataset
from vietst.data.styled_texts import in_style
from vietst.data.takedown_features import refuse_taken_down
from vietst.data.takedown_list import read_takedown
from vietst.data.usable_rows import usable_rows
from vietst.errors import ConfigError
from vietst.evaluation.extra_sets import ExtraSet, SetReader
from vietst.models.architectures import ARCHITECTURES, Architecture
from vietst.models.base_models import base_facts, make_base_model
from vietst.models.e2e_base_card import trimming_of
from vietst.models.languages import require_languages
from vietst.runtime import get_logger, rank, world_size
from vietst.text_style import styled

if TYPE_CHECKING:
    import datasets

logger = get_logger(__name__)


@dataclasses.dataclass
class Preparation:
    """What a run needs before its weights: processor, data, and the facts that are recorded about them."""

    architecture: Architecture
    processor: Any
    input_kind: InputKind
    tasks: tuple[str, ...]
    train: UtteranceDataset
    dev: UtteranceDataset
    extra_sets: list[ExtraSet]
    """Scored beside dev."""
    dev_languages: list[str]
    """Of the transcripts of dev's utterances."""
    ctc_table: CtcTable | None
    train_batches: DurationBatchSampler | None
    """Batches by seconds; None: `training.batch_size` utterances each."""
    drawn: DrawnUtterances | None
    """Order of the utterances of batches that are not by seconds; None: each once, in random order."""
    facts: dict[str, Any]
    windows: ContextWindows | None = None
    """Besides the model's own; None: that alone."""
    longer_share: float = 0.0
    """Of the training, heard in longer windows than it needs."""

    @property
    def context(self) -> Context:
        return Context.of(self.input_kind, self.windows)

    def collator(self, tasks: Sequence[str], language: str, ctc_table: CtcTable | None = None) -> Any:
        """Of the architecture, for targets of these tasks."""
        # Only Whispers have windows.
        options = {} if self.windows is None else {"windows": self.windows}
        return self.architecture.collator(
            self.processor, self.input_kind, tasks, language, ctc_table, **options
        )

    @property
    def num_train_utterances(self) -> int:
        """That an epoch hears."""
        if self.train_batches is not None:
            return self.train_batches.num_utterances
        return len(self.train if self.drawn is None else self.drawn)


@dataclasses.dataclass(frozen=True)
class _OpenedFeatures:
    cache: "datasets.DatasetDict"
    facts: dict[str, str]
    """Where they come from, for the record."""
    remote_shards: dict[str, RemoteShards]
    """Of the splits whose features are fetched by the batch."""

    def utterances(self, split: str, positions: Sequence[int]) -> UtteranceDataset:
        rows = self.cache[split].select(positions)
        if split in self.remote_shards:
            return StreamedUtteranceDataset(rows, self.remote_shards[split])
        return UtteranceDataset(rows)


def prepare(config: RunConfig) -> Preparation:
    """Open what training reads: the base model's processor and the feature cache that fits it."""
    architecture = ARCHITECTURES[config.model.type]
    _make_base_model(config)
    processor = architecture.load_processor(config.model.name)
    model_config = architecture.load_model_config(config.model.name)
    input_kind = input_kind_of(processor.feature_extractor)
    opened = _open_features(config, input_kind)
    cache = opened.cache
    for split in cache:
        cache[split] = in_style(cache[split], config.text.style)
    tasks = TASKS if config.model.task == "both" else (config.model.task,)
    limit = architecture.max_label_length(model_config)
    kept: dict[str, UtteranceDataset] = {}
    rejected: list[dict[str, Any]] = []
    for split in ("train", "dev"):
        texts = cache[split].select_columns(["id", "transcript", "translation", "duration_s"]).to_list()
        positions, left_out = usable_rows(
            texts, tasks, architecture.label_lengths, processor.tokenizer, limit, input_kind
        )
        rejected += [{"split": split, **row} for row in left_out]
        if not positions:
            raise ConfigError(
                where=f"split {split}",
                rule=f"at least one utterance with a text for {' or '.join(tasks)} that fits the model",
                found=f"none of {len(cache[split])}",
                do=f"see the reasons in {run_folder(config) / 'rejected_rows.tsv'}",
            )
        if split == "dev":
            positions = evaluation_sample(
                cache[split], positions, config.evaluation.max_dev_utterances, config.training.seed
            )
        kept[split] = opened.utterances(split, positions)
    languages = {language for data in kept.values() for language in _languages_of(data)}
    languages -= {"", config.model.language}
    require_languages(languages, architecture, processor.tokenizer, where="column language of train and dev")
    extra_sets, left_out = SetReader(
        config.evaluation,
        config.model.language,
        config.paths.data_root,
        config.training.seed,
        architecture,
        processor.tokenizer,
        limit,
        input_kind,
        config.text.style,
    ).read_all()
    _report_rejected(run_folder(config), rejected + left_out)
    ctc_table = _ctc_table(config, architecture, processor, kept["train"].rows["transcript"])
    windows = windows_of(config.audio) if config.audio.context == "bucketed" else None
    draws = _draws(config, kept["train"])
    train_batches = _batches_by_seconds(config, kept["train"], Context.of(input_kind, windows), draws)
    return Preparation(
        architecture=architecture,
        processor=processor,
        input_kind=input_kind,
        tasks=tasks,
        train=kept["train"],
        dev=kept["dev"],
        extra_sets=extra_sets,
        dev_languages=[language or config.model.language for language in _languages_of(kept["dev"])],
        ctc_table=ctc_table,
        train_batches=train_batches,
        drawn=None
        if draws is None or train_batches is not None
        else DrawnUtterances(draws, config.training.seed),
        facts={
            "base_model": config.model.name,
            **base_facts(config),
            "architecture": config.model.type,
            "tasks": list(tasks),
            "language": config.model.language,
            "input_kind": input_kind.name,
            "ctc_units": describe_table(ctc_table) if ctc_table else None,
            **_vocabulary_facts(config),
            **opened.facts,
            **_data_facts(kept),
            **_source_facts(config, kept["train"], draws),
            "extra_sets": {extra_set.name: extra_set.digest for extra_set in extra_sets},
        },
        windows=windows,
        longer_share=config.audio.context_longer_share,
    )


def _ctc_table(
    config: RunConfig, architecture: Architecture, processor: Any, transcripts: Iterable[str]
) -> CtcTable | None:
    if config.loss.ctc_weight == 0:
        return None
    if config.loss.ctc_units == "characters":
        return CharacterTable.of_texts(transcripts)
    tokenize = functools.partial(architecture.text_token_ids, processor.tokenizer)
    return SubwordTable.of_texts(transcripts, tokenize)


def _draws(config: RunConfig, train: UtteranceDataset) -> EpochDraws | None:
    """What an epoch hears; None: each utterance once, as where there is one source, or no weight but 1."""
    weights = {name: source.weight for name, source in config.data.sources.items()}
    if not weights:
        return None
    known = set(_sources_of(train))
    if known != set(weights):
        told = ", ".join(sorted(name or "no source" for name in known))
        raise ConfigError(
            where=f"data.sources: {', '.join(weights)}",
            rule="every utterance of train is of one of these sources, and each of them has some",
            found=f"features of {told}",
            do=f"{build_command(config, input_kind_of_config(config))}; or take out a source without rows",
        )
    if set(weights.values()) == {1.0}:
        return None
    return EpochDraws(_sources_of(train), train.rows["duration_s"][:], weights, config.training.seed)


def _sources_of(train: UtteranceDataset) -> list[str]:
    if SOURCE_COLUMN not in train.rows.column_names:
        return [""] * len(train)
    return list(train.rows[SOURCE_COLUMN][:])


def _languages_of(data: UtteranceDataset) -> list[str]:
    """Of the transcripts; empty: the model's."""
    if LANGUAGE_COLUMN not in data.rows.column_names:
        return [""] * len(data)
    return list(data.rows[LANGUAGE_COLUMN][:])


def _source_facts(config: RunConfig, train: UtteranceDataset, draws: EpochDraws | None) -> dict[str, Any]:
    if not config.data.sources:
        return {}
    num_utterances = Counter(_sources_of(train))
    num_heard = num_utterances if draws is None else draws.num_by_source
    return {
        "sources": {
            name: {
                "weight": source.weight,
                "num_utterances": num_utterances[name],
                "num_heard_in_an_epoch": num_heard.get(name, 0),
            }
            for name, source in config.data.sources.items()
        }
    }


def _batches_by_seconds(
    config: RunConfig, train: UtteranceDataset, context: Context, draws: EpochDraws | None
) -> DurationBatchSampler | None:
    training, num_processes = config.training, world_size()
    if training.batch_seconds is None:
        return None
    windows = None
    if config.audio.context == "bucketed":
        own = np.array([context.index_of_clip(num_frames) for num_frames in train.rows["num_frames"][:]])
        windows = WindowDraws(context.windows_s, own, config.audio.context_longer_share)
    return DurationBatchSampler(
        train.rows["duration_s"][:],
        training.batch_seconds,
        seed=training.seed,
        batches_per_step=accumulation_steps(training, num_processes) * num_processes,
        num_processes=num_processes,
        fixed_length_s=None if windows else fixed_length_s(context.input_kind),
        windows=windows,
        draws=draws,
    )


def build_command(config: RunConfig, kind: InputKind) -> str:
    """The one command that builds the features this run needs, in its folders, and cleaned as it says."""
    words = ["python", "scripts/build_features.py", "--kinds", kind.name, *_changed_keys(config)]
    if config.data.require_translation and any(map(is_monolingual, paths_of(manifests_of(config)))):
        words.append("data.require_translation=false")
    return shlex.join(words)


def take_down_command(config: RunConfig) -> str:
    """The one command that removes what the takedown list names, in the folders of this run."""
    return shlex.join(["python", "scripts/take_down.py", *_changed_keys(config)])


def _changed_keys(config: RunConfig) -> list[str]:
    """What cleaning, splitting and building read and the run states otherwise than the configuration `base`.

    But for `training.seed`: splits stay as they are, whatever the seed of a training.
    """
    paths, defaults = config.paths, PathsSection()
    changed = [
        f"paths.{key}={getattr(paths, key)}"
        for key in PathsSection.model_fields
        if getattr(paths, key) != getattr(defaults, key)
    ]
    limit_s = config.audio.max_length_seconds
    if limit_s != AudioSection().max_length_seconds:
        changed.append(f"audio.max_length_seconds={limit_s}")
    own = config.data.model_dump(mode="json", exclude={"sources", "stream_features"}, exclude_defaults=True)
    changed += [f"data.{key}={json.dumps(value)}" for key, value in own.items()]
    if config.data.sources:
        sources = config.data.sources.items()
        manifests = {
            name: {"manifest": source.manifest.as_posix()}
            | ({} if source.language is None else {"language": source.language})
            for name, source in sources
        }
        changed.append(f"data.sources={json.dumps(manifests)}")
    return changed


def _vocabulary_facts(config: RunConfig) -> dict[str, Any]:
    trimming = trimming_of(Path(config.model.name)) if config.model.trim_vocabulary else None
    if trimming is None:
        return {}
    return {
        "vocabulary_pieces": trimming.num_pieces,
        "vocabulary_pieces_before_trimming": trimming.num_pieces_before,
    }


def _open_features(config: RunConfig, kind: InputKind) -> _OpenedFeatures:
    """The cache, from its folder or from the Hub."""
    paths = config.paths
    if isinstance(paths.features_dir, str):
        with _one_process_first():
            features = open_hub_features(paths.features_dir, kind, streamed=_streamed_splits(config))
        refuse_taken_down(
            features.cache,
            read_takedown(paths.takedown_path),
            where=features.address,
            do="train on features that were built and pushed after the takedown: "
            f"python scripts/build_features.py --kinds {kind.name} --push_to_hub OWNER/NAME",
        )
        if "train" in features.remote_shards:
            num_bytes = sum(features.cache["train"]["num_frames"]) * kind.bytes_per_frame
            logger.info(
                "train's features stay on the Hub: %.2f GB come over the network in every epoch, one request "
                "for each utterance; order and resuming are those of downloaded features",
                num_bytes / 1e9,
            )
        facts = {"split_hash": features.split_hash, "features": features.address}
        return _OpenedFeatures(features.cache, facts, features.remote_shards)
    cache = open_feature_cache(
        paths.splits_dir,
        paths.features_dir,
        kind,
        audio_root=paths.data_root,
        build_command=build_command(config, kind),
    )
    refuse_taken_down(
        cache,
        read_takedown(paths.takedown_path),
        where=str(paths.features_dir),
        do=take_down_command(config),
    )
    return _OpenedFeatures(cache, {"split_hash": read_audit(paths.splits_dir)["split_hash"]}, {})


def _streamed_splits(config: RunConfig) -> tuple[str, ...]:
    """All but dev, which is small and read again and again."""
    return ("train", "test") if config.data.stream_features else ()


def _training_texts(config: RunConfig) -> list[str]:
    """Transcripts and translations of the training split, as the model is to write them."""
    paths, columns = config.paths, ("transcript", "translation")
    if isinstance(paths.features_dir, str):
        features = open_hub_features(
            paths.features_dir, input_kind_of_config(config), streamed=_streamed_splits(config)
        )
        rows: Any = features.cache["train"].select_columns(list(columns))
    else:
        rows = read_split(paths.splits_dir, "train")
    return [styled(row[column], config.text.style) for row in rows for column in columns if row[column]]


def _one_process_first() -> contextlib.AbstractContextManager[None]:
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available()).main_process_first()


def _data_facts(kept: dict[str, UtteranceDataset]) -> dict[str, Any]:
    return {
        "num_train_utterances": len(kept["train"]),
        "num_dev_utterances": len(kept["dev"]),
        "train_hours": round(sum(kept["train"].rows["duration_s"]) / 3600, 4),
    }


def _make_base_model(config: RunConfig) -> None:
    """Make the base model where it is to be made and missing, on one process while the others wait."""
    with _one_process_first(), _without_zero_3():
        for made in make_base_model(config, functools.partial(_training_texts, config)):
            logger.info("made %s", made)


@contextlib.contextmanager
def _without_zero_3() -> Iterator[None]:
    """Load models whole: ZeRO-3 would share them out, among processes of which all but one are waiting."""
    from transformers.integrations import deepspeed

    configuration = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = configuration


def evaluation_sample(rows: Any, positions: list[int], limit: int | None, seed: int) -> list[int]:
    """At most `limit` of the positions, drawn by the seed, longest first so that batches pad little."""
    if limit is not None and len(positions) > limit:
        positions = random.Random(seed).sample(positions, limit)
    durations = rows["duration_s"][:]
    return sorted(positions, key=lambda position: (-durations[position], position))


def _report_rejected(run_dir: Path, rejected: list[dict[str, Any]]) -> None:
    if rank() != 0:
        return
    path = run_dir / "rejected_rows.tsv"
    path.unlink(missing_ok=True)
    if not rejected:
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    lines = [
        "split\tid\treason\tdetail",
        *("\t".join(str(value) for value in row.values()) for row in rejected),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    logger.warning("%d utterances cannot be used by this model; the reasons: %s", len(rejected), path)


def run_folder(config: RunConfig) -> Path:
    assert config.output.dir is not None  # filled in by load_config
    return config.output.dir
