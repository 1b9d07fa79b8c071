"""Going on under DeepSpeed ZeRO with another number of processes than a checkpoint was saved by.

ZeRO saves each process's share of weights and optimizer state. DeepSpeed puts the shares together into its
"universal" format, from which any number of processes takes its own. Both steps unpickle the checkpoint's
files, which can run code: so this is for checkpoints with a run's record, of trainings of this package.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from vietst.errors import CheckpointError
from vietst.runtime import get_logger, rank, world_size
from vietst.training.checkpoint_writing import resharing_folder
from vietst.training.checkpoints import read_record

logger = get_logger(__name__)

RESHARABLE_OPTIMIZERS = ("adamw_torch", "adamw_torch_fused")
"""Those whose state has the names that DeepSpeed's conversion knows."""


def is_shared_out_otherwise(checkpoint: Path) -> bool:
    """Whether a checkpoint of this package holds ZeRO's shares of more or fewer processes than now."""
    record = read_record(checkpoint)
    return (
        record is not None
        and str(record["parallelism"]).startswith("zero")
        and record["num_processes"] != world_size()
    )


def load_reshared(trainer: Any, checkpoint: Path) -> None:
    """Load weights and optimizer state of such a checkpoint into a Trainer's DeepSpeed engine.

    The universal copy lies beside the checkpoints meanwhile, and needs about as much room as one of them.

    Raises:
        CheckpointError: DeepSpeed cannot convert it.
    """
    run_dir, engine = Path(trainer.args.output_dir), trainer.model_wrapped
    converted = resharing_folder(run_dir)
    if rank() == 0:
        logger.info("sharing out %s among %d process(es)", checkpoint.name, world_size())
        _convert(checkpoint, run_dir)
    trainer.accelerator.wait_for_everyone()
    is_stage_3 = engine.zero_optimization_stage() == 3
    if not is_stage_3:
        trainer._load_from_checkpoint(str(checkpoint))  # what is frozen; ZeRO knows the rest better
    # Not in DeepSpeed's file: the best checkpoint, loaded at the end of the training, may be an ordinary one.
    engine._config.load_universal_checkpoint = True
    engine.load_checkpoint(str(converted))
    engine._config.load_universal_checkpoint = False
    if is_stage_3:
        _restore_groups(engine.optimizer, converted)
    place_steps(engine.optimizer.optimizer)
    trainer.accelerator.wait_for_everyone()
    if rank() == 0:
        shutil.rmtree(converted)


def _convert(checkpoint: Path, run_dir: Path) -> None:
    """Leaves `global_stepN_universal` in `resharing_folder`."""
    (shares,) = checkpoint.resolve().glob("global_step*")
    converted = resharing_folder(run_dir)
    if converted.exists():
        shutil.rmtree(converted)
    converted.mkdir(parents=True)
    command = [
        *(sys.executable, "-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"),
        *("--input_folder", str(shares)),
        # Relative, since DeepSpeed reads it as a pattern.
        *("--output_folder", f"{converted.name}/{shares.name}_universal"),
    ]
    answer = subprocess.run(
        command, cwd=run_dir, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    if answer.returncode != 0:
        raise CheckpointError(
            where=f"resuming from {checkpoint}",
            rule="DeepSpeed can put together what its processes have saved, where there is room for a copy",
            found=(answer.stderr.strip().splitlines() or ["nothing said"])[-1],
            do="start it with as many processes as before; or start a new training from the checkpoint's "
            f"weights: without --resume, with model.name={checkpoint} and another output.dir",
        )


def _restore_groups(optimizer: Any, converted: Path) -> None:
    """Give ZeRO-3's parameter groups their own settings and steps; DeepSpeed gives all those of the first."""
    (folder,) = converted.glob("global_step*")
    base = torch.load(folder / "zero" / "optimizer_state.pt", weights_only=False)["optimizer_state_dict"]
    for group, saved in zip(optimizer.optimizer.param_groups, base["param_groups"], strict=True):
        group |= {key: value for key, value in saved.items() if key != "params"}
    some_states = sorted(folder.glob("*model_states.pt"))[0]
    names_of_shares = torch.load(some_states, weights_only=False)["param_shapes"]
    steps = {
        name: base["state"][share]["step"] for share, names in enumerate(names_of_shares) for name in names
    }
    for share, parameters in enumerate(optimizer.fp16_groups):
        state = optimizer.optimizer.state[optimizer.fp32_partitioned_groups_flat[share]]
        state["step"] = steps[optimizer.param_names[parameters[0]]]


def place_steps(optimizer: torch.optim.Optimizer) -> None:
    """Put the steps where fused Adam reads them: beside its moments. DeepSpeed leaves them in main memory."""
    if optimizer.defaults.get("fused"):
        for state in optimizer.state.values():
            state["step"] = state["step"].to(state["exp_avg"].device)
