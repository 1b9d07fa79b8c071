"""A program with the options of unbabel-comet 2.2.7's comet-score, and files as it reads and writes them.

Its score is the share of the reference's words that the translation has. A model called `broken` fails.
"""

import argparse
import json
import sys
from pathlib import Path


def lines(path: str) -> list[str]:
    with Path(path).open(encoding="utf-8") as file:
        return [line.strip() for line in file.readlines()]


def readable(path: str) -> str:
    assert Path(path).is_file()
    return path


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-s", "--sources", type=readable, required=True)
    parser.add_argument("-t", "--translations", type=readable, nargs="+", required=True)
    parser.add_argument("-r", "--references", type=readable, required=True)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--only_system", action="store_true")
    parser.add_argument("--to_json", default="")
    parser.add_argument("--model", default="Unbabel/wmt22-comet-da")
    parser.add_argument("--model_storage_path", default=None)
    parser.add_argument("--num_workers", type=int, default=None)
    options = parser.parse_args()
    if options.model == "broken":
        sys.exit("no such model")
    scored = {}
    for path in options.translations:
        triples = zip(lines(options.sources), lines(path), lines(options.references), strict=True)
        scored[path] = [
            {"src": source, "mt": translation, "ref": reference, "COMET": overlap(translation, reference)}
            for source, translation, reference in triples
        ]
        mean = sum(row["COMET"] for row in scored[path]) / len(scored[path])
        print(f"{path}\tscore: {mean:.4f}")
    Path(options.to_json).write_text(json.dumps(scored, ensure_ascii=False, indent=4), encoding="utf-8")


def overlap(translation: str, reference: str) -> float:
    words = set(reference.split())
    return len(words & set(translation.split())) / len(words)


if __name__ == "__main__":
    main()
