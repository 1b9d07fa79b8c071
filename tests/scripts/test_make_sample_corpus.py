"""scripts/make_sample_corpus.py as a user runs it."""

from pathlib import Path

from tests.script_runs import run_script


def test_makes_the_corpus_then_leaves_it_alone_and_refuses_to_replace_it(tmp_path: Path) -> None:
    small = ("--num_utterances", "4", "--num_videos", "2", "--num_proc", "2")
    made = run_script("make_sample_corpus.py", tmp_path, *small)
    assert made.returncode == 0, made.stderr
    assert "speaking 4 utterances in 2 videos" in made.stderr
    assert "4 files below" in made.stderr
    manifest = (tmp_path / "data/export/manifest.tsv").read_text(encoding="utf-8")
    assert "\tdata/export/audio/video_001/0001.wav\t" in manifest

    again = run_script("make_sample_corpus.py", tmp_path, *small)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr

    refused = run_script("make_sample_corpus.py", tmp_path, *small, "--seed", "7")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "seed 1 (asked for: 7)" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert (tmp_path / "data/export/manifest.tsv").read_text(encoding="utf-8") == manifest

    replaced = run_script("make_sample_corpus.py", tmp_path, *small, "--seed", "7", "--overwrite")
    assert replaced.returncode == 0, replaced.stderr
    assert (tmp_path / "data/export/manifest.tsv").read_text(encoding="utf-8") != manifest


def test_more_utterances_than_there_are_sentences_is_an_error_with_the_number(tmp_path: Path) -> None:
    refused = run_script("make_sample_corpus.py", tmp_path, "--num_utterances", "1000000")
    assert refused.returncode == 2
    assert "distinct short sentences" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.iterdir())
