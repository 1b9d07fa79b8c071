"""The sections of a run configuration: every key with its type, default, meaning and unit.

`vietst.config.load_config` fills these models from YAML files and the command line. What holds between
keys stands in `vietst.config_rules`. `configs/base.yaml` has the same defaults as this file; a test compares.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, model_validator

from vietst.text_style import TextStyle

# YAML gives text and lists, where strict models ask for exactly these types.
FilePath = Annotated[Path, Strict(False)]
HUB_DATASET_PATTERN: Final = r"^hf://datasets/([\w.-]+/[\w.-]+)(?:@([\w.-]+(?:/[\w.-]+)*))?$"
HubDatasetId = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
HubDatasetAddress = Annotated[str, Field(pattern=HUB_DATASET_PATTERN)]
Probability = Annotated[float, Field(ge=0, lt=1)]
ContextChoice = Literal["full", "bucketed"]
AutoOrBool = Literal[True, False, "auto"]
ExtraSetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


def _no_as_text(value: object) -> object:
    # YAML 1.1 reads a bare `no` as false.
    return "no" if value is False else value


class Section(BaseModel):
    """What all sections share: no unknown keys, no guessing of types, no change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class PathsSection(Section):
    """Where data lies and where results go; relative paths count from the current folder."""

    data_root: FilePath = Path()
    """Audio root: `audio_path` in the manifest is relative to it and may not leave it."""

    manifest_path: FilePath = Path("data/export/manifest.tsv")
    """The manifest as it was exported."""

    clean_manifest_path: FilePath = Path("data/export/manifest_clean.tsv")
    """The cleaned manifest; `rejected.tsv` and the remembered audio facts lie beside it."""

    splits_dir: FilePath = Path("data/splits")
    """`train.csv`, `dev.csv`, `test.csv`, `audit.json`, and `pinned.tsv`, which says what belongs where."""

    takedown_path: FilePath = Path("data/takedown.txt")
    """What must not be in the corpus any more: a video, utterance, speaker or channel on each line, see
    `vietst.data.takedown_list`. No file: nothing. `scripts/take_down.py` removes it everywhere."""

    features_dir: HubDatasetAddress | FilePath = Path("data/features")
    """Feature caches, one folder for each input kind and content. To train on features that were pushed to
    the Hub: hf://datasets/OWNER/NAME, with @REVISION if wanted; splits, manifest and audio are not needed
    then."""

    output_dir: FilePath = Path("outputs")
    """Run folders, `results/` and `charts/`."""

    @property
    def local_features_dir(self) -> Path:
        """Where what is computed from features is kept: beside them, if they do not come from the Hub."""
        if isinstance(self.features_dir, Path):
            return self.features_dir
        return Path("data/features")


class AudioSection(Section):
    """What the models hear."""

    sample_rate: Literal[16000] = 16000
    """Hz, mono. All models here were pretrained at this rate; audio of any other rate is resampled."""

    max_length_seconds: Annotated[float, Field(gt=0, le=30)] = 30.0
    """Longest clip in seconds (Whisper sees 30 s at once); `data.too_long` decides about longer ones."""

    context: ContextChoice = "full"
    """Whisper: full: every clip is heard in the model's whole window of 30 s. bucketed: in the shortest of
    `context_windows_s` that fits the longest clip of its batch, which saves most of the encoder's work where
    clips are short. The model can be used in both ways afterwards, and says which windows it knows. Batches
    of about equally long clips (`training.batch_seconds`) gain most."""

    context_windows_s: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...], Strict(False), Field(min_length=1)
    ] = (3.0, 4.0, 6.0, 8.0, 11.0, 15.0, 20.0)
    """bucketed: windows in seconds, ascending; the model's own is always the last. With it these are eight:
    so few that compiled code and allocated memory are used again, and each at most 1.5 times the one before,
    so that little is filled up."""

    context_margin_s: Annotated[float, Field(ge=0)] = 0.5
    """bucketed: least silence in seconds behind the longest clip, by which its end can be heard."""

    context_longer_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """bucketed: share of the training that is heard in a longer window than it needs, drawn among all longer
    ones, the model's own included, so that stock software, which knows no other, gets good results too. Drawn
    by `training.seed` for every optimizer step; with `training.batch_seconds`, which counts the longer window
    then, for every clip and epoch. 0 leaves the full window untrained. More costs time: where clips are 5 s
    long, a longer window costs on average 2 (Whisper tiny) to 2.4 times (small) what theirs does, so that 0.2
    makes training 1.21 to 1.29 times as long as 0 does. On the sample corpus 0.1, 0.15 and 0.2 had the same
    WER in the full window (1.9), and 1.9, 2.0 and 1.5 in short ones (means of three seeds; standard
    deviation 0.2 to 0.4)."""


