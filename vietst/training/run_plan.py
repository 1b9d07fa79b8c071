"""What a training will do, in words: said before it starts, and all that a dry run does."""

import math

from vietst.config import LoadedConfig
from vietst.config_rules import accumulation_steps
from vietst.config_schema import RunConfig
from vietst.errors import VietstError
from vietst.hub.licenses import model_license
from vietst.models.multitask import LossWeights
from vietst.models.trainable import describe_training_scope, training_scope
from vietst.runtime import world_size
from vietst.training.arguments import mixed_precision, require_optimizer
from vietst.training.cached_states import describe_cached_states
from vietst.training.compiled_layers import require_compilable
from vietst.training.preparation import Preparation, prepare, run_folder
from vietst.training.run_memory import describe_memory


def describe_plan(config: RunConfig, preparation: Preparation, accumulation: int) -> str:
    """What the training will do, in a few lines."""
    training, num_heard = config.training, preparation.num_train_utterances
    by_seconds = preparation.train_batches
    if by_seconds is None:
        effective_batch = training.batch_size * accumulation * world_size()
        steps_per_epoch = math.ceil(num_heard / effective_batch)
        batch, of_batches = f"{training.batch_size}", ""
    else:
        steps_per_epoch = by_seconds.num_steps
        effective_batch = round(num_heard / steps_per_epoch)
        batch, of_batches = f"{by_seconds.batch_seconds:g} s", f"\n{by_seconds.describe()}"
    steps = (
        training.max_steps
        if training.max_steps > 0
        else math.ceil(training.num_train_epochs * steps_per_epoch)
    )
    bf16, fp16 = mixed_precision(config)
    precision = "bf16 mixed precision" if bf16 else "fp16 mixed precision" if fp16 else "fp32"
    hours, num_train = preparation.facts["train_hours"], len(preparation.train)
    return (
        f"training {config.model.name} for {' and '.join(preparation.tasks)}: {num_train} utterances "
        f"({hours:.2f} h), {steps} steps of {effective_batch} utterances "
        f"({batch} × {accumulation} accumulated × {world_size()} processes), about "
        f"{steps / steps_per_epoch:.1f} epochs, {precision}; dev: {len(preparation.dev)} utterances"
        f"{_describe_extra_sets(preparation)}{of_batches}\ntrained: {describe_training_scope(config)}"
        f"{_describe_vocabulary(preparation)}{_describe_windows(preparation)}"
        f"{_describe_sources(preparation)}"
        f"{_meaning_of_add_adapter(config)}"
    )


def _describe_extra_sets(preparation: Preparation) -> str:
    return "".join(
        f"; {extra_set.name}: {len(extra_set.rows)} utterances ({extra_set.language})"
        for extra_set in preparation.extra_sets
    )


def _describe_sources(preparation: Preparation) -> str:
    told = [
        f"{name} {of_source['num_heard_in_an_epoch']} of {of_source['num_utterances']} utterances"
        for name, of_source in preparation.facts.get("sources", {}).items()
    ]
    return f"\nan epoch hears of its sources: {', '.join(told)}" if told else ""


def _describe_vocabulary(preparation: Preparation) -> str:
    facts = preparation.facts
    if "vocabulary_pieces" not in facts:
        return ""
    kept, of_them = facts["vocabulary_pieces"], facts["vocabulary_pieces_before_trimming"]
    return f"\nvocabulary: {kept:,} of {of_them:,} pieces kept"


def _describe_windows(preparation: Preparation) -> str:
    if preparation.windows is None:
        return ""
    windows_s = ", ".join(f"{window_s:g}" for window_s in preparation.context.windows_s)
    return (
        f"\nheard in windows of {windows_s} s: the shortest that fits a batch, or a longer one "
        f"({preparation.longer_share:.0%} of the training)"
    )


def _meaning_of_add_adapter(config: RunConfig) -> str:
    """Where the guide's key is stated, which of the two layers of that name it means."""
    if config.model.add_adapter is None:
        return ""
    with_or_without = "with" if config.model.length_adaptor else "without"
    return (
        "\nmodel.add_adapter: means the projection, a linear layer wherever encoder and decoder "
        "differ in width, whatever the key says; not the strided convolutions that transformers calls so, "
        f"which are model.length_adaptor (this model is {with_or_without})"
    )


def dry_run(loaded: LoadedConfig, *, memory_gb: float | None = None) -> bool:
    """Print the resolved configuration, the memory plan and what training would do; all but train.

    Args:
        memory_gb: of the GPU that the plan is for; None: the one that is here, if there is one.

    Returns:
        Whether training could start.
    """
    print(loaded.describe())
    config = loaded.config
    try:
        accumulation = accumulation_steps(config.training, world_size())
        mixed_precision(config)
        require_optimizer(config)
        preparation = prepare(config)
        if config.training.compile:
            require_compilable()
        if config.hub.pushes:
            model_license(config.hub, preparation.facts["base_origin"], preparation.facts["base_hub_ids"])
        print(f"\n{describe_memory(config, preparation, accumulation, memory_gb)}")
        weights = LossWeights(per_task=(config.loss.transcribe_weight, config.loss.translate_weight))
        model = preparation.architecture.build_for_training(config, weights, None)
        states = (
            describe_cached_states(config, preparation, model) if config.model.cache_encoder_states else None
        )
    except VietstError as error:
        print(f"\ntraining could not start:\n{error}")
        return False
    trained = training_scope(config).num_trained(model)
    total = sum(parameter.numel() for parameter in model.parameters())
    print(f"\nwould start: {describe_plan(config, preparation, accumulation)}")
    print(f"parameters: {total:,}, of which trained: {trained:,}")
    if states is not None:
        print(states)
    print(f"would write to: {run_folder(config)}")
    return True
