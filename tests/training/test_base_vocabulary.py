"""A run and the vocabulary of its base model: what is recorded of it, and that resuming keeps to it."""

import json

import pytest
from transformers import SpeechEncoderDecoderModel

from tests.tiny_e2e import write_decoder, write_encoder
from tests.tiny_runs import tiny_e2e_run_overrides
from vietst.config import load_config
from vietst.data.splits import read_split
from vietst.errors import CheckpointError
from vietst.models.e2e_inputs import load_processor
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


def test_dev_e2e_trains_a_trimmed_model_that_stock_transformers_loads(tiny_corpus, tmp_path):
    """As shipped: LoRA, frozen encoder, trimmed vocabulary; only its checkpoints are tiny."""
    write_encoder(tmp_path / "parts" / "encoder")
    write_decoder(tmp_path / "parts" / "decoder", max_position_embeddings=256)
    common = [
        override
        for override in tiny_e2e_run_overrides(tiny_corpus, tmp_path)
        if not override.startswith("nano_e2e") and "batch_s" not in override
    ]
    run_dir = run_training(
        load_config(
            "dev_e2e", [*common, "training.max_steps=2", "training.eval_steps=2", "dataloader.num_workers=0"]
        )
    )
    facts = json.loads((run_dir / "run_facts.json").read_text(encoding="utf-8"))
    assert facts["vocabulary_pieces"] <= facts["vocabulary_pieces_before_trimming"]
    model, loading = SpeechEncoderDecoderModel.from_pretrained(run_dir, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert model.config.decoder.vocab_size == facts["vocabulary_pieces"] + 2


@pytest.mark.parametrize(("config", "section"), [("nano_config", "nano"), ("nano_e2e_config", "nano_e2e")])
def test_resuming_with_the_tokenizer_of_another_base_is_refused(config, section, request):
    load = request.getfixturevalue(config)
    run_training(load(*FEW_STEPS))
    more = (*FEW_STEPS, "training.max_steps=2")
    with pytest.raises(CheckpointError, match="made anew"):
        run_training(load(*more, f"{section}.vocab_size=310"), resume=LATEST)
    run_training(load(*more), resume=LATEST)
