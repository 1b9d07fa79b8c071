"""Every command of the README and of the pages beside the code is run, in a clean copy of the project.

The README's come first, in their order, then those of each page, which build on them.

Commands are run as they stand, but for what `SMOKE_ADDITIONS` adds to make them small. Commands for hardware
that is not here are run with `--dry_run` on a local model; the launch file they name is read by accelerate.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.tiny_splits import write_clip

FEW_STEPS = [
    "training.max_steps=4",
    "training.eval_steps=2",
    "training.save_steps=2",
    "evaluation.max_dev_utterances=4",
]

SMOKE_ADDITIONS = {
    "scripts/make_sample_corpus.py": ["--num_utterances", "120", "--num_videos", "12"],
    "scripts/train_whisper.py": ["nano.d_model=32", "nano.encoder_layers=1", *FEW_STEPS],
    "scripts/train_e2e.py": ["nano_e2e.encoder_layers=1", *FEW_STEPS],
    "scripts/run_dev.sh": ["--smoke"],
    "scripts/run_prod.sh": ["--smoke"],
}

CHECKED_ELSEWHERE = {
    "bash scripts/test.sh": "it is what continuous integration runs (.ci/run)",
}

MEASURED_BLOCKS = {"results", "memory", "speed", "launch_modes", "audit"}

LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


@pytest.fixture(scope="module")
def pages(repo_root: Path) -> dict[Path, str]:
    """The README, then the pages in the folders that they are about."""
    paths = [repo_root / "README.md", *sorted((repo_root / "vietst").rglob("README.md"))]
    return {path: path.read_text(encoding="utf-8") for path in paths}


def code_blocks(pages: dict[Path, str], language: str) -> list[str]:
    """Each once, where the first page has it."""
    block = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return list(dict.fromkeys(found for text in pages.values() for found in block.findall(text)))


def commands(pages: dict[Path, str]) -> list[str]:
    lines = [line for block in code_blocks(pages, "bash") for line in block.splitlines()]
    return list(dict.fromkeys(filter(str.strip, lines)))


def anchors(page: str) -> set[str]:
    """As GitHub makes them of headings; code blocks have comments that look like headings."""
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def write_corpora(folder: Path) -> None:
    """What the README imports, as a user has it."""
    import datasets

    write_clip(folder / "audio/b7x.wav", 6.0, seed=1)
    for name, text in {
        "kaldi/train/wav.scp": "b7x corpora/audio/b7x.wav\n",
        "kaldi/train/segments": "b7x-1 b7x 0.5 3\n",
        "kaldi/train/text": "b7x-1 mình deploy rồi nhé\n",
        "nemo/train.jsonl": '{"audio_filepath": "../audio/b7x.wav", "text": "deploy", "duration": 6}\n',
        "cuts.csv": "video,from,to,transcript\ncorpora/audio/b7x.wav,1,0:03.5,mình deploy rồi nhé\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    rows = {"audio": ["corpora/audio/b7x.wav"], "sentence": ["mình deploy rồi nhé"], "talk": ["b7x"]}
    datasets.Dataset.from_dict(rows).save_to_disk(folder / "talks")


@pytest.fixture(scope="module")
def checkout(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git knows, as a clone has them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repo_root,
        capture_output=True,
        check=True,
    ).stdout.decode()
    copy = tmp_path_factory.mktemp("checkout")
    for name in filter(None, listed.split("\0")):
        if (repo_root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repo_root / name, copy / name)
    write_corpora(copy / "corpora")
    return copy


def run(checkout: Path, words: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(checkout), "VIETST_PYTHON": sys.executable}
    ran = subprocess.run(words, cwd=checkout, capture_output=True, text=True, env=environment, timeout=600)
    assert ran.returncode == 0, f"{shlex.join(words)}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"


def as_run_here(command: str) -> list[str]:
    words = shlex.split(command)
    if words[0] == "python":
        words[0] = sys.executable
    elif words[:2] == ["accelerate", "launch"]:
        words[:2] = [sys.executable, "-m", "accelerate.commands.launch"]
        config = Path(words[words.index("--config_file") + 1]).stem
        if config != "cpu":
            words[words.index("--config_file") + 1] = "accelerate_configs/cpu.yaml"
            kind = "e2e" if "scripts/train_e2e.py" in words else "whisper"
            words += ["--dry_run", f"model.name=outputs/base_models/nano_{kind}"]
            words += ["model.encoder=null", "model.decoder=null"] if kind == "e2e" else []
    for script, additions in SMOKE_ADDITIONS.items():
        if script in words:
            words += [word for word in additions if not (word.startswith("nano") and "--dry_run" in words)]
    return words


@pytest.mark.slow
def test_every_command_of_the_readme_and_its_pages_runs(pages, checkout):
    found = commands(pages)
    assert len(found) >= 20
    # The real features that the dry runs of dev and prod ask for are built by the bare build_features.py.
    ordered = sorted(found, key=lambda command: "run_dev.sh" in command or "run_prod.sh" in command)
    for command in ordered:
        if command not in CHECKED_ELSEWHERE:
            run(checkout, as_run_here(command))
    for block in code_blocks(pages, "python"):
        run(checkout, [sys.executable, "-c", block])


def test_launch_files_and_configurations_that_the_pages_name_exist(repo_root, pages):
    from accelerate.commands.config.config_args import load_config_from_file

    from vietst.config import load_config, shipped_config_names

    text = "\n".join(pages.values())
    for path in set(re.findall(r"accelerate_configs/\w+\.yaml", text)):
        load_config_from_file(str(repo_root / path))
    for name in set(re.findall(r"--config (\w+)", text)):
        assert name in shipped_config_names()
        load_config(name)


def test_links_and_their_anchors_lead_somewhere(pages):
    for page, text in pages.items():
        for link in LINK.findall(text):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), f"{page}: {link}"
            if anchor:
                assert anchor in anchors(pages[target]), f"{page}: {link}"


def test_the_readme_leads_to_every_page(repo_root, pages):
    linked = {repo_root / link for link in LINK.findall(pages[repo_root / "README.md"])}
    assert pages.keys() - linked == {repo_root / "README.md"}


def test_what_was_measured_stands_in_one_page_between_its_marks(pages):
    marked = [
        name
        for text in pages.values()
        for name in re.findall(r"^<!-- (\w+):begin -->\n.*?^<!-- \1:end -->$", text, re.MULTILINE | re.DOTALL)
    ]
    assert sorted(marked) == sorted(MEASURED_BLOCKS)


def test_what_is_checked_elsewhere_is(repo_root):
    assert "scripts/test.sh" in (repo_root / ".ci" / "run").read_text(encoding="utf-8")
