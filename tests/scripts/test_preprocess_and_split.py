"""As a user starts the scripts: odd input is taken as meant, bad input ends with a message and code 2."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.patience import HANGS_AFTER_S
from vietst.constants import SPLITS
from vietst.data.splits import read_split
from vietst.data.tables import read_table

RATE_HZ = 8000
HEADER = "audio_path\ttranscript\ttranslation\n"
GOOD_ROWS = "".join(f"data/clips/v{n}_1.wav\tcâu {n}\tbản dịch {n}\n" for n in range(6))


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with six clips of six videos and no manifest yet."""
    (tmp_path / "data" / "clips").mkdir(parents=True)
    (tmp_path / "data" / "export").mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).uniform(-0.3, 0.3, RATE_HZ).astype(np.float32)
        soundfile.write(tmp_path / f"data/clips/v{number}_1.wav", noise, RATE_HZ)
    return tmp_path


def start(script: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=HANGS_AFTER_S,
    )


@pytest.fixture
def preprocess(repo_root: Path) -> Path:
    return repo_root / "scripts" / "preprocess_manifest.py"


@pytest.fixture
def split_data(repo_root: Path) -> Path:
    return repo_root / "scripts" / "split_data.py"


def write_manifest(folder: Path, content: str | bytes, name: str = "manifest.tsv") -> None:
    (folder / "data/export" / name).write_bytes(content.encode() if isinstance(content, str) else content)


def assert_refused(finished: subprocess.CompletedProcess[str], found: str) -> None:
    assert finished.returncode == 2, finished.stderr
    assert "Traceback" not in finished.stderr
    message = finished.stderr[finished.stderr.index("error: ") :]
    for part in ("rule:", "found:", "do:"):
        assert part in message
    assert found in message


# --- as meant ---------------------------------------------------------------------------------------------


def test_bare_scripts_lead_from_the_default_manifest_to_splits(
    workplace: Path, preprocess: Path, split_data: Path
) -> None:
    write_manifest(workplace, HEADER + GOOD_ROWS + "data/clips/gone.wav\ta\tb\n")
    finished = start(preprocess, workplace)
    assert finished.returncode == 0, finished.stderr
    assert "kept 6 of 7 rows" in finished.stderr
    assert "audio_missing 1" in finished.stderr
    finished = start(split_data, workplace)
    assert finished.returncode == 0, finished.stderr
    splits = workplace / "data/splits"
    ids = [row["id"] for split in SPLITS for row in read_split(splits, split)]
    assert sorted(ids) == [f"data/clips/v{number}_1.wav" for number in range(6)]
    assert (
        json.loads((splits / "audit.json").read_text(encoding="utf-8"))["splits"]["test"]["num_videos"] == 1
    )
    assert not list(workplace.rglob("*.tmp"))


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(
            b"\xef\xbb\xbf" + (HEADER + GOOD_ROWS).replace("\n", "\r\n").encode(), id="BOM and CR LF"
        ),
        pytest.param((HEADER + GOOD_ROWS).replace("/", "\\"), id="backslashes"),
        pytest.param(
            HEADER + "".join(f'"data/clips/v{n}_1.wav"\t"câu {n}"\t"bản dịch {n}"\n' for n in range(6)),
            id="quoted",
        ),
    ],
)
def test_odd_manifests_give_the_same_rows(workplace: Path, preprocess: Path, manifest: str | bytes) -> None:
    write_manifest(workplace, HEADER + GOOD_ROWS)
    assert start(preprocess, workplace).returncode == 0
    expected = read_table(workplace / "data/export/manifest_clean.tsv")
    write_manifest(workplace, manifest)
    assert start(preprocess, workplace).returncode == 0
    assert read_table(workplace / "data/export/manifest_clean.tsv") == expected


