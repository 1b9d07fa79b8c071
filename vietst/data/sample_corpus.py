"""A spoken sample corpus without downloads: synthetic videos of code-switched Vietnamese, with a manifest.

Each sentence is spoken once in the whole corpus, so texts of different videos never agree. The same options
give the same bytes, whatever the number of processes.
"""

import hashlib
import json
import multiprocessing
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from vietst.data.sample_sentences import distinct_sentences
from vietst.data.sample_videos import Video, plan_speakers, speak_video
from vietst.data.speech_synthesis import synthesis_data
from vietst.errors import ManifestError, VietstError
from vietst.runtime import get_logger

CORPUS_VERSION: Final = 1
"""Raised whenever the same options give other texts or other sound."""

RECORD_NAME: Final = "sample_corpus.json"
"""The file beside the manifest that says how the corpus was made."""

COLUMNS: Final = ("id", "audio_path", "transcript", "translation", "duration", "video_id", "speaker_id")

_log = get_logger(__name__)


@dataclass(frozen=True)
class CorpusOptions:
    """What determines every byte of a sample corpus.

    Attributes:
        num_utterances: clips in all.
        num_videos: videos that they are dealt out to, as evenly as possible.
        sentence_length: "short" (about 2.5 s, below 4 s), "medium" (about 5 s) or "long" (about 10 s).
        seed: another seed, other sentences, speakers and noise.
    """

    num_utterances: int = 4000
    num_videos: int = 88
    sentence_length: str = "short"
    seed: int = 1


def plan_videos(options: CorpusOptions, audio_dir: Path) -> list[Video]:
    """Deal the sentences out to the videos.

    Raises:
        VietstError: an option is out of range, or there are not enough distinct sentences.
    """
    if not 1 <= options.num_videos <= options.num_utterances:
        raise VietstError(
            where="--num_videos",
            rule="at least one video, and at least one utterance in each",
            found=f"{options.num_videos} videos for {options.num_utterances} utterances",
            do="ask for fewer videos or for more utterances",
        )
    sentences = list(
        islice(distinct_sentences(options.seed, options.sentence_length), options.num_utterances)
    )
    if len(sentences) < options.num_utterances:
        raise VietstError(
            where="--num_utterances",
            rule="every sentence is spoken once, so that none is in two splits",
            found=f"{options.num_utterances} utterances, but only {len(sentences)} distinct "
            f"{options.sentence_length} sentences",
            do=f"ask for at most {len(sentences)} utterances",
        )
    # Templates come in turn; without a shuffle, 25 videos would get one template each.
    random.Random(f"videos {options.seed}").shuffle(sentences)
    num_digits = max(3, len(str(options.num_videos - 1)))
    return [
        Video(
            video_id=f"video_{index:0{num_digits}d}",
            speaker=speaker,
            sentences=tuple(sentences[index :: options.num_videos]),
            sentence_length=options.sentence_length,
            seed=options.seed,
            audio_dir=audio_dir / f"video_{index:0{num_digits}d}",
        )
        for index, speaker in enumerate(plan_speakers(options.num_videos, options.seed))
    ]


def make_sample_corpus(
    output_dir: Path,
    options: CorpusOptions,
    *,
    data_root: Path = Path(),
    num_proc: int = 1,
    overwrite: bool = False,
) -> Path:
    """Make the corpus, or find it made.

    Writes `output_dir/manifest.tsv`, `output_dir/audio/<video>/<nnnn>.wav` and the record of how it was made.
    The manifest comes last: where it is, the audio is complete.

    Args:
        output_dir: folder of the corpus, below `data_root`.
        options: what to make.
        data_root: `audio_path` in the manifest is relative to this folder.
        num_proc: videos spoken at the same time.
        overwrite: replace a manifest that is there already.

    Returns:
        Path of the manifest.

    Raises:
        VietstError: an option cannot be used.
        ManifestError: another manifest is in the way, and `overwrite` is not set.
    """
    manifest_path = output_dir / "manifest.tsv"
    audio_prefix = _audio_prefix(output_dir / "audio", data_root)
    record = {"corpus_version": CORPUS_VERSION, **asdict(options), "audio_prefix": audio_prefix}
    videos = plan_videos(options, output_dir / "audio")
    if manifest_path.exists():
        if not overwrite:
            _require_same(manifest_path, record)
            if _is_complete(videos):
                _log.info("%s is there already, made with the same options: nothing to do", manifest_path)
                return manifest_path
        manifest_path.unlink()  # from here on the audio is not what it lists
    _log.info("speaking %d utterances in %d videos", options.num_utterances, options.num_videos)
    rows = [
        {**row, "audio_path": f"{audio_prefix}/{row['audio_path']}"}
        for video_rows in _spoken(videos, num_proc)
        for row in video_rows
    ]
    manifest = "".join("\t".join(row) + "\n" for row in [COLUMNS, *([r[c] for c in COLUMNS] for r in rows)])
    record["manifest_sha256"] = hashlib.sha256(manifest.encode()).hexdigest()
    _write_atomically(output_dir / RECORD_NAME, json.dumps(record, indent=2) + "\n")
    _write_atomically(manifest_path, manifest)
    hours = sum(float(row["duration"]) for row in rows) / 3600
    _log.info("%.2f hours in %d files below %s, listed in %s", hours, len(rows), output_dir, manifest_path)
    return manifest_path


