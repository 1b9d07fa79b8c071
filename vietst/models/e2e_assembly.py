"""A base model for E2E training, put together from a wav2vec2 encoder and an mBART-50 decoder.

It is made once, by one process, into an ordinary folder, and loaded from there by all: under DeepSpeed
ZeRO-3 no process holds whole parts to put together. What is new in it — length adaptor, projection, task
tokens — is drawn from a seed, so that the same inputs make the same folder.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from transformers import (
    AutoFeatureExtractor,
    GenerationConfig,
    MBart50Tokenizer,
    MBartConfig,
    MBartForCausalLM,
    MBartForConditionalGeneration,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)
from transformers.utils import cached_file

from vietst.constants import TASKS, TRANSCRIBE
from vietst.errors import ModelError
from vietst.models.e2e import MultitaskE2E, set_generation_defaults
from vietst.models.e2e_base_card import CARD_NAME, Trimming, is_made_of, write_card
from vietst.models.e2e_inputs import TASK_TOKENS, language_code
from vietst.models.frequent_words import frequent_words
from vietst.models.loading import LOAD_ERRORS, load_error, require_all_weights, require_model_type
from vietst.models.made_folders import made_folder
from vietst.models.nano import texts_digest
from vietst.models.published_sizes import TRIMMED_VOCABULARY
from vietst.models.vocabulary import trim_embeddings, trim_vocabulary
from vietst.models.wav2vec2 import LengthTrueWav2Vec2

ASSEMBLY_CODE_VERSION: Final = 1
"""Raise it with every change of this module that changes what is made: old folders are then made again."""

_MAX_UNUSED_EMBEDDINGS: Final = 64
"""Some checkpoints round their number of embeddings up."""


@dataclasses.dataclass(frozen=True)
class AssemblySettings:
    """What decides about a base model besides its encoder and decoder.

    `language` is the default of generation; `length_adaptor` puts wav2vec2's strided convolutions behind the
    encoder (3 of stride 2: 1,499 frames of 30 s become 188 positions); `seed` draws the new parameters.
    """

    language: str = "vi"
    length_adaptor: bool = False
    seed: int = 1


def ensure_e2e_base(
    folder: Path,
    encoder_name: str,
    decoder_name: str,
    settings: AssemblySettings,
    trim_to_texts: Sequence[str] | None = None,
) -> bool:
    """Make the base model at `folder`, unless it is there, made from the same parts.

    Args:
        encoder_name: folder or Hub id of a wav2vec2 checkpoint.
        decoder_name: folder or Hub id of an mBART-50 checkpoint (the whole translation model).
        trim_to_texts: all training texts, if the decoder's vocabulary is to be cut to what they and everyday
            Vietnamese and English need (see `vocabulary.py`); None: the whole vocabulary.

    Returns:
        Whether it was made now. The folder appears complete or not at all.

    A trimmed base stays as it is where the texts have changed since, and a warning says so.

    Raises:
        ModelError: a part that cannot be used, or something else lies at `folder`.
    """
    require_model_type(encoder_name, Wav2Vec2Config.model_type)
    require_model_type(decoder_name, MBartConfig.model_type)
    inputs = {
        "code_version": ASSEMBLY_CODE_VERSION,
        "encoder": {"name": encoder_name, "version": version_of(encoder_name)},
        "decoder": {"name": decoder_name, "version": version_of(decoder_name)},
        "settings": dataclasses.asdict(settings),
    }
    if is_made_of(folder, inputs, trim_to_texts):
        return False
    otherwise = (
        "choose another folder with model.name=…; to go on training the model that lies there, state "
        "model.encoder=null model.decoder=null"
    )
    with made_folder(folder, CARD_NAME, otherwise) as building:
        feature_extractor = load_feature_extractor(encoder_name)
        tokenizer = load_tokenizer(decoder_name, settings.language)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            encoder = load_encoder(encoder_name, length_adaptor=settings.length_adaptor)
            decoder = load_decoder(decoder_name)
            require_fitting_tokenizer(decoder_name, tokenizer, decoder)
            trimming = None
            if trim_to_texts is not None:
                tokenizer, trimming = trim(tokenizer, decoder, trim_to_texts)
            model = assemble(encoder, decoder, tokenizer, settings.language)
        model.save_pretrained(building)
        Wav2Vec2Processor(feature_extractor, tokenizer).save_pretrained(building)
        write_card(building, inputs, trimming)
    return True


def version_of(name_or_path: str) -> list[Any]:
    """What tells two versions of a checkpoint apart: the commit on the Hub; names, sizes and times of a
    folder's files."""
    if not Path(name_or_path).is_dir():
        return [Path(cached_file(name_or_path, "config.json")).parent.name]
    files = sorted(path for path in Path(name_or_path).iterdir() if path.is_file())
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]


