"""Convert a Whisper to CTranslate2, for faster-whisper.

    python scripts/export_ctranslate2.py --model outputs/prod_whisper --output outputs/prod_whisper_ct2 \\
        [--quantization int8] [--check_audio [clip1.wav clip2.mp4 …]]

--model is a run folder, model folder or Hub id. --check_audio decodes recordings (at most 30 s of each) with
both models, greedily, and prints for every task the share of equal tokens and how much faster the export is.
Needs the extra `export`. E2E models and the nano Whisper are refused: faster-whisper cannot run them.
"""

import argparse
from pathlib import Path

from vietst.runtime import quiet_libraries
from vietst.script_end import run_script

QUANTIZATIONS = (
    *("float32", "float16", "bfloat16"),
    *("int8", "int8_float16", "int8_bfloat16", "int8_float32"),
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, metavar="DIR|HUB_ID", help="the Whisper to convert")
    parser.add_argument("--output", type=Path, required=True, help="folder for the export")
    parser.add_argument(
        "--quantization",
        choices=QUANTIZATIONS,
        default="float32",
        help="of the weights (default: %(default)s)",
    )
    parser.add_argument(
        "--check_audio",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="compare both on these recordings (without any: on the clip of self_check)",
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    quiet_libraries()
    from vietst.export.faster_whisper import export_for_faster_whisper
    from vietst.export.parity import compare, format_parity, read_recordings

    recordings = None if arguments.check_audio is None else read_recordings(arguments.check_audio)
    export_for_faster_whisper(arguments.model, arguments.output, arguments.quantization)
    print(f"for faster-whisper: {arguments.output}")
    if recordings is not None:
        print(format_parity(compare(arguments.model, arguments.output, recordings)))


if __name__ == "__main__":
    run_script(main)
