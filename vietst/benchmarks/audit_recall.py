"""Benchmark stage `audit`: which of the faults in a corpus an audit finds at its suggested thresholds.

A sample corpus with a seed of its own gets faults of known truth (`vietst.benchmarks.fault_plan`), and
`scripts/audit_manifest.py` audits it with a seed model that was trained on another corpus. A row counts as
found if the suggested threshold of any signal drops it.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from vietst.audit.audit import SIGNALS_NAME
from vietst.audit.drop_expression import DropExpression
from vietst.audit.signals import suggested_terms
from vietst.benchmarks.fault_plan import FAULT_KINDS
from vietst.benchmarks.faulty_corpus import FaultyCorpusOptions, make_clean_corpus, run_audit
from vietst.benchmarks.injected_faults import TRUTH_NAME, inject_faults
from vietst.benchmarks.results import Bar
from vietst.data.tables import read_table

MIN_RECALL: Final = 0.95
"""Share of the rows of each kind of fault that should be found."""

MAX_FALSE_ALARMS: Final = 0.02
"""Share of the untouched rows that may be dropped."""

UNTOUCHED: Final = "untouched"


def measure(
    repo_root: Path, model: str, num_proc: int, work_dir: Path | None, **corpus: Any
) -> dict[str, Any]:
    """`measure_audit`; an empty model is none, and `corpus` are the fields of `FaultyCorpusOptions`."""
    options = FaultyCorpusOptions(**corpus)
    return measure_audit(repo_root, options, model=model or None, num_proc=num_proc, work_dir=work_dir)


def bars(results: dict[str, Any]) -> list[Bar]:
    shares = {kind: counts["share"] for kind, counts in results["kinds"].items()}
    false_alarms = shares.pop(UNTOUCHED)
    return [
        Bar("share found of the worst kind of fault", min(shares.values()), MIN_RECALL, at_least=True),
        Bar("share of untouched rows dropped", false_alarms, MAX_FALSE_ALARMS, at_least=False),
    ]


def measure_audit(
    repo_root: Path,
    options: FaultyCorpusOptions,
    *,
    model: str | None,
    num_proc: int,
    work_dir: Path | None,
) -> dict[str, Any]:
    """Recall of each kind of fault, and false alarms.

    Args:
        repo_root: the checkout, whose script audits.
        model: the seed model; None: signals of audio and texts only.
        num_proc: videos that are spoken at once.
        work_dir: where corpus and audit stay; None: a temporary folder.

    Raises:
        VietstError: a model that cannot be used, or a corpus too small for its faults.
    """
    with tempfile.TemporaryDirectory(prefix="vietst-benchmark-", ignore_cleanup_errors=True) as temporary:
        folder = work_dir or Path(temporary)
        manifest = make_clean_corpus(folder, options, num_proc=num_proc)
        faulty = folder / "faulty" / "manifest.tsv"
        inject_faults(manifest, faulty, audio_root=folder, share=options.share, seed=options.fault_seed)
        run_audit(repo_root, faulty, folder / "audit", audio_root=folder, model=model)
        kinds = {row["id"]: row["fault"] for row in read_table(faulty.with_name(TRUTH_NAME))}
        signals = read_table(folder / "audit" / SIGNALS_NAME)
    terms = suggested_terms(with_model=model is not None)
    return {"model": model, **asdict(options), "terms": terms, "kinds": count_found(kinds, signals, terms)}


def count_found(
    kinds: Mapping[str, str], signals: Iterable[Mapping[str, str]], terms: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """How many rows of each kind the terms find, each alone and all together.

    Args:
        kinds: kind of fault by row id; other rows are `UNTOUCHED`.
        signals: the rows of `signals.tsv`.
        terms: expressions for `--drop` by name.
    """
    expressions = {name: DropExpression(term) for name, term in terms.items()}
    num_rows, num_found = Counter[str](), Counter[str]()
    by_term = {kind: Counter[str]() for kind in (*FAULT_KINDS, UNTOUCHED)}
    for cells in signals:
        kind = kinds.get(cells["id"], UNTOUCHED)
        true_terms = [name for name, expression in expressions.items() if expression.drops(cells)]
        num_rows[kind] += 1
        num_found[kind] += bool(true_terms)
        by_term[kind].update(true_terms)
    return {
        kind: {
            "num_rows": num_rows[kind],
            "num_found": num_found[kind],
            "share": round(num_found[kind] / max(1, num_rows[kind]), 4),
            "by_term": dict(counts.most_common()),
        }
        for kind, counts in by_term.items()
    }


def describe(results: dict[str, Any]) -> str:
    """The results as a table for people."""
    lines = [
        f"{results['num_utterances']} utterances, corpus seed {results['corpus_seed']}, fault seed "
        f"{results['fault_seed']}, seed model {results['model'] or 'none'}",
        f"{'':<22}{'rows':>6}{'found':>9}  by (share of the rows)",
    ]
    for kind, counts in results["kinds"].items():
        by_term = ", ".join(
            f"{name} {number / counts['num_rows']:.1%}" for name, number in counts["by_term"].items()
        )
        lines.append(f"{kind:<22}{counts['num_rows']:>6}{counts['share']:>9.1%}  {by_term}")
    lines.append("suggested: " + " or ".join(results["terms"].values()))
    return "\n".join(lines)
