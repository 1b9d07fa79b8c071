"""Options that count or measure something: what is out of their bounds is refused by the parser."""

import runpy
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("script", "arguments", "rule"),
    [
        ("preprocess_manifest", "--num_proc -3", "at least 1"),
        ("preprocess_manifest", "--min_duration_s -1", "below 0"),
        ("preprocess_manifest", "--min_duration_s nan", "below 0"),
        ("preprocess_manifest", "--max_duration_s 0", "not above 0"),
        ("audit_manifest", "--num_proc 0", "at least 1"),
        ("build_features", "--num_proc 1.5", "at least 1"),
        ("make_sample_corpus", "--num_utterances -3", "at least 1"),
        ("transcribe", "a.wav --model m --max_segment_s inf", "not above 0"),
        ("demo", "--model m --max_upload_mb -1", "not above 0"),
        ("benchmark", "features --num_proc -3", "at least 1"),
        ("benchmark", "features --durations_s 3 -1", "not above 0"),
        ("benchmark", "gpu_step --num_workers -1", "at least 0"),
    ],
)
def test_a_number_out_of_bounds_is_refused(
    script: str,
    arguments: str,
    rule: str,
    repo_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", [script, *arguments.split()])
    parse_arguments = runpy.run_path(str(repo_root / "scripts" / f"{script}.py"))["parse_arguments"]
    with pytest.raises(SystemExit) as end:
        parse_arguments()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert f"argument {arguments[arguments.rindex('--') :].split()[0]}: " in said
    assert rule in said