# --- parts -------------------------------------------------------------------------------------------


def load_feature_extractor(name_or_path: str) -> Wav2Vec2FeatureExtractor:
    """Alone, since XLSR-53 and others have no tokenizer beside it.

    Raises:
        ModelError: nothing usable there.
    """
    try:
        feature_extractor = AutoFeatureExtractor.from_pretrained(name_or_path)
    except LOAD_ERRORS as error:
        raise load_error(name_or_path, "a wav2vec2 feature extractor", error) from error
    if not isinstance(feature_extractor, Wav2Vec2FeatureExtractor):
        raise ModelError(
            where=f"model {name_or_path}",
            rule="an encoder that listens to waveforms, with a Wav2Vec2FeatureExtractor",
            found=type(feature_extractor).__name__,
            do="name a wav2vec2 checkpoint as the encoder",
        )
    return feature_extractor


def load_tokenizer(name_or_path: str, language: str) -> MBart50Tokenizer:
    """The decoder's tokenizer, set to the language.

    Raises:
        ModelError: nothing usable there, or an unknown language.
    """
    try:
        tokenizer = MBart50Tokenizer.from_pretrained(name_or_path)
    except LOAD_ERRORS as error:
        raise load_error(name_or_path, "an mBART-50 tokenizer", error) from error
    tokenizer.src_lang = tokenizer.tgt_lang = language_code(tokenizer.lang_code_to_id, language)
    return tokenizer


def require_fitting_tokenizer(name_or_path: str, tokenizer: Any, decoder: MBartForCausalLM) -> None:
    """Refuse a tokenizer of another model; from a folder without one, transformers makes up a tiny one.

    Raises:
        ModelError: the numbers of tokens and embeddings are far apart.
    """
    num_embeddings = decoder.get_input_embeddings().weight.shape[0]
    if not 0 <= num_embeddings - len(tokenizer) < _MAX_UNUSED_EMBEDDINGS:
        raise ModelError(
            where=f"model {name_or_path}",
            rule="a tokenizer with a token for each embedding of the decoder",
            found=f"{len(tokenizer)} tokens, {num_embeddings} embeddings",
            do="put tokenizer.json or sentencepiece.bpe.model of the same mBART-50 into the folder",
        )


def load_encoder(name_or_path: str, *, length_adaptor: bool) -> LengthTrueWav2Vec2:
    """The pretrained encoder, with a fresh length adaptor if it is asked for.

    SpecAugment is off in its config, and its masking vector there (trained or fresh), so that a training may
    switch masking on.

    Raises:
        ModelError: nothing usable there.
    """
    try:
        config = Wav2Vec2Config.from_pretrained(name_or_path)
        config.layerdrop = 0.0
        config.add_adapter = config.add_adapter or length_adaptor
        config.apply_spec_augment = False
        config.mask_time_prob = config.mask_time_prob or 0.05
        with _without_load_report():
            encoder, loading = LengthTrueWav2Vec2.from_pretrained(
                name_or_path, config=config, dtype=torch.float32, weights_only=True, output_loading_info=True
            )
    except LOAD_ERRORS as error:
        raise load_error(
            name_or_path, "wav2vec2 weights (model.safetensors or pytorch_model.bin)", error
        ) from error
    new = ("adapter.", "masked_spec_embed")
    require_all_weights(name_or_path, [key for key in loading["missing_keys"] if not key.startswith(new)])
    return encoder


