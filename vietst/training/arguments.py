"""The one place where our configuration keys become transformers' `Seq2SeqTrainingArguments`.

transformers renames options every year; nothing else in this package knows its names.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vietst.config_schema import RunConfig
from vietst.errors import ConfigError
from vietst.runtime import get_logger, local_world_size

if TYPE_CHECKING:
    from transformers import Seq2SeqTrainingArguments

logger = get_logger(__name__)

COLLECTIVE_TIMEOUT_S: Final = 2 * 3600
"""How long processes wait for each other before they give up: longer than what one may do alone, such as to
fetch and assemble a base model, or to write a checkpoint to a slow disk. For one that fails nobody waits
(`vietst.rank_faults`)."""


def mixed_precision(config: RunConfig) -> tuple[bool, bool]:
    """(bf16, fp16) as this machine can train. `auto` is bf16, else fp16, on a GPU, and neither on a CPU.

    Raises:
        ConfigError: fp16 on a machine without a GPU (transformers would ignore it silently), or bf16 there
            under DeepSpeed (transformers refuses it), or on a GPU that lacks it (PyTorch would imitate it,
            more slowly than it computes in float32).
    """
    import torch

    training = config.training
    has_gpu = torch.cuda.is_available() and not cpu_is_launched()
    gpu_has_bf16 = has_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    if training.fp16 is True and not has_gpu:
        raise ConfigError(
            where="training.fp16",
            rule="float16 training needs a GPU",
            found="no GPU here",
            do="set training.fp16=auto, or training.bf16=true, which CPUs can do",
        )
    if training.bf16 is True and deepspeed_is_on_cpu():
        raise ConfigError(
            where="training.bf16",
            rule="without a GPU, DeepSpeed trains in float32",
            found="true, and no GPU here",
            do="set training.bf16=false or auto, or launch without DeepSpeed: accelerate_configs/cpu.yaml",
        )
    if training.bf16 is True and has_gpu and not gpu_has_bf16:
        raise ConfigError(
            where="training.bf16",
            rule="a GPU that computes in bfloat16: those of compute capability 8.0 and above do",
            found=f"true, and {torch.cuda.get_device_name()} here",
            do="set training.bf16=auto, which trains in float16 on this GPU",
        )
    bf16 = gpu_has_bf16 if training.bf16 == "auto" else training.bf16
    if training.bf16 == "auto" and training.fp16 is True:
        bf16 = False
    fp16 = (has_gpu and not bf16) if training.fp16 == "auto" else training.fp16
    return bf16, fp16


def weights_become_float16(config: RunConfig) -> bool:
    """Whether training rounds the weights themselves to float16, as DeepSpeed does (others compute in it)."""
    return deepspeed_is_launched() and mixed_precision(config)[1]


def cpu_is_launched() -> bool:
    """Whether the launch configuration asks for the CPU, whatever else there is."""
    return os.environ.get("ACCELERATE_USE_CPU", "false").lower() == "true"


def deepspeed_is_launched() -> bool:
    """Whether the launch configuration asks for DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