class SourceSection(Section):
    """One of several manifests that a model is trained on."""

    manifest: FilePath
    """The manifest as it was exported; `audio_path` is relative to `paths.data_root`, as everywhere."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often an epoch hears the source's training split, relative to its size: 2 is every utterance twice,
    0.2 every fifth, others in the next epoch. Weights change no split and no feature."""

    language: Annotated[str, Field(min_length=2)] | None = None
    """Language of its transcripts (`en`, `vi`), for the decoder prompt, written into the column `language` of
    rows that do not say it themselves. None: what the rows say, else `model.language`, which translations are
    in whatever is said here."""


class DataSection(Section):
    """How the manifest is cleaned and split."""

    sources: dict[ExtraSetName, SourceSection] = {}
    """Several manifests instead of `paths.manifest_path` (own corpus, monolingual Vietnamese, English …): a
    name for each, with `manifest` and `weight`. They are cleaned, split and cached as one, and scored apart
    too; their rows say which they are from in `data_source`."""

    min_duration_s: Annotated[float, Field(ge=0)] = 0.5
    """Shorter clips are rejected, in seconds."""

    too_long: Literal["reject", "truncate"] = "reject"
    """Clips over `audio.max_length_seconds`: reject them, or cut the audio and keep its full text, whose end
    is then not in the audio."""

    require_translation: bool = True
    """Reject rows without a translation. False: such rows train the transcript alone."""

    split_ratios: Annotated[tuple[float, float, float], Strict(False)] = (0.8, 0.1, 0.1)
    """Shares of train, dev and test in hours of audio; they sum to 1."""

    eval_from: Literal["all", "verified"] | None = None
    """What dev and test are drawn from: all rows, or those whose column `verified` says so. Other rows of the
    same videos are then in no split. None: as existing splits were made, else all."""

    video_id_pattern: str | None = None
    """Regular expression that finds the video in `audio_path` (its first group, or the whole match) where the
    manifest has no `video_id`. None: the rule of `vietst.data.video_ids`."""

    stream_features: bool = False
    """Leave the training split's features on the Hub (`paths.features_dir: hf://…`), where the disk is too
    small for them, and fetch each utterance's when a batch needs it. Order and resuming stay as they are."""

    num_proc: Annotated[int, Field(ge=1)] | None = None
    """Processes for reading audio and building features. None: one for each CPU core."""


class TextSection(Section):
    """How models are taught to write."""

    style: TextStyle = "as_is"
    """as_is: as transcripts and translations stand in the manifest. lower_nopunct: lower case, without
    punctuation and emoji; tones, figures, % and the hyphen of e-mail stay (`vietst.text`). Labels are written
    so, and dev and test are scored on references that are; the manifest, splits and features stay as they
    are. Worth it where the sources write differently."""


