"""Score a model on a test split, or predictions that are there: WER, CER, BLEU, chrF and all the rest.

    python scripts/run_evaluation.py --model_dir outputs/dev_whisper --model_type whisper \\
        --test_csv data/splits/test.csv --output outputs/results --baseline openai/whisper-small
    python scripts/run_evaluation.py --model_dir outputs/dev_whisper --interpolate_with openai/whisper-tiny
    python scripts/run_evaluation.py --predictions elsewhere/predictions.csv --run_name theirs

With a model, audio is read from the files that the split names. Predictions are anybody's CSV with the
columns id, video_id, duration_s, transcript, translation and transcript_hypothesis or translation_hypothesis;
they get the same scorer and baselines. Writes <run>_metrics.json, <run>_predictions.csv and
<run>_report.html, a page that opens from disk without a network. Models that were trained elsewhere are
scored for their transcripts only: what the Whispers of OpenAI say for `translate` is English.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vietst.argument_types import not_negative, positive
from vietst.evaluation.command_line import add_report_options
from vietst.runtime import quiet_libraries
from vietst.script_end import run_script

if TYPE_CHECKING:
    from vietst.evaluation.beside import BesideOptions

COMET_MODEL = "Unbabel/wmt22-comet-da"

OF_MODEL: dict[str, Any] = {"model_type": None, "task": None}
"""Options that only --model_dir has, and their defaults."""

OF_DECODING: dict[str, Any] = {
    "test_csv": Path("data/splits/test.csv"),
    "batch_size": 16,
    "num_beams": None,
    "num_workers": 0,
    "context": None,
}
"""Options that say how models are run, baselines among them, and their defaults."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    scored = parser.add_mutually_exclusive_group(required=True)
    scored.add_argument("--model_dir", metavar="DIR|HUB_ID", help="run folder, model folder or Hub id")
    scored.add_argument("--predictions", type=Path, metavar="CSV", help="score these, without a model")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("outputs/results"),
        help="folder for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--run_name", type=_file_name, help="name of the result files (default: the model's or the file's)"
    )
    parser.add_argument("--ter", action="store_true", help="score TER, too; slow")
    add_report_options(parser)
    _add_baseline_options(parser)
    _add_model_options(parser)
    _add_interpolation_options(parser)
    arguments = parser.parse_args()
    given = vars(arguments)
    _check_interpolation(parser, arguments)
    of_cascade = (arguments.cascade_source, arguments.cascade_target, arguments.cascade_prefix)
    if any(of_cascade) and not arguments.cascade:
        parser.error("--cascade_source, --cascade_target and --cascade_prefix are for the model of --cascade")
    if arguments.comet_model and not arguments.comet:
        parser.error("--comet_model is scored by --comet: give that, too")
    if arguments.predictions:
        runs_models = arguments.baseline or arguments.cascade
        unused = [*OF_MODEL, *([] if runs_models else OF_DECODING)]
        if refused := [f"--{name}" for name in unused if name in given]:
            parser.error(f"--predictions runs no model, so {', '.join(refused)} cannot be given with it")
    return argparse.Namespace(**(OF_MODEL | OF_DECODING | given))


def _add_baseline_options(parser: argparse.ArgumentParser) -> None:
    options = parser.add_argument_group("what stands beside it in the table")
    options.add_argument(
        "--train_csv",
        type=Path,
        help="training split, for the random-sentence baseline (default: beside --test_csv, with a model)",
    )
    options.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="DIR|HUB_ID|CSV",
        help="another model, decoded once and kept beside the results, or a predictions file; repeatable",
    )
    options.add_argument(
        "--cascade", metavar="DIR|HUB_ID", help="a text translation model, for the transcripts of the run"
    )
    options.add_argument(
        "--cascade_source",
        metavar="CODE",
        help="what it is told the transcripts are: en, vi or a code of its tokenizer (default: en)",
    )
    options.add_argument(
        "--cascade_target", metavar="CODE", help="language that it is to write (default: vi)"
    )
    options.add_argument(
        "--cascade_prefix",
        default="",
        metavar="TEXT",
        help="put before every transcript, for models that read there what to do, such as '>>vie<< '",
    )
    options.add_argument(
        "--comet",
        nargs="?",
        const="comet-score",
        metavar="PROGRAM",
        help="score COMET by unbabel-comet's program, which takes an environment of its own, e.g. "
        "'uvx --from unbabel-comet comet-score' (without a value: comet-score)",
    )
    options.add_argument(
        "--comet_model",
        metavar="HUB_ID|CKPT",
        help=f"default: {COMET_MODEL}",
    )


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    # Without defaults here, what was given can be told from what was not.
    options = parser.add_argument_group("how models are run", argument_default=argparse.SUPPRESS)
    options.add_argument(
        "--model_type", choices=["whisper", "e2e"], help="architecture (default: by the model's config.json)"
    )
    options.add_argument("--test_csv", type=Path, help=f"split file (default: {OF_DECODING['test_csv']})")
    options.add_argument(
        "--task",
        choices=["transcribe", "translate", "both"],
        help="default: what the model was trained for here; of models trained elsewhere, transcribe",
    )
    options.add_argument(
        "--batch_size", type=positive, help=f"utterances at once (default: {OF_DECODING['batch_size']})"
    )
    options.add_argument(
        "--num_beams", type=positive, help="1 is greedy (default: the run's evaluation.test_num_beams)"
    )
    options.add_argument(
        "--num_workers",
        type=not_negative,
        help=f"processes that read audio ahead (default: {OF_DECODING['num_workers']})",
    )
    options.add_argument(
        "--context",
        choices=["full", "bucketed"],
        help="Whisper: hear every clip in the model's whole window, or each batch in the shortest that fits "
        "(default: as the model was trained)",
    )


