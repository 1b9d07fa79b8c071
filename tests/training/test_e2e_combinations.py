"""One step of real E2E training for every pair of choices: what moves, what is saved, what it generates."""

import itertools
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, AutoTokenizer, SpeechEncoderDecoderModel

from tests.tiny_e2e import ENCODER_WIDTH, waveform_rows, write_decoder, write_encoder
from tests.tiny_runs import short_run_overrides
from vietst.config import load_config
from vietst.constants import TASKS, TRANSLATE
from vietst.data.features import WAVEFORM_16K
from vietst.models import e2e, e2e_generation, e2e_inputs
from vietst.training.runner import run_training


class Combination(NamedTuple):
    """`norm` is wav2vec2-base's ("group") or XLSR-53's ("layer"); `bridge` joins encoder and decoder."""

    norm: str
    bridge: str
    trained: str
    task: str


CHOICES = {
    "norm": ("group", "layer"),
    "bridge": ("none", "projection", "adaptor", "both"),
    "trained": ("full", "lna", "lora", "frozen", "cached"),
    "task": ("transcribe", "translate", "both"),
}

COMBINATIONS = [
    Combination(*row.split())
    for row in """
    layer  none        full    transcribe
    layer  projection  full    translate
    group  adaptor     full    transcribe
    layer  both        full    both
    group  none        lna     translate
    group  projection  lna     both
    layer  adaptor     lna     translate
    group  both        lna     transcribe
    layer  none        lora    both
    layer  projection  lora    transcribe
    group  adaptor     lora    both
    layer  both        lora    translate
    layer  none        frozen  transcribe
    layer  projection  frozen  transcribe
    group  adaptor     frozen  both
    group  both        frozen  translate
    group  none        cached  transcribe
    group  projection  cached  translate
    layer  adaptor     cached  transcribe
    group  both        cached  both
    """.strip().splitlines()
]

OVERRIDES = {
    "full": (),
    "lna": ("model.finetune=lna",),
    "lora": ("model.finetune=lora", "lora.rank=4"),
    "frozen": ("model.freeze_encoder=true",),
    "cached": ("model.freeze_encoder=true", "model.cache_encoder_states=true"),
}

ONE_STEP = (
    "model.type=e2e",
    "training.max_steps=1",
    "training.save_steps=1",
    "training.eval_strategy=no",
    "training.load_best_model_at_end=false",
    "training.learning_rate=1e-2",
    "training.lr_scheduler_type=constant",
    "training.warmup_ratio=0",
    "training.weight_decay=0",
    "loss.ctc_weight=0.5",
    "augmentation.mask_time_prob=0.5",
    "augmentation.mask_time_length=2",
    "dataloader.num_workers=0",
)

NUM_NEW_TOKENS = 6


def test_the_table_covers_every_pair_of_choices():
    for (first, firsts), (second, seconds) in itertools.combinations(CHOICES.items(), 2):
        covered = {(getattr(row, first), getattr(row, second)) for row in COMBINATIONS}
        assert covered == set(itertools.product(firsts, seconds)), f"{first} × {second}"


def is_new(name: str) -> bool:
    return name.startswith(("encoder.adapter.", "enc_to_dec_proj."))


def moves(name: str, trained: str) -> bool:
    """What must be another number after the step, by the names of stock transformers."""
    if name == "encoder.masked_spec_embed":
        return False
    if is_new(name):
        return True
    in_encoder = name.startswith("encoder.")
    if trained == "lna":
        pieces = (".attention.", "self_attn.", "encoder_attn.", "layer_norm", "layernorm")
        return ".feature_extractor." not in name and any(piece in name for piece in pieces)
    if trained == "lora":  # merged
        return name.endswith(("q_proj.weight", "v_proj.weight"))
    return not in_encoder or trained == "full"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with an encoder of each norm, and decoders as wide as they and wider."""
    folder = tmp_path_factory.mktemp("parts")
    for norm in CHOICES["norm"]:
        write_encoder(folder / norm, norm)
    for width in (ENCODER_WIDTH, 48):
        write_decoder(folder / str(width), width)
    return folder


@pytest.fixture(scope="module")
def features(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the waveforms, so that encoder states lie beside nobody else's features."""
    folder = tmp_path_factory.mktemp("features")
    [waveforms] = (tiny_corpus / "data" / "features").glob("waveform-*")
    shutil.copytree(waveforms, folder / waveforms.name)
    return folder