def load_decoder(name_or_path: str) -> MBartForCausalLM:
    """The decoder half of an mBART-50 checkpoint, with its pretrained embeddings and cross-attention.

    Loaded as the whole translation model: transformers' direct way leaves the embeddings random where the
    file keeps them under the name that encoder and decoder share.

    Raises:
        ModelError: nothing usable there.
    """
    try:
        with _without_load_report():
            whole, loading = MBartForConditionalGeneration.from_pretrained(
                name_or_path, dtype=torch.float32, weights_only=True, output_loading_info=True
            )
    except LOAD_ERRORS as error:
        raise load_error(
            name_or_path, "mBART weights (model.safetensors or pytorch_model.bin)", error
        ) from error
    require_all_weights(name_or_path, loading["missing_keys"])
    config = MBartConfig.from_pretrained(name_or_path)
    config.is_decoder = config.add_cross_attention = True
    # The generation cache takes its number of layers from the name that means the encoder's in mBART.
    config.encoder_layers = config.decoder_layers
    config.decoder_layerdrop = 0.0
    config.forced_eos_token_id = None
    decoder = MBartForCausalLM(config)
    decoder.model.decoder.load_state_dict(whole.model.decoder.state_dict(), strict=True)
    decoder.tie_weights()
    return decoder


@contextlib.contextmanager
def _without_load_report() -> Iterator[None]:
    """No table of weights that a part does not need or that are new: what may not be missing is checked."""
    logger = logging.getLogger("transformers.modeling_utils")

    def is_other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    # A filter, not a level: above the level of warnings, transformers warns of other things.
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def trim(
    tokenizer: MBart50Tokenizer, decoder: MBartForCausalLM, texts: Sequence[str]
) -> tuple[MBart50Tokenizer, Trimming]:
    """The tokenizer, trimmed to the texts and to everyday words, and what was kept; the decoder in place."""
    trimmed = trim_vocabulary(tokenizer, texts, extra_texts=frequent_words(), fill_up_to=TRIMMED_VOCABULARY)
    trim_embeddings(decoder, trimmed.kept_ids)
    return trimmed.tokenizer, Trimming(texts_digest(texts), len(trimmed.kept_ids), len(tokenizer))


# --- the whole ---------------------------------------------------------------------------------------


def assemble(
    encoder: LengthTrueWav2Vec2, decoder: MBartForCausalLM, tokenizer: MBart50Tokenizer, language: str
) -> MultitaskE2E:
    """One model of both, with a projection where their widths differ.

    The tokenizer gets the task tokens, and the decoder exactly one embedding for each token.
    """
    add_task_tokens(decoder, tokenizer)
    model = MultitaskE2E(encoder=encoder, decoder=decoder)
    model.config.encoder.architectures = model.config.decoder.architectures = None
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    for name, token_id in special.items():
        setattr(model.config, name, token_id)
    generation = GenerationConfig(max_length=decoder.config.max_position_embeddings, **special)
    generation.lang_to_id = dict(tokenizer.lang_code_to_id)
    generation.task_to_id = {task: tokenizer.convert_tokens_to_ids(TASK_TOKENS[task]) for task in TASKS}
    model.generation_config = generation
    set_generation_defaults(model, language, TRANSCRIBE)
    return model


def add_task_tokens(decoder: MBartForCausalLM, tokenizer: MBart50Tokenizer) -> None:
    """Add the task tokens to tokenizer and decoder, unless they are known already.

    Their embeddings are drawn with the mean and standard deviation that each column has. transformers' own
    way puts all new rows next to the mean: two tasks that can hardly be told apart, for good where embeddings
    are frozen.
    """
    new_tokens = [token for token in TASK_TOKENS.values() if token not in tokenizer.get_vocab()]
    old = decoder.get_input_embeddings().weight.detach()[: len(tokenizer)]
    mean, deviation = old.mean(dim=0), old.std(dim=0)
    tokenizer.add_special_tokens(
        # Without `replace…`, mBART-50's language codes would no longer count as special.
        {"extra_special_tokens": list(TASK_TOKENS.values())},
        replace_extra_special_tokens=False,
    )
    decoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    weight = decoder.get_input_embeddings().weight
    with torch.no_grad():
        for token in new_tokens:
            row = weight[tokenizer.convert_tokens_to_ids(token)]
            row.copy_(mean + deviation * torch.randn_like(mean))