def _add_interpolation_options(parser: argparse.ArgumentParser) -> None:
    options = parser.add_argument_group("mixtures of the model's weights with its base's (WiSE-FT)")
    options.add_argument(
        "--interpolate_with",
        metavar="DIR|HUB_ID",
        help="the base that the model was trained from: score mixtures of both on the split and on the "
        "run's extra sets, and draw the curve",
    )
    options.add_argument(
        "--shares",
        type=_shares,
        metavar="S,S,…",
        help="shares of the model in the mixtures; 0 and 1 are always among them (default: 0.25,0.5,0.75)",
    )
    options.add_argument("--save_interpolated", type=Path, metavar="DIR", help="save one mixture there")
    options.add_argument("--share", type=_share, metavar="S", help="the model's share in that mixture")


def _file_name(text: str) -> str:
    if not text or Path(text).name != text:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a part of a file's name")
    return text


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return share


def _shares(text: str) -> list[float]:
    return [_share(part) for part in text.split(",")]


def _check_interpolation(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if (arguments.save_interpolated is None) != (arguments.share is None):
        parser.error("--save_interpolated and --share go together: where to, and which mixture")
    if arguments.interpolate_with and arguments.predictions:
        parser.error("--interpolate_with mixes the weights of --model_dir, not --predictions")
    if not arguments.interpolate_with and (arguments.shares or arguments.share is not None):
        parser.error("--shares and --share are of mixtures: name the base with --interpolate_with")


def _beside(arguments: argparse.Namespace) -> "BesideOptions":
    from vietst.evaluation.beside import BesideOptions
    from vietst.evaluation.comet import CometOptions

    cascade = None
    if arguments.cascade:
        from vietst.evaluation.cascade import CascadeOptions
        from vietst.models.text_translation import LanguagePair

        languages = LanguagePair(arguments.cascade_source, arguments.cascade_target, arguments.cascade_prefix)
        cascade = CascadeOptions(arguments.cascade, languages, arguments.batch_size)
    return BesideOptions(
        arguments.train_csv,
        arguments.baseline,
        cascade,
        CometOptions(arguments.comet, arguments.comet_model or COMET_MODEL) if arguments.comet else None,
    )


def main() -> None:
    arguments = parse_arguments()
    quiet_libraries()
    from vietst.evaluation.scoring import ScoringOptions, SplitOptions

    common = {
        "split": SplitOptions(
            arguments.test_csv,
            arguments.audio_root,
            arguments.batch_size,
            arguments.num_beams,
            arguments.num_workers,
            arguments.context,
        ),
        "scoring": ScoringOptions(
            arguments.output,
            arguments.word_tags,
            arguments.audio_root if arguments.audio else None,
            arguments.ter,
        ),
        "beside": _beside(arguments),
        "run_name": arguments.run_name,
    }
    if arguments.predictions:
        from vietst.evaluation.evaluate_predictions import evaluate_predictions_file

        evaluate_predictions_file(predictions=arguments.predictions, **common)
        return
    common |= {name: getattr(arguments, name) for name in ("model_dir", "model_type", "task")}
    if arguments.interpolate_with is None:
        from vietst.evaluation.evaluate_model import evaluate_model

        evaluate_model(**common)
    else:
        from vietst.evaluation.interpolation import InterpolationOptions, evaluate_with_interpolation

        options = InterpolationOptions(
            arguments.interpolate_with,
            arguments.shares or (0.25, 0.5, 0.75),
            arguments.share,
            arguments.save_interpolated,
        )
        evaluate_with_interpolation(options, **common)


if __name__ == "__main__":
    run_script(main)
