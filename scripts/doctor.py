"""What is wrong here, and what to do about it.

    python scripts/doctor.py                    this installation
    python scripts/doctor.py outputs/dev_whisper
    python scripts/doctor.py OWNER/NAME

Without an argument it checks the installation: versions, GPU, disk, audio, DeepSpeed, data workers, the Hub.
With a folder or Hub id it checks the model: it is downloaded afresh, its weights, tokenizer, prompts and card
are looked at, and it must say again what it said at training time about the clip in self_check/. Exit code 1
if something has to be mended.
"""

import argparse
import sys

from vietst.runtime import quiet_libraries
from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", nargs="?", metavar="DIR|HUB_ID", help="run folder, model folder or Hub id")
    parser.add_argument("--revision", help="branch, tag or commit of the Hub repository (default: main)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.doctor.findings import print_findings
    from vietst.doctor.installation import check_installation

    if arguments.model is None:
        is_well = print_findings(check_installation())
    else:
        quiet_libraries()
        from vietst.doctor.model import check_model

        is_well = print_findings(check_model(arguments.model, revision=arguments.revision))
    if not is_well:
        sys.exit(1)


if __name__ == "__main__":
    run_script(main)
