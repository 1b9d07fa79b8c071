"""Python and the packages: are they there, in versions that setup.cfg allows, and in those that were tested?

The ranges come from setup.cfg in a checkout, else from the installed package's metadata. The tested versions
stand in constraints.txt, which only a checkout has: they are named, not required.
"""

import configparser
import dataclasses
import platform
import re
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from vietst.doctor.findings import Finding, Status

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Needs:
    """What vietst asks for."""

    python: SpecifierSet
    packages: tuple[Requirement, ...]
    extras: tuple[tuple[str, Requirement], ...]
    """Name of the extra, and a package in it."""
    tested: dict[str, str]
    """Normalized package name → version; empty where constraints.txt is not at hand."""


def read_needs(checkout: Path = CHECKOUT) -> Needs:
    """What setup.cfg and constraints.txt of a checkout ask for, or the installed package's metadata."""
    if (checkout / "setup.cfg").is_file():
        return _needs_of_checkout(checkout)
    packages, extras = [], []
    for line in metadata.requires("vietst") or []:
        requirement = Requirement(line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if extra is None:
            packages.append(requirement)
        else:
            requirement.marker = None
            extras.append((extra[1], requirement))
    python = metadata.metadata("vietst")["Requires-Python"]
    return Needs(SpecifierSet(python), tuple(packages), tuple(extras), {})


def _needs_of_checkout(checkout: Path) -> Needs:
    parser = configparser.ConfigParser()
    parser.read(checkout / "setup.cfg", encoding="utf-8")
    pins = re.findall(
        r"^([\w.-]+)==([\w.]+)", (checkout / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    return Needs(
        SpecifierSet(parser["options"]["python_requires"]),
        tuple(_requirements(parser["options"]["install_requires"])),
        tuple(
            (extra, requirement)
            for extra, lines in parser["options.extras_require"].items()
            for requirement in _requirements(lines)
        ),
        {canonicalize_name(name): version for name, version in pins},
    )


def _requirements(lines: str) -> list[Requirement]:
    return [Requirement(line) for line in lines.splitlines() if line.strip() and not line.startswith("#")]


def check_python() -> Iterator[Finding]:
    needed, version = read_needs().python, platform.python_version()
    if version in needed:
        yield Finding(Status.OK, "Python", version)
    else:
        yield Finding(
            Status.MEND, "Python", version, f"install Python {needed}, and the packages again with it"
        )


def check_packages() -> Iterator[Finding]:
    needs = read_needs()
    needed = [
        requirement
        for requirement in needs.packages
        if not requirement.marker or requirement.marker.evaluate()
    ]
    problems = list(_problems(needed, is_required=True))
    yield from problems
    if not problems:
        yield Finding(Status.OK, "packages", f"{len(needed)} required{_untested(needed, needs.tested)}")


def check_extras() -> Iterator[Finding]:
    """Packages that only some scripts need; those of the tests are no concern of a user."""
    needs = read_needs()
    for name in dict.fromkeys(extra for extra, _ in needs.extras if extra != "dev"):
        packages = [requirement for extra, requirement in needs.extras if extra == name]
        missing = [_quoted(requirement) for requirement in packages if _installed(requirement) is None]
        if missing:
            yield Finding(
                Status.OK,
                f"extra {name}",
                f"not installed; where it is wanted: pip install {' '.join(missing)}",
            )
            continue
        problems = list(_problems(packages, is_required=False))
        yield from problems
        if not problems:
            yield Finding(Status.OK, f"extra {name}", f"installed{_untested(packages, needs.tested)}")


def _problems(requirements: Sequence[Requirement], *, is_required: bool) -> Iterator[Finding]:
    for requirement in requirements:
        installed = _installed(requirement)
        command = f"pip install {_quoted(requirement)}"
        if installed is None:
            yield Finding(Status.MEND, f"package {requirement.name}", "not installed", command)
        elif not requirement.specifier.contains(installed, prereleases=True):
            yield Finding(
                Status.MEND if is_required else Status.WARNING,
                f"package {requirement.name}",
                f"{installed}, where {requirement.specifier} is needed",
                command,
            )


def _quoted(requirement: Requirement) -> str:
    """For every shell; Windows' own knows no single quotes."""
    return f'"{requirement.name}{requirement.specifier}"'


def _installed(requirement: Requirement) -> str | None:
    try:
        return metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return None


def _untested(requirements: Sequence[Requirement], tested: dict[str, str]) -> str:
    """Which installed versions are not those that were tested, as the end of a sentence."""
    others = [
        f"{requirement.name} {installed} ({pinned})"
        for requirement in requirements
        if (installed := _installed(requirement)) is not None
        and (pinned := tested.get(canonicalize_name(requirement.name))) is not None
        and installed.partition("+")[0] != pinned
    ]
    if others:
        return f"; other versions than tested (in brackets): {', '.join(others)}"
    return ", in the tested versions" if tested else ""
