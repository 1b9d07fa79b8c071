"""Look for what is wrong with a manifest's rows: signals of sound, texts and a seed model for each of them.

    python scripts/audit_manifest.py [--manifest data/export/manifest_clean.tsv] [--output data/audit] \\
        [--model outputs/nano_whisper] [--drop 'wer>0.7 or silence>0.8']

Writes signals.tsv (a line for each row), audit.json and audit.html, and how each video and source writes
(conventions.json, conventions.html). Nothing is dropped unless --drop says so;
then the rows that stay go into manifest_audited.tsv beside the manifest, the others with their signals into
rejected.tsv, and signals are not measured again. An interrupted audit goes on where it was. Options that are
not given have the configuration's values, named in round brackets.
"""

import argparse
from pathlib import Path

from vietst.argument_types import positive
from vietst.script_end import run_script


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config", default="base", help="shipped name or YAML file that gives the defaults (base)")
    add("--manifest", type=Path, help="what to audit, TSV or CSV (paths.clean_manifest_path)")
    add("--output", type=Path, default=Path("data/audit"), help="folder of the audit (%(default)s)")
    add("--audio_root", type=Path, help="folder that audio_path is relative to (paths.data_root)")
    add(
        "--model",
        help="seed model, a folder or Hub id: one that was trained here, or any Whisper. What it hears is "
        "compared with the transcripts, and where it translates, with the translations",
    )
    add(
        "--drop",
        metavar="EXPRESSION",
        help="rows to drop: signals compared with numbers, joined by and, or, not. What was not measured "
        "never drops a row",
    )
    add("--kept", type=Path, help="where rows that stay go (manifest_audited.tsv beside the manifest)")
    add(
        "--num_proc",
        type=positive,
        help="processes that measure audio (data.num_proc, one for each CPU core)",
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from vietst.audit.audit import audit_manifest
    from vietst.audit.audit_page import write_audit_page
    from vietst.audit.conventions import write_conventions
    from vietst.audit.decision import apply_drop
    from vietst.audit.drop_expression import DropExpression
    from vietst.config import load_config

    config = load_config(arguments.config).config
    expression = DropExpression(arguments.drop) if arguments.drop is not None else None
    if expression is not None and arguments.model is None:
        expression.require_no_model()
    manifest = arguments.manifest or config.paths.clean_manifest_path
    audio_root = arguments.audio_root or config.paths.data_root
    record = audit_manifest(
        manifest,
        arguments.output,
        audio_root=audio_root,
        model=arguments.model,
        num_proc=arguments.num_proc or config.data.num_proc,
    )
    write_conventions(manifest, arguments.output)
    decision = None
    if expression is not None:
        kept = arguments.kept or manifest.with_name("manifest_audited.tsv")
        decision = apply_drop(record, arguments.output, expression, kept)
    write_audit_page(arguments.output, manifest, audio_root, decision)


if __name__ == "__main__":
    run_script(main)