def test_the_guides_launch_line_and_every_option_work(
    workplace: Path, preprocess: Path, split_data: Path
) -> None:
    write_manifest(
        workplace, "transcript,audio_path\n" + "".join(f"câu,clips/v{n}_1.wav\n" for n in range(6)), "m.csv"
    )
    finished = start(
        preprocess, workplace, "--input", "data/export/m.csv", "--output", "out/clean.csv",
        "--audio_root", "data", "--too_long", "truncate",
        "--min_duration_s", "0.25", "--max_duration_s", "0.75",
        "--allow_missing_translation", "--video_id_pattern", r"v(?P<video_id>\d)", "--num_proc", "1",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    rows = read_table(workplace / "out/clean.csv")
    assert [row["video_id"] for row in rows] == list("012345")
    assert {row["truncated_to_s"] for row in rows} == {"0.75"}
    finished = start(
        split_data, workplace, "--input", "out/clean.csv", "--output_dir", "out/splits",
        "--ratios", "0.5", "0.25", "0.25", "--seed", "7", "--fresh",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert len(read_split(workplace / "out/splits", "train")) == 3


def test_paths_and_limits_of_a_configuration_are_used(workplace: Path, preprocess: Path) -> None:
    write_manifest(workplace, HEADER + GOOD_ROWS)
    (workplace / "mine.yaml").write_text(
        "_base_: base.yaml\npaths: {clean_manifest_path: mine/clean.tsv}\ndata: {min_duration_s: 2}\n",
        encoding="utf-8",
    )
    assert_refused(start(preprocess, workplace, "--config", "mine.yaml"), "too_short 6")
    finished = start(preprocess, workplace, "--config", "mine.yaml", "--min_duration_s", "0")
    assert finished.returncode == 0, finished.stderr
    assert len(read_table(workplace / "mine/clean.tsv")) == 6


# --- refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("manifest", "found"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param("", "an empty file", id="empty"),
        pytest.param(HEADER, "a header only", id="header only"),
        pytest.param(GOOD_ROWS, "no audio_path", id="no header"),
        pytest.param(
            HEADER.replace("transcript", "transcripts") + GOOD_ROWS, "nearest: transcripts", id="column"
        ),
        pytest.param((HEADER + GOOD_ROWS).replace("\t", ","), "separated by commas", id="commas"),
        pytest.param((HEADER + GOOD_ROWS).replace("\t", ";"), "separated by semicolons", id="semicolons"),
        pytest.param((HEADER + GOOD_ROWS).encode("utf-16"), "UTF-16", id="utf-16"),
        pytest.param((HEADER + GOOD_ROWS).encode("utf-8") + b"a\t\xe2\t\n", "is 0xe2", id="not utf-8"),
        pytest.param(HEADER + GOOD_ROWS + "a\0\tb\tc\n", "NUL", id="NUL"),
        pytest.param(
            HEADER.replace("\n", "\ttranscript\n") + GOOD_ROWS, "transcript more than once", id="doubled"
        ),
        pytest.param(HEADER + "data/clips/gone.wav\ta\tb\n", "audio_missing 1", id="nothing left"),
    ],
)
def test_a_manifest_that_cannot_be_used_ends_with_a_message(
    workplace: Path, preprocess: Path, manifest: str | bytes | None, found: str
) -> None:
    if manifest is not None:
        write_manifest(workplace, manifest)
    finished = start(preprocess, workplace)
    assert_refused(finished, found)
    assert str(Path("data/export/manifest.tsv")) in finished.stderr
    assert not (workplace / "data/export/manifest_clean.tsv").exists()


