"""Small untrained models in the standard layout, for machines without a GPU or a model hub.

A nano model is an ordinary folder (config, tokenizer, feature extractor, random weights) that
`from_pretrained` loads as it loads a Hub id: everything behind it is the real code. It learns the sample
corpus, and proves that the pipeline learns; it knows no other language than its training texts.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vietst.constants import SAMPLE_RATE_HZ, TASKS
from vietst.models.made_folders import made_folder

if TYPE_CHECKING:
    from transformers import WhisperForConditionalGeneration, WhisperProcessor, WhisperTokenizer

CARD_NAME = "nano_card.json"


@dataclasses.dataclass(frozen=True)
class NanoWhisperShape:
    """Sizes of an untrained Whisper. `hop_length_samples` and `window_s` fix its log-mel input kind."""

    d_model: int
    attention_heads: int
    encoder_layers: int
    decoder_layers: int
    ffn_dim: int
    num_mel_bins: int
    hop_length_samples: int
    window_s: int
    vocab_size: int
    max_target_positions: int
    seed: int


def ensure_nano_whisper(folder: Path, shape: NanoWhisperShape, texts: Sequence[str]) -> bool:
    """Make the untrained model at `folder`, unless it is there, made from the same shape and texts.

    Args:
        texts: all training texts; the tokenizer's byte-level BPE is trained on them.

    Returns:
        Whether it was made now. The folder appears complete or not at all.

    Raises:
        ModelError: something else lies there.
    """
    card = {
        "shape": dataclasses.asdict(shape),
        "texts_digest": texts_digest(texts),
    }
    card_path = folder / CARD_NAME
    if card_path.is_file() and json.loads(card_path.read_text(encoding="utf-8")) == card:
        return False
    otherwise = (
        "choose another folder with model.name=…, or train the model that lies there with another config"
    )
    with made_folder(folder, CARD_NAME, otherwise) as building:
        processor = make_whisper_processor(shape, texts)
        processor.save_pretrained(building)
        make_whisper_model(shape, processor.tokenizer).save_pretrained(building)
        (building / CARD_NAME).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8", newline="\n")
    return True


def texts_digest(texts: Sequence[str]) -> str:
    """BLAKE2b-128 (hexadecimal) of texts in their order: what a tokenizer learned from them depends on."""
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


def make_whisper_tokenizer(texts: Sequence[str], vocab_size: int) -> "WhisperTokenizer":
    """Byte-level BPE of `vocab_size` pieces, then all of Whisper's special tokens in Whisper's order."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import WhisperTokenizer
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((" " + text for text in texts), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    whisper = WhisperTokenizer(vocab=model["vocab"], merges=merges, pad_token="<|endoftext|>")
    whisper.add_special_tokens(
        {
            "extra_special_tokens": [
                "<|startoftranscript|>",
                *(f"<|{language}|>" for language in list(LANGUAGES)[:99]),  # without large-v3's Cantonese
                "<|translate|>",
                "<|transcribe|>",
                "<|startoflm|>",
                "<|startofprev|>",
                "<|nospeech|>",
                "<|notimestamps|>",
            ]
        }
    )
    whisper.add_tokens([f"<|{position * 0.02:.2f}|>" for position in range(1501)])
    return whisper


def make_whisper_processor(shape: NanoWhisperShape, texts: Sequence[str]) -> "WhisperProcessor":
    """Tokenizer trained on the texts, and a feature extractor with the shape's hop and window."""
    from transformers import WhisperFeatureExtractor, WhisperProcessor

    feature_extractor = WhisperFeatureExtractor(
        feature_size=shape.num_mel_bins, hop_length=shape.hop_length_samples, chunk_length=shape.window_s
    )
    return WhisperProcessor(feature_extractor, make_whisper_tokenizer(texts, shape.vocab_size))


def make_whisper_model(
    shape: NanoWhisperShape, tokenizer: "WhisperTokenizer"
) -> "WhisperForConditionalGeneration":
    """Random weights, drawn from the shape's seed, with a generation config like a real checkpoint's."""
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    def token_id(token: str) -> int:
        found = tokenizer.convert_tokens_to_ids(token)
        assert isinstance(found, int)
        return found

    end_id, start_id = token_id("<|endoftext|>"), token_id("<|startoftranscript|>")
    num_window_frames = shape.window_s * SAMPLE_RATE_HZ // shape.hop_length_samples
    special = {
        "bos_token_id": end_id,
        "eos_token_id": end_id,
        "pad_token_id": end_id,
        "decoder_start_token_id": start_id,
    }
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=shape.num_mel_bins,
        d_model=shape.d_model,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.attention_heads,
        decoder_attention_heads=shape.attention_heads,
        encoder_ffn_dim=shape.ffn_dim,
        decoder_ffn_dim=shape.ffn_dim,
        max_source_positions=num_window_frames // 2,
        max_target_positions=shape.max_target_positions,
        activation_function="relu",  # exact GELU's backward in bf16 is slow on CPUs
        dropout=0.0,
        suppress_tokens=None,
        begin_suppress_tokens=[end_id],
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shape.seed)
        model = WhisperForConditionalGeneration(config)
    generation = GenerationConfig(
        max_length=shape.max_target_positions, begin_suppress_tokens=[end_id], **special
    )
    generation.is_multilingual = True
    generation.lang_to_id = {
        f"<|{language}|>": token_id(f"<|{language}|>") for language in list(LANGUAGES)[:99]
    }
    generation.task_to_id = {task: token_id(f"<|{task}|>") for task in TASKS}
    generation.no_timestamps_token_id = token_id("<|notimestamps|>")
    generation.prev_sot_token_id = token_id("<|startofprev|>")
    generation.return_timestamps = False
    model.generation_config = generation
    return model
