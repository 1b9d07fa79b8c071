"""Write down what is said in recordings, and what it means in Vietnamese: subtitles, texts, tables.

    python scripts/transcribe.py talk.mp4 --model outputs/dev_whisper
    python scripts/transcribe.py recordings "more/*.m4a" --model OWNER/NAME --task both \\
        --format srt,json --output outputs/subtitles

FILES are recordings (whatever soundfile or ffmpeg's libraries read, also videos), folders, searched with all
below them, and globs. Outputs stand beside the recordings, or below --output in the same folders. What was
written by the same model with the same options is left alone (.vietst_transcripts.jsonl beside the outputs
tells); files that something or somebody else made are kept. The formats are described in
vietst/inference/transcript_files.py.

Exit code 0: everything that was asked for is there. 1: some is not, and it was said why. 2: wrong usage.
"""

import argparse
import sys
import time
from pathlib import Path

from vietst.argument_types import positive_number
from vietst.runtime import quiet_libraries
from vietst.script_end import run_script

EXIT_INCOMPLETE = 1

FORMAT_NAMES = ("txt", "json", "srt", "vtt", "tsv")


def listed_formats(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in FORMAT_NAMES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(FORMAT_NAMES)}")
    return names


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILES", help="recordings, folders, globs")
    add("--model", required=True, metavar="DIR|HUB_ID", help="run folder, model folder or Hub id")
    add("--task", choices=["transcribe", "translate", "both"], help="default: what the model was trained for")
    add(
        "--format",
        type=listed_formats,
        action="extend",
        metavar="|".join(FORMAT_NAMES),
        help="several with commas: srt,json (default: srt)",
    )
    add("--output", type=Path, metavar="DIR", help="for outputs (default: beside the recordings)")
    add(
        "--max_segment_s",
        type=positive_number,
        help="longest segment in seconds, cut at pauses (default: 7 for subtitles, else what "
        "the model hears at once, which is faster)",
    )
    add(
        "--context",
        choices=["full", "bucketed"],
        help="Whisper: hear every segment in the model's whole window, or in the shortest that fits "
        "(default: as the model was trained)",
    )
    add("--overwrite", action="store_true", help="write again what is there, also what was made elsewhere")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.inference.named_recordings import find_recordings
    from vietst.output_folder import make_output_dir

    recordings = find_recordings(arguments.files, arguments.output)
    if arguments.output is not None:
        make_output_dir(arguments.output, do="name another, or leave it out to write beside the recordings")
    quiet_libraries()
    from vietst.inference import SpeechTranslator
    from vietst.inference.transcribe_files import (
        Options,
        describe_outcome,
        describe_plan,
        make_plan,
        run_jobs,
        segment_limit_s,
    )
    from vietst.models.loading import model_version

    translator = SpeechTranslator.from_pretrained(arguments.model, context=arguments.context)
    format_names = list(dict.fromkeys(arguments.format or ["srt"]))
    options = Options(
        model=model_version(arguments.model),
        tasks=translator.tasks_of(arguments.task),
        max_segment_s=segment_limit_s(arguments.max_segment_s, format_names),
        context=translator.context,
    )
    plan = make_plan(recordings, format_names, options, overwrite=arguments.overwrite)
    print(describe_plan(plan), flush=True)
    started = time.perf_counter()
    outcome = run_jobs(translator, plan)
    print(describe_outcome(plan, outcome, elapsed_s=time.perf_counter() - started))
    if outcome.failed or plan.kept:
        sys.exit(EXIT_INCOMPLETE)


if __name__ == "__main__":
    run_script(main)
