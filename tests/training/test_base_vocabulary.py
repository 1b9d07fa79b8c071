"""A run and the vocabulary of its base model: what is recorded of it, and that resuming keeps to it."""

import json

import pytest

from vietst.data.splits import read_split
from vietst.errors import CheckpointError
from vietst.models.e2e import load_processor
from vietst.training.checkpoints import LATEST
from vietst.training.runner import run_training

FEW_STEPS = (
    "training.max_steps=1",
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
    "training.save_steps=1",
)


def test_a_run_on_a_trimmed_base_says_and_records_how_many_pieces_were_kept(nano_e2e_config, capsys):
    loaded = nano_e2e_config("model.trim_vocabulary=true", *FEW_STEPS)
    run_dir = run_training(loaded)
    facts = json.loads((run_dir / "run_facts.json").read_text(encoding="utf-8"))
    kept, before = facts["vocabulary_pieces"], facts["vocabulary_pieces_before_trimming"]
    assert 300 < kept < before
    assert f"vocabulary: {kept} of {before} pieces kept" in capsys.readouterr().err
    trained = load_processor(str(run_dir)).tokenizer
    assert len(trained) == kept + 2, "the task tokens come on top"
    for row in read_split(loaded.config.paths.splits_dir, "train"):
        for column in ("transcript", "translation"):
            assert trained.decode(trained(row[column]).input_ids, skip_special_tokens=True) == row[column]


@pytest.mark.parametrize(("config", "section"), [("nano_config", "nano"), ("nano_e2e_config", "nano_e2e")])
def test_resuming_with_the_tokenizer_of_another_base_is_refused(config, section, request, tmp_path):
    load = request.getfixturevalue(config)
    parts = ("encoder", "decoder") if section == "nano_e2e" else ()
    base = [f"model.{part}={(tmp_path / 'parts' / part).as_posix()}" for part in parts]
    run_training(load(*base, *FEW_STEPS))
    more = (*base, *FEW_STEPS, "training.max_steps=2")
    with pytest.raises(CheckpointError, match="made anew"):
        run_training(load(*more, f"{section}.vocab_size=310"), resume=LATEST)
    run_training(load(*more), resume=LATEST)
