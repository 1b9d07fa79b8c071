"""Write a manifest from what others keep corpora in; nothing is executed, and no clip is cut.

    python scripts/import_manifest.py kaldi FOLDER [--output data/export/manifest.tsv]
    python scripts/import_manifest.py nemo FILE.jsonl
    python scripts/import_manifest.py table CUTS.csv --columns audio_path=video start_s=from end_s=to
    python scripts/import_manifest.py datasets OWNER/NAME|FOLDER --split train --columns transcript=sentence

kaldi: wav.scp, text, and if they are there segments and utt2spk; nemo: JSON lines with audio_filepath, text,
duration, offset; table: TSV or CSV with a file, its texts, and for pieces of it a start and an end in seconds
or [HH:]MM:SS; datasets: of the Hub or a folder, whose audio is written as files below --audio_dir.

--columns says which field a column of the manifest comes from (kaldi: which file, as translation=text.vi);
all other fields are carried along under their names. Beside the manifest, NAME_import.json counts what was
read and written, and NAME_not_imported.tsv names every other row with the reason.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from vietst.script_end import run_script

ONLY_DATASETS = ("subset", "split", "revision", "streaming", "audio_dir")


def pair(text: str) -> tuple[str, str]:
    column, equals, field = text.partition("=")
    if not column or not equals or not field:
        raise argparse.ArgumentTypeError(f"must be MANIFEST_COLUMN=FIELD, not {text!r}")
    return column, field


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("format", choices=("kaldi", "nemo", "table", "datasets"))
    add("source", help="folder, file or Hub id")
    add("--output", type=Path, default=Path("data/export/manifest.tsv"))
    add("--data_root", type=Path, default=Path(), help="audio_path is written relative to it (.)")
    add(
        "--paths_from",
        type=Path,
        help="what relative paths of the source count from (kaldi: the current folder; nemo: the file's; "
        "else --data_root)",
    )
    add("--columns", type=pair, nargs="+", default=[], metavar="COLUMN=FIELD", help="where they differ")
    add("--overwrite", action="store_true", help="replace a manifest that is there already")
    add("--subset", help="datasets: name of a configuration")
    add("--split", help="datasets: for example train, or train+validation")
    add("--revision", help="datasets: branch, tag or commit of the Hub")
    add("--streaming", action="store_true", default=None, help="datasets: row by row, nothing is cached")
    add("--audio_dir", type=Path, help="datasets: where audio is written (audio/NAME beside the manifest)")
    arguments = parser.parse_args()
    others = [f"--{name}" for name in ONLY_DATASETS if getattr(arguments, name) is not None]
    if others and arguments.format != "datasets":
        parser.error(f"{' '.join(others)}: for datasets")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    from vietst.data.importers.dataset import DatasetImporter, DatasetOptions
    from vietst.data.importers.imported import Importer, write_imported
    from vietst.data.importers.kaldi import KaldiImporter
    from vietst.data.importers.nemo import NemoImporter
    from vietst.data.importers.timed_table import TimedTableImporter

    data_root, base, columns = arguments.data_root, arguments.paths_from, dict(arguments.columns)
    importer: Importer
    if arguments.format == "datasets":
        name = Path(arguments.source).name if Path(arguments.source).exists() else arguments.source
        options = DatasetOptions(
            arguments.audio_dir or arguments.output.parent / "audio" / name.replace("/", "--"),
            arguments.subset,
            arguments.split,
            arguments.revision,
            bool(arguments.streaming),
        )
        importer = DatasetImporter(arguments.source, options, data_root=data_root, base=base, columns=columns)
    else:
        kinds: dict[str, Callable[..., Importer]] = {
            "kaldi": KaldiImporter,
            "nemo": NemoImporter,
            "table": TimedTableImporter,
        }
        importer = kinds[arguments.format](
            Path(arguments.source), data_root=data_root, base=base, columns=columns
        )
    write_imported(importer, arguments.output, overwrite=arguments.overwrite)


if __name__ == "__main__":
    run_script(main)