class ModelSection(Section):
    """Which model is trained, on which task."""

    type: Literal["whisper", "e2e"] = "whisper"
    """Architecture."""

    name: Annotated[str, Field(min_length=1)] = "openai/whisper-small"
    """Base model: a Hub id or a folder. e2e: a trained E2E model, or the folder where `encoder` and `decoder`
    are put together before the first training."""

    encoder: str | None = None
    """e2e: wav2vec2 checkpoint, a Hub id or a folder. None: `name` is an E2E model already."""

    decoder: str | None = None
    """e2e: mBART-50 checkpoint, a Hub id or a folder; stated together with `encoder`."""

    length_adaptor: bool = False
    """e2e: strided convolutions behind the encoder, 3 of stride 2: 1,499 frames of 30 s become 188 positions.
    This is what transformers calls `add_adapter`."""

    trim_vocabulary: bool = False
    """e2e: keep of the decoder's vocabulary what the training texts and everyday Vietnamese and English need:
    about 25,000 of mBART-50's 250,054 pieces. What is left spells every other text in Latin script. Cut once,
    when `encoder` and `decoder` are put together at `name`; texts that change later change nothing there."""

    add_adapter: bool | None = None
    """e2e: the guide's word for a projection between encoder and decoder. One is made wherever their widths
    differ, and nowhere else, so the key changes nothing; for shorter sequences see `length_adaptor`."""

    dropout: Probability | None = None
    """e2e: all dropout rates of encoder and decoder. None: as in the base model."""

    language: Annotated[str, Field(min_length=2)] = "vi"
    """Language code of the decoder prompt, for both tasks."""

    task: Literal["transcribe", "translate", "both"] = "both"
    """transcribe: what was said, code-switched (ASR); translate: the same in Vietnamese (ST); both: encode
    once, learn both."""

    attention: Literal["auto", "eager", "sdpa"] = "auto"
    """Attention implementation. auto: transformers' choice; eager is faster for tiny models on a CPU."""

    finetune: Literal["full", "lna", "lora"] = "full"
    """What is trained of the base model. full: all of it; lna: layer norms and attention (Li et al. 2021);
    lora: low-rank adapters (section `lora`), merged into plain weights in the final model. New layers always
    train."""

    freeze_encoder: bool = False
    """Train all but the encoder, from first to last; `training.freeze_encoder_epochs` does so for a time. May
    stand under `training` too, as in the guide; it is the same key."""

    cache_encoder_states: bool = False
    """Compute the frozen encoder's states once, keep them beside the features in half precision, and train on
    them. Whisper has 1,500 for every clip, whatever its length: 1.2 MB (tiny) to 3.8 MB (large) each. Where
    the encoder is trained, from the start or later, training says so and computes them in every step."""


class LoraSection(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685), for `model.finetune: lora`.

    They want a larger learning rate than the whole model: 5e-4 to 1e-3 is usual for Whisper.
    """

    rank: Annotated[int, Field(ge=1)] = 32
    """Inner width of each adapter."""

    alpha: Annotated[int, Field(ge=1)] = 64
    """An adapter's output is scaled by alpha / rank."""

    dropout: Probability = 0.05
    """On an adapter's input, in training."""

    target_modules: Annotated[tuple[str, ...], Strict(False), Field(min_length=1)] = ("q_proj", "v_proj")
    """Linear layers that get an adapter, by the last part of their names, in encoder and decoder."""


class NanoSection(Section):
    """A small untrained Whisper, made at `model.name` if it is missing, by configs that have this section."""

    d_model: Annotated[int, Field(ge=8)]
    """Width of encoder and decoder."""

    attention_heads: Annotated[int, Field(ge=1)]
    """Heads of every attention; they divide `d_model`."""

    encoder_layers: Annotated[int, Field(ge=1)]
    decoder_layers: Annotated[int, Field(ge=1)]

    ffn_dim: Annotated[int, Field(ge=8)]
    """Inner width of the feed-forward layers."""

    num_mel_bins: Literal[80, 128]
    """Mel filters of the front end."""

    hop_length_samples: Annotated[int, Field(ge=80, le=400)]
    """Step between feature frames, in samples at 16 kHz (Whisper's own: 160 = 10 ms)."""

    window_s: Annotated[int, Field(ge=1, le=30)]
    """What the model sees at once, in whole seconds (Whisper's own: 30)."""

    vocab_size: Annotated[int, Field(ge=300)]
    """Pieces of the byte-level BPE trained on the training texts, without special tokens."""

    max_target_positions: Annotated[int, Field(ge=16)]
    """Longest decoder sequence in tokens, prompt and end token included."""

    seed: int
    """Of the random weights."""


class NanoE2ESection(Section):
    """A small untrained wav2vec2 and mBART, made below the folder of `model.encoder` and `model.decoder` if
    they are not there. Only for configs that have this section."""

    encoder_width: Annotated[int, Field(ge=8)]
    """Width of the encoder."""

    encoder_layers: Annotated[int, Field(ge=1)]

    encoder_attention_heads: Annotated[int, Field(ge=1)]
    """Heads of the encoder's attention; they divide its width."""

    encoder_ffn_dim: Annotated[int, Field(ge=8)]
    """Inner width of the encoder's feed-forward layers."""

    num_bands: Annotated[int, Field(ge=8)]
    """Band-pass filters that the first convolution starts from, equally spaced on the mel scale."""

    decoder_width: Annotated[int, Field(ge=8)]
    """Width of the decoder; other than the encoder's, there is a projection."""

    decoder_layers: Annotated[int, Field(ge=1)]

    decoder_attention_heads: Annotated[int, Field(ge=1)]
    """Heads of the decoder's attention; they divide its width."""

    decoder_ffn_dim: Annotated[int, Field(ge=8)]
    """Inner width of the decoder's feed-forward layers."""

    vocab_size: Annotated[int, Field(ge=100)]
    """Pieces learned from the training texts, without special tokens and language codes."""

    max_target_positions: Annotated[int, Field(ge=16)]
    """Longest decoder sequence in tokens, prompt included."""

    seed: int
    """Of the random weights."""


