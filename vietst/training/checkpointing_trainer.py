"""transformers' Seq2SeqTrainer, whose checkpoints are whole and hold all that a training goes on from."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import Seq2SeqTrainer

from vietst.models import lora
from vietst.runtime import draw_as_process
from vietst.training.checkpoint_writing import (
    delete_old,
    full_disk_is_an_error,
    partial_folder,
    publish,
    remove_leftovers,
    require_space,
)
from vietst.training.checkpoints import RECORD_FILE, files_of
from vietst.training.resharing import is_shared_out_otherwise, load_reshared

_MPS_RANDOM_STATE = "mps_rng_state.pth"
"""Of a Mac's GPU, on which masks and dropout are drawn; transformers leaves it out."""


class CheckpointingTrainer(Seq2SeqTrainer):
    """How checkpoints are written, chosen and gone on from.

    Attributes:
        run_record: what every checkpoint says about its run, see `vietst.training.continuation`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.run_record: dict[str, Any] = {}
        self._is_saving_checkpoint = False
        self._keeps_adapters = True

    # --- writing -------------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        run_dir = super()._get_output_dir(trial)
        return str(partial_folder(Path(run_dir))) if self._is_saving_checkpoint else run_dir

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """As transformers', but see `vietst.training.checkpoint_writing`; with the run's record."""
        run_dir, saves = Path(self.args.output_dir), self.args.should_save
        name = f"checkpoint-{self.state.global_step}"
        partial = partial_folder(run_dir) / name
        with full_disk_is_an_error(run_dir):
            if saves:
                require_space(run_dir)
                remove_leftovers(run_dir)
                partial.mkdir(parents=True)
            self.accelerator.wait_for_everyone()
            self._is_saving_checkpoint = True
            try:
                super()._save_checkpoint(model, trial)  # finds nothing to rotate in the partial folder
            finally:
                self._is_saving_checkpoint = False
            if self.state.best_global_step == self.state.global_step:
                self.state.best_model_checkpoint = str(run_dir / name)
            self.accelerator.wait_for_everyone()
            if saves:
                self.state.save_to_json(str(partial / "trainer_state.json"))
                record = {**self.run_record, "files": files_of(partial)}
                (partial / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
                publish(partial, run_dir)
                best = self.state.best_model_checkpoint
                delete_old(run_dir, self.args.save_total_limit, Path(best) if best else None)
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # An empty one means that ZeRO-3 saves its partitions alone.
        if self.args.should_save and lora.adapted_layers(self.model) and state_dict != {}:
            weights = self.model.state_dict() if state_dict is None else state_dict
            state_dict = lora.merged_weights(self.model, weights, keep_adapters=self._keeps_adapters)
        super()._save(output_dir, state_dict)

    def save_release(self) -> None:
        """Save the final model: as `save_model`, but LoRA's adapters are in its plain weights only."""
        self._keeps_adapters = False
        self.save_model()
        self._keeps_adapters = True

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self.args.device.type == "mps":
            torch.save(torch.mps.get_rng_state(), Path(output_dir) / _MPS_RANDOM_STATE)

    # --- the best, and going on -------------------------------------------------------------------------

    def _determine_best_metric(self, *args: Any, **kwargs: Any) -> bool:
        # Of evaluations without a checkpoint (training.save_steps) there is nothing to go back to.
        return self.control.should_save and super()._determine_best_metric(*args, **kwargs)

    def _init_training_state(self, max_steps: int, *args: Any) -> tuple[int, int]:
        trained = super()._init_training_state(max_steps, *args)
        # After the loaders, which the processes must seed alike, and before a checkpoint's states are read.
        draw_as_process(self.args.process_index, seed=self.args.seed, device=self.args.device)
        # A checkpoint's own intervals would go before the configuration's.
        self.state.compute_steps(self.args, max_steps)
        # The best checkpoint may have moved with its run folder.
        best = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
        if best.is_dir():
            self.state.best_model_checkpoint = str(best)
        self.state.best_metric = self._score_of_best()
        return trained

    def _score_of_best(self) -> float | None:
        """Of the best checkpoint so far; the run before may have chosen it by another metric."""
        metric, step = self.args.metric_for_best_model, self.state.best_global_step
        evaluations = (entry for entry in self.state.log_history if entry["step"] == step)
        scores = (entry[metric] for entry in evaluations if metric in entry)
        return next(scores, self.state.best_metric)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is not None and self.args.device.type == "mps":
            path = Path(checkpoint) / _MPS_RANDOM_STATE
            if path.is_file():  # not in a checkpoint of another device
                torch.mps.set_rng_state(torch.load(path, weights_only=True))

    def _prepare_and_load(self, max_steps: int, train_dataloader: Any, checkpoint: str | None) -> Any:
        if checkpoint is None or not is_shared_out_otherwise(Path(checkpoint)):
            return super()._prepare_for_training(max_steps, train_dataloader, checkpoint)
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        load_reshared(self, Path(checkpoint))
        self._load_optimizer_and_scheduler(checkpoint)  # under DeepSpeed: the schedule alone
        return prepared

    def _load_best_model(self) -> None:
        best = Path(self.state.best_model_checkpoint)
        if is_shared_out_otherwise(best):
            load_reshared(self, best)
        else:
            super()._load_best_model()

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Checkpoints hold LoRA's merged weights for others, beside what training goes on from.
        merged = lora.merged_names(self.model)
        load_result.unexpected_keys[:] = [key for key in load_result.unexpected_keys if key not in merged]
        super()._issue_warnings_after_load(load_result)