def test_a_missing_manifest_says_how_to_get_one(workplace: Path, preprocess: Path, split_data: Path) -> None:
    assert_refused(start(preprocess, workplace), "python scripts/make_sample_corpus.py")
    assert_refused(start(split_data, workplace), "python scripts/preprocess_manifest.py")


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--video_id_pattern", "("), "video_id_pattern"),
        (("--min_duration_s", "40"), "40.0 and 30.0"),
        (("--audio_root", "nowhere"), "no such folder"),
        (("--output", "data/export/manifest.tsv"), "the manifest itself"),
        (("--output", "data/clips/v1_1.wav/clean.tsv"), "v1_1.wav"),
        (("--input", "data/clips"), "data"),
        (("--config", "nowhere.yaml"), "nowhere"),
    ],
)
def test_bad_options_end_with_a_message(
    workplace: Path, preprocess: Path, arguments: tuple[str, ...], found: str
) -> None:
    write_manifest(workplace, HEADER + GOOD_ROWS)
    assert_refused(start(preprocess, workplace, *arguments), found)


@pytest.mark.parametrize(
    ("num_rows", "arguments", "found"),
    [
        (1, (), "1 group in 1 video "),
        (2, (), "nothing for"),
        (6, ("--ratios", "0.8", "0.2", "0"), "0.8 0.2 0"),
        (6, ("--input", "data/export/manifest.tsv"), "no id and no duration and no video_id"),
        (6, ("--output_dir", "data/clips/v1_1.wav"), "v1_1.wav"),
    ],
)
def test_what_cannot_be_split_ends_with_a_message(
    workplace: Path, preprocess: Path, split_data: Path, num_rows: int, arguments: tuple[str, ...], found: str
) -> None:
    write_manifest(workplace, HEADER + "".join(GOOD_ROWS.splitlines(keepends=True)[:num_rows]))
    assert start(preprocess, workplace).returncode == 0
    assert_refused(start(split_data, workplace, *arguments), found)
    assert not (workplace / "data/splits").exists()


@pytest.mark.parametrize("script", ["preprocess_manifest.py", "split_data.py"])
def test_help_is_instant_and_names_the_launch_line(repo_root: Path, tmp_path: Path, script: str) -> None:
    """Nothing heavy may be imported for it; time itself is no test on a busy machine."""
    code = (
        "import runpy, sys, atexit\n"
        "heavy = {'numpy', 'soundfile', 'torch', 'pydantic', 'omegaconf'}\n"
        "atexit.register(lambda: print('imported:', sorted(heavy & set(sys.modules))))\n"
        f"sys.argv = ['x', '--help']\n"
        f"runpy.run_path({str(repo_root / 'scripts' / script)!r}, run_name='__main__')\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=HANGS_AFTER_S
    )
    assert finished.returncode == 0, finished.stderr
    assert f"python scripts/{script}" in finished.stdout
    assert finished.stdout.rstrip().endswith("imported: []")


# --- interrupted ------------------------------------------------------------------------------------------


def test_a_killed_run_leaves_the_old_files_as_they_were(workplace: Path, preprocess: Path) -> None:
    write_manifest(workplace, HEADER + GOOD_ROWS)
    assert start(preprocess, workplace).returncode == 0
    export = workplace / "data/export"
    before = {path.name: path.read_bytes() for path in export.iterdir() if path.name != "manifest.tsv"}
    shutil.copy(workplace / "data/clips/v1_1.wav", workplace / "data/clips/v7_1.wav")
    write_manifest(workplace, HEADER + GOOD_ROWS + "data/clips/v7_1.wav\ta\tb\n")
    stuck_at_a_new_file = (
        "import runpy, sys, time\n"
        "from vietst.data import audio_facts\n"
        "audio_facts.measure_audio = lambda path, piece: (print('stuck', flush=True), time.sleep(60))\n"
        "sys.argv = ['preprocess_manifest.py']\n"
        f"runpy.run_path({str(preprocess)!r}, run_name='__main__')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", stuck_at_a_new_file],
        cwd=workplace,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "stuck\n"
    finally:
        process.kill()
        process.communicate()
    assert {name: (export / name).read_bytes() for name in before} == before
    finished = start(preprocess, workplace)
    assert "kept 7 of 7" in finished.stderr