class TrainingSection(Section):
    """Optimization, schedule, checkpoints. Batch sizes count utterances, not targets."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Of data order, dropout and masks. NumPy takes no larger ones."""

    batch_size: Annotated[int, Field(ge=1)] = 8
    """Utterances per device and forward pass. `batch_seconds`, where stated, replaces it in training."""

    batch_seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds of audio per device and forward pass, padding counted: longest clip × clips. Batches are then
    made of about equally long clips, as many as fit. Whisper pads every clip to its window of 30 s, so there
    240 means 8 clips; with `audio.context` bucketed, to that of its batch. None: `batch_size` clips."""

    eval_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Utterances per device in evaluation. None: `batch_size`."""

    effective_batch: Annotated[int, Field(ge=1)] | None = None
    """Utterances per optimizer step over all devices. Gradient accumulation follows from it and the number of
    processes, so that one and eight GPUs learn alike."""

    effective_batch_seconds: Annotated[float, Field(gt=0)] | None = None
    """The same where batches are by seconds: `batch_seconds` × accumulation × processes, padding counted."""

    gradient_accumulation_steps: Annotated[int, Field(ge=1)] | None = None
    """Forward passes per optimizer step. None: what the effective batch asks for, else 1."""

    num_train_epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the training split."""

    max_steps: Annotated[int, Field(ge=-1)] = -1
    """Optimizer steps; if positive it replaces `num_train_epochs`."""

    learning_rate: Annotated[float, Field(gt=0)] = 1.25e-5
    """Peak learning rate, of all that has no rate of its own below."""

    encoder_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of the pretrained encoder. None: `learning_rate`."""

    adaptor_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of the new layers between encoder and decoder: length adaptor and projection.
    Whisper has none. None: `learning_rate`."""

    freeze_feature_encoder: bool = False
    """e2e: wav2vec2's convolutions do not train (they are part of `freeze_encoder` anyway)."""

    freeze_encoder_epochs: Annotated[float, Field(ge=0)] | None = None
    """Passes over the training split (fractions too) before the encoder is trained as well, rounded up to
    optimizer steps. 999 and more: never."""

    freeze_encoder_updates: Annotated[int, Field(ge=0)] | None = None
    """The same as an exact number of optimizer steps; instead of `freeze_encoder_epochs`."""

    lr_scheduler_type: Literal[
        "linear",
        "cosine",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
        "polynomial",
        "cosine_with_restarts",
    ] = "linear"
    """Course of the learning rate after warm-up, with transformers' names."""

    warmup_ratio: Probability = 0.0
    """Share of all steps in which the rate rises from 0."""

    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    """The same as a number of optimizer steps; instead of `warmup_ratio`."""

    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's, on weight matrices only (not on biases and norms)."""

    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are clipped to this norm; 0: not at all."""

    on_nonfinite: Literal["skip", "stop"] = "skip"
    """What happens with an optimizer step in which a loss or the gradients are NaN or infinite. skip: it is
    left out in all processes, and counted in the log (`skipped_steps`); 20 in a row stop the run. stop: the
    run stops, and names the utterances."""

    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "adamw_bnb_8bit", "paged_adamw_8bit"] = (
        "adamw_torch"
    )
    """Optimizer, with transformers' names. The last two keep AdamW's state in 8 bits, except for embeddings
    (paged: in main memory where the GPU's is full), and need the package bitsandbytes."""

    adam_beta1: Probability = 0.9
    adam_beta2: Probability = 0.999
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8

    bf16: AutoOrBool = "auto"
    """bfloat16 mixed precision. auto: on a GPU that computes in it."""

    fp16: AutoOrBool = "auto"
    """float16 mixed precision. auto: on a GPU without bfloat16. A CPU trains in bfloat16 or float32 only."""

    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, more time."""

    compile: bool = False
    """Compile the layers of encoder and decoder with torch.compile, which fuses what lies between matrix
    products. The first steps take two minutes longer, in which all sizes of batches are provided for. False,
    since what it gains depends on the work in a micro batch: 3 to 32 % where it was measured
    (vietst/benchmarks/README.md). It needs Triton on a GPU, and a C++ compiler on a CPU; it cannot be had
    under ZeRO-3 and FSDP."""

    eval_strategy: Annotated[Literal["no", "steps", "epoch"], BeforeValidator(_no_as_text)] = "steps"
    """When dev is evaluated: never, every `eval_steps`, every epoch. Checkpoints are saved every
    `save_steps`, with `epoch` every epoch."""

    eval_steps: Annotated[int, Field(ge=1)] = 500
    """Optimizer steps between evaluations on dev."""

    save_steps: Annotated[int, Field(ge=1)] = 500
    """Optimizer steps between checkpoints."""

    logging_steps: Annotated[int, Field(ge=1)] = 50
    """Optimizer steps between logged losses."""

    save_total_limit: Annotated[int, Field(ge=1)] | None = 3
    """Checkpoints kept; the best one stays whatever its age. None: all."""

    load_best_model_at_end: bool = True
    """The final model is the best checkpoint, not the last."""

    metric_for_best_model: Literal["eval_loss", "eval_wer", "eval_cer", "eval_bleu", "eval_chrf"] = (
        "eval_loss"
    )
    """What "best" means, on dev."""

    greater_is_better: bool = False
    """Follows from the metric where it is not stated (transformers would take a greater error rate for a
    better one); it may be stated, but not against the metric."""

    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many evaluations in a row that are no better than the best checkpoint. None: train to the
    end."""

    report_to: Literal["tensorboard", "none"] = "tensorboard"
    """Where losses and scores are logged, besides the run folder's own files."""

    @model_validator(mode="before")
    @classmethod
    def _direction_follows_from_metric(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {
            "greater_is_better": values.get("metric_for_best_model") in ("eval_bleu", "eval_chrf"),
            **values,
        }


class LossSection(Section):
    """One loss from all targets: cross-entropy by task, and CTC on the encoder as an aid."""

    transcribe_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the transcripts' cross-entropy."""

    translate_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the translations' cross-entropy."""

    ctc_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of CTC from encoder states to the transcript's units; its head is not released."""

    ctc_units: Literal["characters", "subwords"] = "characters"
    """What CTC spells transcripts with: lower-cased characters, or the tokenizer's own pieces, those that the
    training transcripts have. Pieces are fewer than characters, where a clip has too few encoder positions;
    and more of them have to be learned."""

    label_smoothing: Probability = 0.0
    """Share of the target probability spread over all tokens, in training."""


class AugmentationSection(Section):
    """SpecAugment, in training only; with transformers' names. Whisper: on the log-mel features. e2e: on the
    frames that enter the encoder's layers, and their channels."""

    mask_time_prob: Probability = 0.0
    """About this share of the frames is masked; of Whisper's at least two masks in each clip, transformers'
    default."""

    mask_time_length: Annotated[int, Field(ge=1)] = 10
    """Frames in one mask."""

    mask_feature_prob: Probability = 0.0
    """About this share of the mel bins (e2e: channels) is masked."""

    mask_feature_length: Annotated[int, Field(ge=1)] = 10
    """Mel bins (e2e: channels) in one mask."""


class ExtraSetSection(Section):
    """One of `evaluation.extra_sets`."""

    path: FilePath
    """Its utterances: a split or manifest (CSV, TSV) with the columns `audio_path` and `transcript`, whose
    texts are taken as they stand."""

    audio_root: FilePath | None = None
    """What its `audio_path` is relative to. None: `paths.data_root`."""

    language: Annotated[str, Field(min_length=2)] | None = None
    """Language code of the decoder prompt, of which Whisper has one for each language. None:
    `model.language`."""


class EvaluationSection(Section):
    """Generation on dev during training, and on test after it."""

    max_dev_utterances: Annotated[int, Field(ge=1)] | None = 200
    """Dev utterances that are generated and scored, the same ones every time. None: all."""

    context: ContextChoice | None = None
    """Windows in which dev and the extra sets are heard, see `audio.context`. None: as it says."""

    num_beams: Annotated[int, Field(ge=1)] = 1
    """Beams on dev; 1 is greedy."""

    test_num_beams: Annotated[int, Field(ge=1)] = 1
    """Beams on test."""

    max_new_tokens_per_second: Annotated[float, Field(gt=0)] = 12.0
    """Cap on generated tokens by the clip's duration, against endless repetition."""

    max_new_tokens_base: Annotated[int, Field(ge=1)] = 20
    """Tokens allowed whatever the duration."""

    extra_sets: dict[ExtraSetName, ExtraSetSection] = {}
    """What training should not make worse (monolingual Vietnamese, English …): a name for each, with `path`,
    `audio_root`, `language`. They are transcribed at every evaluation of dev, and once before the first step.
    Their features are computed from the audio, not cached."""

    max_extra_utterances: Annotated[int, Field(ge=1)] | None = 200
    """Utterances of each extra set that are scored, the same ones every time. None: all."""

    max_wer_rise_points: Annotated[float, Field(ge=0)] | None = 5.0
    """A WER of an extra set that lies by more than so many points above that before training warns. Where it
    was 100 or more before, there is nothing to lose. None: no warning."""


class DataloaderSection(Section):
    """How batches reach the device."""

    num_workers: Annotated[int, Field(ge=0)] = 4
    """Worker processes per training process; 0: in the training process itself."""

    pin_memory: bool = True
    """Page-locked batches, which are copied to a GPU while it computes; of no use without one."""

    prefetch_factor: Annotated[int, Field(ge=1)] = 2
    """Batches that each worker keeps ready; without workers it means nothing."""


class HubSection(Section):
    """The repository on the Hugging Face Hub, or another Hub (`HF_ENDPOINT`), that the model is pushed to.

    What goes up is what users need: weights, processor, model card, and a record without local paths.
    """

    push: bool | None = None
    """Push while training, beside it. None: where `repo_id` is stated."""

    push_when: Literal["save", "best", "end"] = "end"
    """save: after every checkpoint, the newest one; best: after every checkpoint that is the best so far;
    end: once, the final model. It goes up at the end in any case."""

    repo_id: Annotated[str, Field(min_length=1)] | None = None
    """OWNER/NAME, or NAME in the account of the token. It is made if it is not there."""

    private: bool = True
    """Seen only by those who may. False: by everybody. A repository that is there has to be as this says."""

    revision: Annotated[str, Field(min_length=1)] | None = None
    """Branch to push to, made if it is not there. None: main."""

    wait_s: Annotated[float, Field(ge=0)] = 1800.0
    """Longest time in seconds that a finished training waits for its model to go up, where the Hub is slow or
    away. Then it says what is not up yet, and how to bring it up."""

    license: Annotated[str, Field(min_length=1)] | None = None
    """License of the model, as the Hub writes it (cc-by-nc-4.0, apache-2.0 …). It has to suit those of the
    base model and the data. None: the first of theirs that all permit, if all are known; else none."""

    datasets: Annotated[tuple[HubDatasetId, ...], Strict(False)] = ()
    """Ids on the Hub of the data sets that were trained on, for the model card."""

    dataset_license: Annotated[str, Field(min_length=1)] | None = None
    """License of the training data, as the Hub writes it; `own`: the rights are yours. None: not stated."""

    base_license: Annotated[str, Field(min_length=1)] | None = None
    """License of a base model that `vietst/hub/base_licenses.json` does not list, or that is a folder, in the
    same words. None: not stated."""

    @property
    def pushes(self) -> bool:
        """Whether a training pushes what it makes."""
        return self.repo_id is not None if self.push is None else self.push


class OutputSection(Section):
    """Names of what a run writes."""

    dir: FilePath
    """Run folder. Where no file states it, loading fills in `paths.output_dir`/<name of the config>."""

    experiment_name: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    """Name of the metrics history file. Where no file states it, the name of the config."""


class RunConfig(Section):
    """One run: every stage reads its own sections."""

    paths: PathsSection = PathsSection()
    audio: AudioSection = AudioSection()
    data: DataSection = DataSection()
    text: TextSection = TextSection()
    model: ModelSection = ModelSection()
    lora: LoraSection = LoraSection()
    nano: NanoSection | None = None
    nano_e2e: NanoE2ESection | None = None
    training: TrainingSection = TrainingSection()
    loss: LossSection = LossSection()
    augmentation: AugmentationSection = AugmentationSection()
    evaluation: EvaluationSection = EvaluationSection()
    dataloader: DataloaderSection = DataloaderSection()
    hub: HubSection = HubSection()
    output: OutputSection
