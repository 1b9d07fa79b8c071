"""Encoding once is the doubled batch; labels, prompts and what is saved are as the contract says."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoProcessor, WhisperForConditionalGeneration

from tests.doubled_batch import doubled, loss_and_gradients
from tests.tiny_models import cached_rows, whisper_batch, whisper_model, whisper_processor
from vietst.constants import IGNORE_INDEX, TASKS
from vietst.data.ctc_units import CharacterTable
from vietst.data.features import LOG_MEL_80_NANO
from vietst.evaluation.decode import TextDecoder
from vietst.models import whisper, whisper_generation
from vietst.models.multitask import EncoderStates, LossWeights, ctc_negative_log_likelihood
from vietst.models.shared_states import by_utterance
from vietst.models.trainable import TrainingScope, with_frozen_encoder
from vietst.models.whisper_inputs import WhisperCollator, decoder_prompt, text_token_ids


@pytest.fixture(scope="module")
def processor():
    return whisper_processor()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("freeze", [False, True])
def test_encoding_once_gives_loss_and_gradients_of_the_doubled_batch(processor, checkpointing, freeze):
    torch.manual_seed(0)
    model = whisper_model(processor).train()
    if freeze:
        with_frozen_encoder(TrainingScope()).apply(model)
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    batch = whisper_batch(processor, cached_rows(4))
    once_loss, once = loss_and_gradients(model, batch)
    doubled_loss, twice = loss_and_gradients(model, doubled(batch))
    assert once_loss == pytest.approx(doubled_loss, rel=1e-5)
    assert once.keys() == twice.keys()
    for name in once:
        torch.testing.assert_close(once[name], twice[name], rtol=1e-3, atol=2e-6, msg=name)


def test_an_utterance_without_translation_trains_its_transcript_alone(processor):
    rows = cached_rows(3)
    rows[1]["translation"] = ""
    batch = WhisperCollator(processor, LOG_MEL_80_NANO, TASKS, "vi")(rows)
    assert len(batch["input_features"].lengths) == 3
    assert batch["utterance_index"].tolist() == [0, 1, 2, 0, 2]
    assert batch["task_index"].tolist() == [0, 0, 0, 1, 1]
    assert batch["labels"].shape[0] == 5


def test_accumulated_micro_batches_give_the_gradients_of_one_batch(processor):
    """Stock Whisper ignores num_items_in_batch: its gradients would be four times too large."""
    model = whisper_model(processor).eval()
    characters = CharacterTable.of_texts(row["transcript"] for row in cached_rows(4))
    model.add_ctc_head(len(characters))
    model.loss_weights = LossWeights(per_task=(1.0, 0.5), ctc=0.3)
    rows = cached_rows(4)
    _, whole = loss_and_gradients(model, whisper_batch(processor, rows, characters=characters))
    batches = [whisper_batch(processor, [row], characters=characters) for row in rows]
    num_tokens = sum((batch["labels"] != IGNORE_INDEX).sum() for batch in batches)
    model.zero_grad()
    for batch in batches:
        model(**batch, num_items_in_batch=num_tokens).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-3, atol=2e-6, msg=name)


def test_task_weights_scale_the_loss_of_their_task_only(processor):
    model = whisper_model(processor).eval()
    batch = whisper_batch(processor, cached_rows(2))
    num_tokens = (batch["labels"] != IGNORE_INDEX).sum()
    outputs = model(**batch)
    model.loss_weights = LossWeights(per_task=(1.0, 0.0))
    transcripts_only = model(**batch).loss
    expected = outputs.target_losses[batch["task_index"] == 0].sum() / num_tokens
    torch.testing.assert_close(transcripts_only, expected)


def test_labels_learn_text_and_end_token_and_nothing_of_the_prompt(processor):
    tokenizer = processor.tokenizer
    rows = cached_rows(4)
    batch = WhisperCollator(processor, LOG_MEL_80_NANO, TASKS, "vi")(rows)
    texts = [row["transcript"] for row in rows] + [row["translation"] for row in rows]
    for row, text in enumerate(texts):
        task = TASKS[batch["task_index"][row]]
        ids = text_token_ids(tokenizer, text)
        prompt = decoder_prompt(tokenizer, task, "vi")
        labels, inputs = batch["labels"][row].tolist(), batch["decoder_input_ids"][row].tolist()
        assert labels[:3] == [IGNORE_INDEX] * 3
        # pad is eos in Whisper: the end token must stay, the padding must not be learned
        assert labels[3 : 3 + len(ids) + 1] == [*ids, tokenizer.eos_token_id]
        assert set(labels[3 + len(ids) + 1 :]) <= {IGNORE_INDEX}
        assert inputs[: 4 + len(ids)] == prompt + ids
        assert inputs.count(prompt[0]) == 1, "exactly one start token"


def test_prompts_tell_the_tasks_apart_and_are_what_generation_starts_from(processor, monkeypatch):
    tokenizer = processor.tokenizer
    prompts = {task: decoder_prompt(tokenizer, task, "vi") for task in TASKS}
    assert prompts["transcribe"] != prompts["translate"]
    for task, prompt in prompts.items():
        text = f"<|startoftranscript|><|vi|><|{task}|><|notimestamps|>"
        assert tokenizer.convert_ids_to_tokens(prompt) == [f"<|{t}|>" for t in text[2:-2].split("|><|")]
    model = whisper_model(processor).eval()
    started_from = {}
    monkeypatch.setattr(
        type(model),
        "generate",
        lambda self, **kwargs: started_from.update(kwargs) or kwargs["decoder_input_ids"],
    )
    whisper_generation.generate(
        model, tokenizer, EncoderStates(torch.zeros(2, 100, 32)), TASKS, language="vi", max_new_tokens=5
    )
    rows = cached_rows(2)
    trained = WhisperCollator(processor, LOG_MEL_80_NANO, TASKS, "vi")(rows)["decoder_input_ids"][:, :4]
    assert started_from["decoder_input_ids"].tolist() == by_utterance(trained, len(TASKS)).tolist()


def test_generating_both_tasks_together_equals_generating_each_alone(processor):
    model = whisper_model(processor).eval()
    states = model.encode(whisper_batch(processor, cached_rows(3))["input_features"], None)
    options = {"language": "vi", "max_new_tokens": 12}
    decode = TextDecoder(processor.tokenizer)
    together = decode(whisper_generation.generate(model, processor.tokenizer, states, TASKS, **options))
    apart = [
        text
        for task in TASKS
        for text in decode(
            whisper_generation.generate(model, processor.tokenizer, states, (task,), **options)
        )
    ]
    assert together == apart
    beams = whisper_generation.generate(model, processor.tokenizer, states, TASKS, num_beams=3, **options)
    assert beams.shape[0] == 6


def test_stock_transformers_generates_the_same_text_as_ours(processor, tmp_path):
    model = whisper_model(processor).eval()
    whisper.set_generation_defaults(model, "vi", "transcribe")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    stock = WhisperForConditionalGeneration.from_pretrained(tmp_path).eval()
    reloaded = AutoProcessor.from_pretrained(tmp_path)
    features = whisper_batch(processor, cached_rows(2))["input_features"]
    no_timestamps = processor.tokenizer.convert_tokens_to_ids("<|notimestamps|>")
    timestamps = list(range(no_timestamps + 1, model.config.vocab_size))
    theirs = stock.generate(features, max_new_tokens=10, suppress_tokens=timestamps)
    ours = whisper_generation.generate(
        model,
        processor.tokenizer,
        model.encode(features, None),
        ("transcribe",),
        language="vi",
        max_new_tokens=10,
    )
    expected = [text.strip() for text in reloaded.batch_decode(theirs, skip_special_tokens=True)]
    assert TextDecoder(processor.tokenizer)(ours) == expected


def test_saved_model_reloads_as_the_stock_class_with_equal_weights(processor, tmp_path):
    model = whisper_model(processor)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    stock, info = WhisperForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert stock.config.architectures == ["WhisperForConditionalGeneration"]
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, stock.state_dict()[name]), name


def test_sinusoids_stay_constant_after_loading(processor, tmp_path):
    """from_pretrained loses requires_grad=False on them (STACK S4): they would be trained."""
    whisper_model(processor).save_pretrained(tmp_path)
    model = whisper.load_model(str(tmp_path), model_class=whisper.MultitaskWhisper)
    assert not model.model.encoder.embed_positions.weight.requires_grad
    assert model.model.decoder.embed_positions.weight.requires_grad


def test_a_frozen_encoder_gets_no_gradient_and_is_not_masked(processor):
    model = whisper_model(processor, apply_spec_augment=True, mask_time_prob=0.5).train()
    batch = whisper_batch(processor, cached_rows(2))
    masked = model.encode(batch["input_features"].clone(), batch["attention_mask"])
    with_frozen_encoder(TrainingScope()).apply(model)
    first, second = (model.encode(batch["input_features"].clone(), batch["attention_mask"]) for _ in range(2))
    assert torch.equal(first.last_hidden_state, second.last_hidden_state)
    assert not torch.equal(first.last_hidden_state, masked.last_hidden_state)
    model(**batch).loss.backward()
    assert all(parameter.grad is None for parameter in model.model.encoder.parameters())
    assert model.proj_out.weight.grad.abs().sum() > 0


def test_ctc_teaches_the_encoder(processor):
    torch.manual_seed(0)
    rows = cached_rows(4)
    characters = CharacterTable.of_texts(row["transcript"] for row in rows)
    batch = whisper_batch(processor, rows, characters=characters)
    model = whisper_model(processor)
    without = model(**batch).loss
    model.add_ctc_head(len(characters))
    model.loss_weights = LossWeights(ctc=1.0)
    loss = model(**batch).loss
    assert loss > without
    loss.backward()
    assert model.ctc_head.weight.grad.abs().sum() > 0
    assert batch["num_positions"].tolist() == [(row["num_frames"] + 1) // 2 for row in rows]


def test_an_utterance_whose_units_do_not_fit_its_positions_counts_nothing_for_ctc():
    torch.manual_seed(0)
    head, states = torch.nn.Linear(8, 5), torch.randn(3, 6, 8)
    labels = torch.tensor([[1, 2, 3], [4, 4, IGNORE_INDEX], [1, 2, 3]])
    num_positions = torch.tensor([6, 2, 2])  # the second one's equal units need a blank between them
    together = ctc_negative_log_likelihood(head, states, num_positions, labels)
    alone = ctc_negative_log_likelihood(head, states[:1], num_positions[:1], labels[:1])
    assert together.item() == pytest.approx(alone.item())
    gradient, expected = (torch.autograd.grad(loss, head.weight)[0] for loss in (together, alone))
    torch.testing.assert_close(gradient, expected)
    fits = ctc_negative_log_likelihood(head, states, torch.tensor([6, 3, 3]), labels)
    assert fits > alone + 1


def test_ctc_is_computed_on_the_cpu_where_apples_gpus_have_none(monkeypatch):
    def ctc_loss(log_probabilities, labels, input_lengths, target_lengths, **_):
        operands = (log_probabilities, labels, input_lengths, target_lengths)
        assert {tensor.device.type for tensor in operands} == {"cpu"}
        return log_probabilities.sum()

    monkeypatch.setattr(torch.nn.functional, "ctc_loss", ctc_loss)
    with FakeTensorMode():
        states = torch.empty(3, 6, 8, device="mps")
        labels = torch.empty(3, 3, dtype=torch.int64, device="mps")
        loss = ctc_negative_log_likelihood(torch.nn.Identity(), states, labels.sum(dim=1), labels)
    assert loss.device.type == "mps"