def fsdp_is_launched() -> bool:
    """Whether weights will be shared out by FSDP: accelerate decides so when the Trainer is made, of several
    processes with a device each."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    is_asked_for = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    without_devices = (DistributedType.NO, DistributedType.MULTI_CPU)
    return is_asked_for and PartialState().distributed_type not in without_devices


def deepspeed_is_on_cpu() -> bool:
    """Whether DeepSpeed finds no GPU; its processes then share out what they have on the CPU."""
    import torch

    return deepspeed_is_launched() and not torch.cuda.is_available()


def require_gpu_for_each_process() -> None:
    """Refuse more processes than there are GPUs; a machine without any trains on its CPU.

    Raises:
        ConfigError: some process would have none.
    """
    import torch

    num_processes, num_gpus = local_world_size(), torch.cuda.device_count()
    if torch.cuda.is_available() and not cpu_is_launched() and num_processes > num_gpus:
        raise ConfigError(
            where="num_processes, of the launch configuration",
            rule="a GPU for each process",
            found=f"{num_processes} processes on this machine, and {num_gpus} GPU(s)",
            do=f"add --num_processes {num_gpus} to accelerate launch, or give run_prod.sh a copy of the "
            "launch configuration that says so; for one GPU there is accelerate_configs/single_gpu.yaml",
        )


def _use_gloo_alone() -> None:
    """Keep DeepSpeed from compiling its own communication between CPU processes.

    That needs a C++ compiler, takes half a minute, and a process that is killed meanwhile leaves a lock for
    which all later ones wait.
    """
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def find_deepspeed_config() -> None:
    """Let DeepSpeed's file be found from any current folder: the launch configurations name it relatively.

    Raises:
        ConfigError: it is neither there nor in the checkout.
    """
    variable = "ACCELERATE_DEEPSPEED_CONFIG_FILE"
    stated = os.environ.get(variable)
    if not deepspeed_is_launched() or stated is None or Path(stated).is_file():
        return
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / stated).is_file():
        raise ConfigError(
            where="deepspeed_config_file, of the launch configuration",
            rule="a file; a relative path counts from the current folder, else from the checkout",
            found=f"no {stated} in {Path.cwd()}, nor in {checkout}",
            do="launch in the checkout's folder, or add --deepspeed_config_file with the whole path",
        )
    os.environ[variable] = str(checkout / stated)


def require_optimizer(config: RunConfig) -> None:
    """Refuse an optimizer that this installation lacks.

    Raises:
        ConfigError: one with 8-bit state, without bitsandbytes.
    """
    from transformers.utils import is_bitsandbytes_available

    if config.training.optim.endswith("_8bit") and not is_bitsandbytes_available():
        raise ConfigError(
            where="training.optim",
            rule=f"{config.training.optim} needs the package bitsandbytes",
            found="none that transformers can use",
            do="pip install bitsandbytes, or set training.optim=adafactor, which also keeps little state",
        )


def training_arguments(config: RunConfig, gradient_accumulation_steps: int) -> "Seq2SeqTrainingArguments":
    """transformers' arguments for a run; the run folder is `config.output.dir`."""
    import torch
    from transformers import Seq2SeqTrainingArguments

    training, dataloader, run_dir = config.training, config.dataloader, config.output.dir
    assert run_dir is not None  # filled in by load_config
    # transformers 5 takes the TensorBoard folder from the environment only.
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run_dir / "logs")
    require_gpu_for_each_process()
    bf16, fp16 = mixed_precision(config)
    require_optimizer(config)
    find_deepspeed_config()
    if deepspeed_is_on_cpu():
        _use_gloo_alone()
    evaluates = training.eval_strategy != "no"
    has_gpu = (torch.cuda.is_available() or torch.backends.mps.is_available()) and not cpu_is_launched()
    pins_memory = dataloader.pin_memory and has_gpu and torch.cuda.is_available()
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(run_dir),
        seed=training.seed,
        use_cache=True,  # for whoever generates: it ends up in config.json; training itself never caches
        # batches
        per_device_train_batch_size=training.batch_size,
        per_device_eval_batch_size=training.eval_batch_size or training.batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        dataloader_num_workers=dataloader.num_workers,
        dataloader_pin_memory=pins_memory,
        accelerator_config={"non_blocking": pins_memory},  # copies to the GPU, which only then can be
        dataloader_prefetch_factor=dataloader.prefetch_factor if dataloader.num_workers else None,
        dataloader_persistent_workers=dataloader.num_workers > 0,
        remove_unused_columns=False,  # the collator reads columns that the model's forward does not name
        label_names=["labels"],
        # optimization
        num_train_epochs=training.num_train_epochs,
        max_steps=training.max_steps if training.max_steps > 0 else -1,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.lr_scheduler_type,
        # a value below 1 is a share of all steps
        warmup_steps=training.warmup_steps if training.warmup_steps is not None else training.warmup_ratio,
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        optim=training.optim,
        adam_beta1=training.adam_beta1,
        adam_beta2=training.adam_beta2,
        adam_epsilon=training.adam_epsilon,
        bf16=bf16,
        fp16=fp16,
        activation_checkpointing=training.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if training.gradient_checkpointing else None,
        # every parameter that trains takes part in every step: no graph walk is needed
        ddp_find_unused_parameters=False,
        ddp_timeout=COLLECTIVE_TIMEOUT_S,
        # Else transformers would put inputs on a GPU that is there, and accelerate the model on the CPU that
        # is asked for. `use_cpu` would leave DeepSpeed out, which has its own word for the device.
        use_cpu=not has_gpu and not deepspeed_is_launched(),
        ddp_backend="gloo" if deepspeed_is_on_cpu() else None,
        # evaluation, checkpoints, logs
        eval_strategy=training.eval_strategy,
        eval_steps=training.eval_steps,
        save_strategy="epoch" if training.eval_strategy == "epoch" else "steps",
        save_steps=training.save_steps,
        save_total_limit=training.save_total_limit,
        restore_callback_states_from_checkpoint=True,  # early stopping goes on counting
        load_best_model_at_end=training.load_best_model_at_end and evaluates,
        metric_for_best_model=training.metric_for_best_model if evaluates else None,
        greater_is_better=training.greater_is_better,
        logging_steps=training.logging_steps,
        logging_nan_inf_filter=False,  # it would log a guess; `vietst.training.nonfinite` knows better
        # Where nobody watches, a log line now and then says it better.
        disable_tqdm=not sys.stderr.isatty(),
        report_to=training.report_to,
    )
    _train_on_one_gpu(arguments)
    return arguments


def _train_on_one_gpu(arguments: "Seq2SeqTrainingArguments") -> None:
    """Keep transformers from sharing a single process's batches out among all GPUs that it sees.

    DataParallel cuts every tensor of a batch into equal pieces: targets would lose their utterances.
    """
    if arguments.n_gpu > 1:
        logger.warning(
            "this one process trains on one of %d GPUs; accelerate_configs/h100x8.yaml starts one for each",
            arguments.n_gpu,
        )
        arguments._n_gpu = 1
