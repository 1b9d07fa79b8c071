"""Recordings to transcript files: what is done is left alone, what fails does not stop the rest."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Protocol

from vietst.config_schema import ContextChoice
from vietst.constants import BOTH
from vietst.data.audio import UNKNOWN_NUM_FRAMES
from vietst.data.containers import open_container
from vietst.data.tables import atomic_writer
from vietst.errors import VietstError
from vietst.inference.cues import MAX_CUE_S
from vietst.inference.named_recordings import Recording
from vietst.inference.output_record import Origin, OutputRecord, OutputState
from vietst.inference.results import SpeechResult
from vietst.inference.transcript_files import FORMATS, SUBTITLES
from vietst.quantities import seconds_in_words
from vietst.runtime import get_logger

logger = get_logger(__name__)

_BAR_FORMAT: Final = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"
_NUM_LISTED: Final = 20


class Translator(Protocol):
    """What is needed of a `SpeechTranslator`."""

    def each(
        self,
        audios: Iterable[Path],
        *,
        task: str | None,
        max_segment_s: float | None,
        on_progress: Callable[[float], object],
    ) -> Iterator[SpeechResult | VietstError]: ...


@dataclass(frozen=True)
class Options:
    """How recordings are transcribed; two outputs with equal options are equal."""

    model: str
    """What `models.loading.model_version` says."""
    tasks: tuple[str, ...]
    max_segment_s: float | None
    """As `SpeechTranslator.each` takes it."""
    context: ContextChoice
    """What `SpeechTranslator.context` says."""


@dataclass(frozen=True)
class Job:
    """A recording, and the formats in which it has to be written."""

    recording: Recording
    origin: Origin
    format_names: tuple[str, ...]
    duration_s: float
    """As the file's header has it; 0 where it does not."""


@dataclass(frozen=True)
class Plan:
    """What has to be done, and what has not."""

    options: Options
    record: OutputRecord
    jobs: list[Job] = field(default_factory=list)
    done: list[Path] = field(default_factory=list)
    """Recordings all of whose outputs are there already."""
    kept: list[Path] = field(default_factory=list)
    """Outputs that were asked for where a file lies that was not made here."""


@dataclass
class Outcome:
    """What came out."""

    written: list[Path] = field(default_factory=list)
    """Output files."""
    failed: list[Path] = field(default_factory=list)
    """Recordings; their errors are logged when they happen."""
    transcribed_s: float = 0.0
    """Seconds of audio."""


def segment_limit_s(asked_s: float | None, format_names: Sequence[str]) -> float | None:
    """The longest segment in seconds, if none was asked for: of subtitles that of a cue."""
    return MAX_CUE_S if asked_s is None and SUBTITLES.intersection(format_names) else asked_s


def make_plan(
    recordings: Iterable[Recording], format_names: Sequence[str], options: Options, *, overwrite: bool
) -> Plan:
    """Tell what has to be done from what is there.

    Args:
        format_names: of `FORMATS`.
        overwrite: write everything again, whoever made what is there.
    """
    plan = Plan(options, OutputRecord())
    for recording in recordings:
        origin = Origin.of(recording.audio, asdict(options))
        to_write, kept = [], []
        for name in format_names:
            state = OutputState.MISSING if overwrite else plan.record.state(recording.output(name), origin)
            if state in (OutputState.MISSING, OutputState.OUTDATED):
                to_write.append(name)
            elif state is OutputState.NOT_OURS:
                kept.append(recording.output(name))
        if to_write:
            duration_s = header_duration_s(recording.audio)
            plan.jobs.append(Job(recording, origin, tuple(to_write), duration_s))
        elif not kept:
            plan.done.append(recording.audio)
        plan.kept.extend(kept)
    return plan


def run_jobs(translator: Translator, plan: Plan) -> Outcome:
    """Transcribe and write one recording after the other, with a progress bar in seconds of audio.

    An error of one recording is logged, and the others go on.
    """
    from tqdm import tqdm

    outcome = Outcome()
    total_s = max(sum(job.duration_s for job in plan.jobs), 1.0)
    with tqdm(total=total_s, bar_format=_BAR_FORMAT, disable=None) as bar:
        results = translator.each(
            (job.recording.audio for job in plan.jobs),
            task=BOTH if len(plan.options.tasks) > 1 else plan.options.tasks[0],
            max_segment_s=plan.options.max_segment_s,
            # Headers may promise less than there is, and tqdm complains about more than all.
            on_progress=lambda done_s: bar.update(min(done_s, bar.total - bar.n)),
        )
        for job, result in zip(plan.jobs, results, strict=True):
            try:
                if isinstance(result, VietstError):
                    raise result
                _write(job, result, plan.record, outcome)
                outcome.transcribed_s += result.duration_s
            except (VietstError, OSError) as error:
                outcome.failed.append(job.recording.audio)
                logger.error(f"failed: {error}")
    return outcome


def _write(job: Job, result: SpeechResult, record: OutputRecord, outcome: Outcome) -> None:
    for name in job.format_names:
        output = job.recording.output(name)
        with atomic_writer(output) as file:
            file.write(FORMATS[name](result))
        outcome.written.append(output)
        record.add(output, job.origin)


def header_duration_s(audio: Path) -> float:
    """Seconds that a file says it lasts; 0 where it does not say, or cannot be read."""
    import av
    import soundfile

    try:
        facts = soundfile.info(audio)
        return facts.frames / facts.samplerate if facts.frames < UNKNOWN_NUM_FRAMES else 0.0
    # soundfile asks for rate and channels of a headerless .raw file by a TypeError.
    except (soundfile.SoundFileError, TypeError):
        pass
    try:
        with open_container(audio) as container:
            return max(container.duration or 0, 0) / 1e6
    except (av.FFmpegError, OSError):
        return 0.0


# --- in words -----------------------------------------------------------------------------------------------


def describe_plan(plan: Plan) -> str:
    """How much there is."""
    lines = [
        f"{_counted(len(plan.jobs), 'recording')} to transcribe, "
        f"{_duration(sum(job.duration_s for job in plan.jobs))} of audio"
    ]
    if plan.done:
        lines.append(f"{_counted(len(plan.done), 'recording')} done already by this model with these options")
    if plan.kept:
        lines.append(
            f"{_counted(len(plan.kept), 'file')} kept, not made here or changed since "
            "(--overwrite replaces them):"
        )
        lines += _listed(plan.kept)
    return "\n".join(lines)


def describe_outcome(plan: Plan, outcome: Outcome, elapsed_s: float) -> str:
    """What came out, where, and how fast; what did not."""
    lines = []
    if outcome.written:
        num_recordings = len(plan.jobs) - len(outcome.failed)
        lines += [
            f"{_counted(num_recordings, 'recording')}, {_duration(outcome.transcribed_s)} of audio, in "
            f"{_duration(elapsed_s)}. Written:",
            *_listed(outcome.written),
        ]
    if outcome.failed:
        lines += [
            f"{_counted(len(outcome.failed), 'recording')} failed, with the errors above:",
            *_listed(outcome.failed),
        ]
    if plan.kept:
        lines.append(f"{_counted(len(plan.kept), 'file')} kept, see above")
    return "\n".join(lines or ["Nothing to do."])


def _listed(paths: Sequence[Path]) -> list[str]:
    more = len(paths) - _NUM_LISTED
    return [f"  {path}" for path in paths[:_NUM_LISTED]] + ([f"  and {more} more"] if more > 0 else [])


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return seconds_in_words(seconds)
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
