"""Extra sets in real trainings: one that gets worse is told, others are not, and resuming remembers.

The sets are of the fixture `watched`: the base model makes no mistake in them.
"""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_runs import history
from vietst.errors import ConfigError, VietstError
from vietst.training.checkpoints import LATEST
from vietst.training.extra_sets import NUM_WORSE_SETS
from vietst.training.run_plan import dry_run
from vietst.training.runner import run_training


@pytest.fixture
def said(monkeypatch, caplog) -> Callable[[], list[str]]:
    """The warnings about sets that got worse, so far."""
    monkeypatch.setattr(logging.getLogger("vietst"), "propagate", True)
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records if "worse than" in record.getMessage()]


def wer_of_own_words(run_dir: Path) -> list[float]:
    return history(run_dir, "eval_own_words_wer")


@pytest.mark.parametrize("kind", ["whisper", "e2e"])
def test_a_set_that_gets_worse_warns_once_an_evaluation_and_stands_in_the_history(watched, said, kind):
    run_dir = run_training(watched(kind, "training.learning_rate=1e-2", "training.max_steps=6"))
    before, *after = wer_of_own_words(run_dir)
    assert before == 0, "what the model wrote is what it was asked to write"
    assert history(run_dir, "eval_own_words_num_utterances") == [15] * 4
    assert history(run_dir, "eval_own_words_wer_rise") == after
    assert max(after) > 5, "the training did not change the model enough to test anything"
    worse = [wer for wer in after if wer > 5]
    assert sum(history(run_dir, NUM_WORSE_SETS)) == len(said()) == len(worse)
    assert f"own_words WER 0.00 → {worse[-1]:.2f} (+{worse[-1]:.2f})" in said()[-1]
    assert len(history(run_dir, "eval_wer")) == len(history(run_dir, "eval_own_words_wer")) == 4


def test_a_set_that_does_not_get_worse_is_not_spoken_of(watched, said):
    run_dir = run_training(watched("whisper", "training.learning_rate=1e-12"))
    assert wer_of_own_words(run_dir) == [0, 0, 0]
    assert history(run_dir, NUM_WORSE_SETS) == [0, 0]
    assert not said()


def test_without_a_limit_the_rise_is_recorded_and_nobody_is_warned(watched, said):
    unlimited = ("training.learning_rate=1e-2", "evaluation.max_wer_rise_points=null")
    run_dir = run_training(watched("whisper", *unlimited))
    assert history(run_dir, "eval_own_words_wer_rise") == wer_of_own_words(run_dir)[1:]
    assert not history(run_dir, NUM_WORSE_SETS)
    assert not said()


def test_a_base_that_writes_nothing_right_has_nothing_to_lose(watched, tiny_corpus, said):
    real = (tiny_corpus / "data" / "splits" / "test.csv").as_posix()
    run_dir = run_training(watched("whisper", f"evaluation.extra_sets={{test: {{path: {real}}}}}"))
    assert history(run_dir, "eval_test_wer")[0] >= 100
    assert not history(run_dir, "eval_test_wer_rise")
    assert not said()


def test_a_watched_training_takes_the_steps_of_an_unwatched_one(watched, tmp_path):
    """With data workers: their seeds, too, are as they were."""
    options = ("dataloader.num_workers=1", "training.learning_rate=1e-3", "augmentation.mask_time_prob=0.1")
    watched_dir = run_training(watched("whisper", *options))
    alone = (f"output.dir={(tmp_path / 'alone').as_posix()}", "evaluation.extra_sets={}")
    alone_dir = run_training(watched("whisper", *options, *alone))
    for key in ("loss", "grad_norm"):
        assert history(watched_dir, key) == history(alone_dir, key)
    assert history(watched_dir, "eval_loss")[1:] == history(alone_dir, "eval_loss")


def test_a_training_that_goes_on_compares_with_the_score_before_its_first_step(watched, said, tmp_path):
    loaded = watched("whisper", "training.learning_rate=1e-2", "training.max_steps=6")
    straight = run_training(loaded)
    rises, num_said = history(straight, "eval_own_words_wer_rise"), len(said())
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    shutil.copytree(straight / "checkpoint-2", resumed / "checkpoint-2")
    again = watched("whisper", "training.learning_rate=1e-2", "training.max_steps=6",
                    f"output.dir={resumed.as_posix()}")  # fmt: skip
    assert run_training(again, resume=LATEST) == resumed
    assert wer_of_own_words(resumed) == wer_of_own_words(straight), "step 0 is not evaluated again"
    assert history(resumed, "eval_own_words_wer_rise") == rises
    first = json.loads((straight / "checkpoint-2" / "trainer_state.json").read_text(encoding="utf-8"))
    in_first = sum(entry.get(NUM_WORSE_SETS, 0) for entry in first["log_history"])
    assert len(said()) == 2 * num_said - in_first