@pytest.mark.parametrize("row", COMBINATIONS, ids="-".join)
def test_a_step_moves_what_it_should_and_the_saved_model_speaks_for_both_tasks(
    row, parts, features, tiny_corpus, tmp_path
):
    run_dir, base = tmp_path / "run", tmp_path / "nano"
    width = 48 if row.bridge in ("projection", "both") else ENCODER_WIDTH
    has_adaptor = row.bridge in ("adaptor", "both")
    overrides = [
        *short_run_overrides(tiny_corpus, tmp_path),
        *ONE_STEP,
        *OVERRIDES[row.trained],
        f"paths.features_dir={features.as_posix()}",
        f"model.encoder={(parts / row.norm).as_posix()}",
        f"model.decoder={(parts / str(width)).as_posix()}",
        f"model.length_adaptor={str(has_adaptor).lower()}",
        f"model.task={row.task}",
    ]
    run_training(load_config("base", overrides))
    facts = json.loads((run_dir / "run_facts.json").read_text(encoding="utf-8"))
    assert ("encoder_states" in facts) == (row.trained == "cached")
    assert facts["tasks"] == list(TASKS if row.task == "both" else (row.task,))

    before, after = load_file(base / "model.safetensors"), load_file(run_dir / "model.safetensors")
    assert after.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if moves(name, row.trained)}
    assert any(is_new(name) for name in moved) == (row.bridge != "none")
    assert "ctc_head.weight" in load_file(run_dir / "checkpoint-1" / "model.safetensors")

    stock, loading = SpeechEncoderDecoderModel.from_pretrained(run_dir, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert hasattr(stock, "enc_to_dec_proj") == (width != ENCODER_WIDTH)
    assert (stock.encoder.adapter is not None) == has_adaptor
    assert_speaks_for_both_tasks(stock.eval(), run_dir, default_task=row.task)


@torch.no_grad()
def assert_speaks_for_both_tasks(
    stock: SpeechEncoderDecoderModel, run_dir: Path, *, default_task: str
) -> None:
    """Stock transformers says what we say, for each task by its prompt, and for the default without one."""
    tokenizer, processor = AutoTokenizer.from_pretrained(run_dir), AutoProcessor.from_pretrained(run_dir)
    ours = e2e.load_model(str(run_dir)).eval()
    inputs = e2e_inputs.input_batch(waveform_rows(1), WAVEFORM_16K)
    start, *task_tokens = tokenizer.convert_tokens_to_ids(["vi_VN", *(f"<2{task}>" for task in TASKS)])
    states = e2e_generation.encode(ours, inputs)
    hypotheses = e2e_generation.generate(
        ours, processor.tokenizer, states, TASKS, language="vi", max_new_tokens=NUM_NEW_TOKENS
    )
    max_length = 2 + NUM_NEW_TOKENS
    for task_token, hypothesis in zip(task_tokens, hypotheses, strict=True):
        prompt = torch.tensor([[start, task_token]])
        generated = stock.generate(inputs["input_values"], decoder_input_ids=prompt, max_length=max_length)
        num_tokens = generated.shape[1] - 2
        assert generated[0, 2:].tolist() == hypothesis[:num_tokens].tolist()
        assert set(hypothesis[num_tokens:].tolist()) <= {tokenizer.pad_token_id}
        assert int(generated.max()) < len(tokenizer)
        tokenizer.decode(generated[0])
    unprompted = stock.generate(inputs["input_values"], max_length=max_length)
    assert unprompted[0, :2].tolist() == [start, task_tokens[default_task == TRANSLATE]]