def _audio_prefix(audio_dir: Path, data_root: Path) -> str:
    """What stands before `<video>/<nnnn>.wav` in the manifest."""
    folder, root = audio_dir.resolve(), data_root.resolve()
    if not folder.is_relative_to(root):
        raise VietstError(
            where="--output_dir",
            rule="the corpus lies below the data root, since the manifest names audio relative to it",
            found=f"{audio_dir.parent} is not below {root}",
            do="choose a folder below the data root, or pass --data_root",
        )
    return folder.relative_to(root).as_posix()


def _require_same(manifest_path: Path, record: dict[str, object]) -> None:
    """Refuse a manifest that was not made here, or was made with other options."""
    record_path = manifest_path.with_name(RECORD_NAME)
    try:
        found = json.loads(record_path.read_text(encoding="utf-8"))
        digest = found.pop("manifest_sha256")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # no record, or not one of ours
        found, digest = {}, None
    if digest != hashlib.sha256(manifest_path.read_bytes()).hexdigest():
        difference = "a manifest that this tool did not make, or that was changed since"
    elif found != record:
        names = [name for name in record if found.get(name) != record[name]]
        difference = "a sample corpus made with " + ", ".join(
            f"{name} {found.get(name)} (asked for: {record[name]})" for name in names
        )
    else:
        return
    raise ManifestError(
        where=str(manifest_path),
        rule="a manifest is never replaced without being told to",
        found=difference,
        do="choose another --output_dir, or pass --overwrite to replace it",
    )


def _is_complete(videos: list[Video]) -> bool:
    """Whether all audio files are there."""
    return all(
        (video.audio_dir / f"{index:04d}.wav").exists()
        for video in videos
        for index in range(len(video.sentences))
    )


def _spoken(videos: list[Video], num_proc: int) -> Iterator[list[dict[str, str]]]:
    """The rows of each video in order, spoken `num_proc` videos at a time."""
    from tqdm import tqdm

    num_sentences = sum(len(video.sentences) for video in videos)
    with (
        synthesis_data() as data_path,
        ThreadPoolExecutor(num_proc) as threads,
        tqdm(total=num_sentences, unit="utterance") as progress,
    ):
        for rows in threads.map(lambda video: _speak_in_fresh_process(video, data_path), videos):
            progress.update(len(rows))
            yield rows


def _speak_in_fresh_process(video: Video, data_path: Path) -> list[dict[str, str]]:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_rows, args=(sender, video, data_path), daemon=True)
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(
            f"the process that speaks {video.video_id} ended with code {process.exitcode}"
        ) from None
    process.join()
    if isinstance(answer, OSError):
        raise VietstError(
            where=str(video.audio_dir),
            rule="audio files can be written there",
            found=str(answer),
            do="make room or choose another --output_dir",
        )
    if isinstance(answer, VietstError):
        raise answer
    return answer


def _send_rows(sender: Connection, video: Video, data_path: Path) -> None:
    """What the process of one video does."""
    try:
        sender.send(speak_video(video, data_path))
    except (VietstError, OSError) as error:
        sender.send(error)
    except KeyboardInterrupt:
        pass  # the process that started this one says so


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)
