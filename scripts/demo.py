"""Show a model on a web page: speak or upload a recording, read it, and download its subtitles.

    python scripts/demo.py --model outputs/dev_whisper
    python scripts/demo.py --model OWNER/NAME --space outputs/space

Needs Gradio: pip install -e ".[demo]". The page is served to this machine alone unless --host or --share says
otherwise, and asks nothing of other hosts. With --space, a folder is written that runs as a Space of the
Hugging Face Hub, with the model of that Hub id.
"""

import argparse
from pathlib import Path

from vietst.argument_types import positive_number
from vietst.runtime import quiet_libraries
from vietst.script_end import run_script


def port_number(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: their numbers are 1 to 65535")
    return int(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--model", required=True, metavar="DIR|HUB_ID", help="run folder, model folder or Hub id")
    add(
        "--max_upload_mb",
        type=positive_number,
        default=50,
        help="largest file, in MB of 2^20 bytes (%(default)s)",
    )
    add(
        "--max_duration_s",
        type=positive_number,
        default=600,
        help="longest recording, in seconds (%(default)s)",
    )
    add(
        "--host", default="127.0.0.1", help="address to listen at; 0.0.0.0: all of this machine (%(default)s)"
    )
    add("--port", type=port_number, help="(the first free one from 7860 on)")
    add("--share", action="store_true", help="also at a public address of gradio.live, for a week")
    add("--space", type=Path, metavar="DIR", help="write a Space into this folder, and serve nothing")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.demo.listener import Limits

    limits = Limits(arguments.max_upload_mb, arguments.max_duration_s)
    if arguments.space is not None:
        from vietst.demo.space import write_space

        write_space(arguments.space, arguments.model, limits)
        return
    from vietst.demo.page import run_demo

    quiet_libraries()
    run_demo(arguments.model, limits, host=arguments.host, port=arguments.port, share=arguments.share)


if __name__ == "__main__":
    run_script(main)
