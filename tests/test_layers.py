"""The rooms of the house: imports inside vietst run downwards only, and never in a circle."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

LAYERS = (
    ("", "constants", "errors"),  # "" is vietst/__init__.py
    ("argument_types", "full_disk", "full_memory", "quantities", "unusable_name"),
    (
        *("text", "text_style", "config", "config_schema", "config_rules", "config_layers"),
        *("rank_faults", "runtime", "script_end", "environment", "hub_access", "pages", "output_folder"),
    ),
    ("data",),
    ("models",),
    ("evaluation",),
    ("inference",),
    ("audit",),
    ("hub",),
    ("training",),
    ("doctor", "demo", "export", "benchmarks", "evaluate_modules"),
)
LAYER_OF = {name: layer for layer, names in enumerate(LAYERS) for name in names}
HEAVY = ("torch", "transformers", "datasets", "librosa", "matplotlib", "accelerate", "soundfile")


def modules(repo_root: Path) -> dict[str, Path]:
    """Dotted name below vietst → file."""
    root = repo_root / "vietst"
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
        for path in sorted(root.rglob("*.py"))
    }


def layer_of(module: str) -> int:
    return LAYER_OF[module.partition(".")[0]]


def imported_modules(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """What of vietst a file imports, at its top or inside functions; not what only type checkers see."""
    for node in runtime_nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == "vietst":
                inside = name.partition(".")[2]
                while inside not in known:  # a name inside a module
                    inside = inside.rpartition(".")[0]
                yield inside


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from runtime_nodes(child)


def test_every_module_has_a_layer(repo_root: Path) -> None:
    homeless = [module for module in modules(repo_root) if module.partition(".")[0] not in LAYER_OF]
    assert not homeless, "say in LAYERS where these belong"


def test_imports_run_downwards_only(repo_root: Path) -> None:
    known = modules(repo_root)
    upward = [
        f"{module} imports {imported}"
        for module, path in known.items()
        for imported in imported_modules(path, known)
        if layer_of(imported) > layer_of(module)
    ]
    assert not upward


def test_no_module_imports_itself_through_others(repo_root: Path) -> None:
    known = modules(repo_root)
    TopologicalSorter(
        {module: set(imported_modules(path, known)) for module, path in known.items()}
    ).prepare()


def test_no_relative_imports(repo_root: Path) -> None:
    """They would escape the two tests above."""
    relative = [
        path.name
        for path in modules(repo_root).values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level > 0
    ]
    assert not relative


@pytest.mark.parametrize(
    "module",
    [
        *("vietst", "vietst.config", "vietst.runtime", "vietst.script_end", "vietst.environment"),
        *("vietst.text", "vietst.inference"),
    ],
)
def test_lower_rooms_import_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


def test_scripts_do_not_import_each_other(repo_root: Path) -> None:
    scripts = sorted((repo_root / "scripts").glob("*.py"))
    names = {path.stem for path in scripts}
    for path in scripts:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = {alias.name.partition(".")[0] for alias in getattr(node, "names", [])}
            if isinstance(node, ast.ImportFrom):
                imported = {(node.module or "").partition(".")[0]}
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not imported & (names | {"scripts"}), path.name