def test_a_set_that_was_not_scored_before_the_training_is_not_compared(watched, said, caplog, tmp_path):
    options = ("training.learning_rate=1e-2", "training.max_steps=2")
    run_training(watched("whisper", *options))
    said_before = said()
    assert len(said_before) == 1
    changed = watched("whisper").value("evaluation.extra_sets")
    other = tmp_path / "other.tsv"
    lines = Path(changed["own_words"]["path"]).read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    sets = {"own_words": {**changed["own_words"], "path": other.as_posix()}, "new": changed["own_words"]}
    options = (options[0], f"evaluation.extra_sets={json.dumps(sets)}")
    run_dir = run_training(watched("whisper", *options), resume=LATEST)
    assert history(run_dir, "eval_new_wer")[-1] > 5
    assert not history(run_dir, "eval_new_wer_rise")
    assert len(history(run_dir, "eval_own_words_wer_rise")) == 1, "that of the run before"
    assert said() == said_before
    assert "own_words: its score before the training is not known, since its utterances" in caplog.text
    assert "new: its score before the training is not known, since it was not there" in caplog.text
    run_training(watched("whisper", *options, "training.max_steps=6"), resume=LATEST)
    assert len(history(run_dir, "eval_own_words_wer_rise")) == 1, "nor when it goes on once more"


def test_each_set_has_the_language_of_its_own_prompt(watched):
    """The same clips and texts after `<|vi|>` and `<|en|>`."""
    own_words = watched("whisper").value("evaluation.extra_sets")["own_words"]
    sets = {"first": own_words, "second": {**own_words, "language": "en"}, "third": own_words}
    run_dir = run_training(
        watched("whisper", "training.max_steps=2", f"evaluation.extra_sets={json.dumps(sets)}")
    )
    vietnamese, english, again = (history(run_dir, f"eval_{name}_loss") for name in sets)
    assert vietnamese == again
    assert english != vietnamese
    assert history(run_dir, "eval_first_wer")[0] == 0


def test_of_a_large_set_the_same_utterances_are_drawn_every_time_and_bad_rows_are_reported(
    watched, tiny_corpus, tmp_path
):
    own_words = watched("whisper").value("evaluation.extra_sets")["own_words"]
    text = Path(own_words["path"]).read_text(encoding="utf-8")
    first = text.splitlines()[1].split("\t")[0]
    mixed = tmp_path / "mixed.tsv"
    mixed.write_text(f"{text}{first}\t\n{first}\t{'rất ' * 200}\n", encoding="utf-8")
    sets = json.dumps({"mixed": {**own_words, "path": mixed.as_posix()}})
    loaded = watched("whisper", "training.max_steps=2", f"evaluation.extra_sets={sets}")
    run_dir = run_training(loaded)
    assert history(run_dir, "eval_mixed_num_utterances") == [15, 15]
    rejected = (run_dir / "rejected_rows.tsv").read_text(encoding="utf-8").splitlines()[1:]
    assert [line.split("\t")[0:3:2] for line in rejected] == [
        ["mixed", "no_target"],
        ["mixed", "label_too_long"],
    ]
    digests = set()
    for folder in ("a", "b"):
        few = ("evaluation.max_extra_utterances=4", f"output.dir={(tmp_path / folder).as_posix()}")
        run_dir = run_training(watched("whisper", "training.max_steps=2", *few))
        assert history(run_dir, "eval_own_words_num_utterances") == [4, 4]
        facts = json.loads((run_dir / "run_facts.json").read_text(encoding="utf-8"))
        digests.add(facts["extra_sets"]["own_words"])
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("changed", "found", "do"),
    [
        ({"path": "missing.tsv"}, "no such file", "correct evaluation.extra_sets.own_words.path"),
        ({"audio_root": "elsewhere"}, "audio_missing", "correct evaluation.extra_sets.own_words.audio_root"),
        ({"language": "xx"}, "'xx': no <|xx|>", "model.language holds then"),
    ],
)
def test_what_is_not_there_is_said_before_the_training(watched, capsys, changed, found, do):
    own_words = watched("whisper").value("evaluation.extra_sets")["own_words"]
    sets = json.dumps({"own_words": {**own_words, **changed}})
    loaded = watched("whisper", f"evaluation.extra_sets={sets}")
    with pytest.raises(VietstError) as refused:
        run_training(loaded)
    assert found in refused.value.found
    assert do in refused.value.do
    assert not dry_run(loaded)
    assert found in capsys.readouterr().out


def test_a_dry_run_counts_the_utterances_of_every_set(watched, capsys):
    assert dry_run(watched("whisper"))
    assert "dev: 10 utterances; own_words: 15 utterances (vi)" in capsys.readouterr().out


def test_extra_sets_need_evaluations(watched):
    with pytest.raises(ConfigError, match="extra sets are scored when dev is"):
        watched("whisper", "training.eval_strategy=no")
