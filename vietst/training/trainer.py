"""transformers' Seq2SeqTrainer, whose evaluation generates every task and scores each utterance once."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import seed_worker

from vietst.constants import IGNORE_INDEX, TASKS, TRANSCRIBE
from vietst.data.dealt_batches import DealtBatchSampler
from vietst.data.duration_batches import DurationBatchSampler
from vietst.data.packed_clips import padded_batch
from vietst.data.source_weights import DrawnUtterances
from vietst.evaluation.decode import cut_at_own_cap, max_new_tokens
from vietst.models.trainable import TrainingScope, with_frozen_encoder
from vietst.training.batch_sharing import share_batches_by_name
from vietst.training.checkpointing_trainer import CheckpointingTrainer
from vietst.training.compiled_layers import eager
from vietst.training.extra_sets import ForgettingGuard, ScoredSet
from vietst.training.nonfinite import NonFiniteSteps, Policy, spread
from vietst.training.parameter_groups import LearningRates, parameter_groups
from vietst.training.preemption import let_workers_outlive_stop_signals
from vietst.training.throughput import ThroughputMeter
from vietst.training.unfreezing import rebuild_reducer, restart_adam, set_encoder_decay
from vietst.training.windows import TrainingWindows, in_longer_window

_BOOKKEEPING_KEYS = ("row_index", "duration_s")
"""Keys of a batch that are about the utterances, not for the model."""

Generate = Callable[..., torch.Tensor]
"""`generate(model, encoder_states, tasks, language=, max_new_tokens=, num_beams=, synced_gpus=)` of an
architecture."""


class SpeechTrainer(CheckpointingTrainer):
    """Seq2SeqTrainer for batches of `WhisperCollator` (and its sibling).

    Args:
        tasks: what evaluation generates for every utterance.
        language: of the decoder prompt in evaluation; or those of each utterance of dev.
        extra_sets: scored beside dev.
        guard: compares their scores with those before the training.
        generate: the architecture's generation from encoder states.
        tokens_per_second, tokens_base: cap on new tokens, see `max_new_tokens`.
        num_beams: beams during evaluation.
        train_batches: batches by seconds; None: `args`' number of utterances.
        drawn: the order of the utterances where batches are not by seconds; None: each of them once.
        scope: which parameters train, now or when the encoder is unfrozen.
        learning_rates: of the parts of the model; None: `args`' for all.
        on_nonfinite: what happens with losses and gradients that are not finite.
        meter: measures the throughput; None: without FLOPs.
        windows: of the batches of training; None: the model's own.
        evaluates_in_full_window: whatever windows the collators choose.
    """

    compute_metrics: Any
    control: Any

    def __init__(
        self,
        *args: Any,
        tasks: Sequence[str],
        language: str | Sequence[str],
        generate: Generate,
        tokens_per_second: float,
        tokens_base: int,
        num_beams: int,
        extra_sets: Sequence[ScoredSet],
        guard: ForgettingGuard,
        train_batches: DurationBatchSampler | None = None,
        drawn: DrawnUtterances | None = None,
        scope: TrainingScope,
        learning_rates: LearningRates | None = None,
        on_nonfinite: Policy = "skip",
        meter: ThroughputMeter | None = None,
        windows: TrainingWindows | None = None,
        evaluates_in_full_window: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.accelerator.ddp_handler is not None:
            # Gradients lie in the buckets that DDP sends, instead of being copied back out of them.
            self.accelerator.ddp_handler.gradient_as_bucket_view = True
        self.tasks, self.language = tuple(tasks), language
        self._generate = generate
        self._extra_sets, self.guard = extra_sets, guard
        self._extra_loaders: dict[str, DataLoader[Any]] = {}
        self._extra_scores: dict[str, float] = {}
        self._tokens_per_second, self._tokens_base, self._num_beams = (
            tokens_per_second,
            tokens_base,
            num_beams,
        )
        self._train_batches, self._drawn = train_batches, drawn
        self.scope = scope
        rate = self.args.learning_rate
        self.learning_rates = learning_rates or LearningRates(encoder=rate, adaptor=rate, decoder=rate)
        self._nonfinite = NonFiniteSteps(
            on_nonfinite, self._utterance_ids, has_gradient_scaler=self.args.fp16
        )
        self._meter = meter or ThroughputMeter()
        self.add_callback(self._meter)
        self._windows, self._evaluates_in_full_window = windows, evaluates_in_full_window

    def get_train_dataloader(self) -> DataLoader[Any]:
        arguments = self.args
        batches: DurationBatchSampler | DealtBatchSampler | None = self._train_batches
        if batches is None and self._drawn is None and arguments.world_size == 1:
            return self._with_quick_workers(super().get_train_dataloader())
        if batches is None:
            batches = DealtBatchSampler(
                self._drawn or self._get_train_sampler(),
                arguments.train_batch_size,
                arguments.world_size,
                arguments.gradient_accumulation_steps,
            )
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=arguments.dataloader_num_workers,
            pin_memory=arguments.dataloader_pin_memory,
            persistent_workers=arguments.dataloader_persistent_workers,
            prefetch_factor=arguments.dataloader_prefetch_factor,
            worker_init_fn=functools.partial(
                seed_worker, num_workers=arguments.dataloader_num_workers, rank=arguments.process_index
            ),
        )
        # deals the batches to the processes in turn
        return self._with_quick_workers(self._with_workers_apart(self.accelerator.prepare(loader)))

    def _with_quick_workers(self, prepared: Any) -> Any:
        if not self.args.dataloader_pin_memory:
            share_batches_by_name(prepared)
        return prepared

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader[Any]:
        return self._with_workers_apart(super()._get_dataloader(*args, **kwargs))

    def _with_workers_apart(self, prepared: Any) -> Any:
        """Workers outlive signals, and do not draw their seeds from the random state of the training.

        They do so whenever they start, which is more often in a training that was resumed.
        """
        let_workers_outlive_stop_signals(prepared)
        # accelerate's wrapper around torch's loader
        prepared.base_dataloader.generator = torch.Generator().manual_seed(self.args.seed)
        return prepared

    def get_total_train_batch_size(self, args: Any) -> int:
        if self._train_batches is None:
            return super().get_total_train_batch_size(args)
        # What transformers reports as samples per second counts with this.
        return round(self._train_batches.num_utterances / self._train_batches.num_steps)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # What loads the data has moved the packed clips to the device; where nothing has, this does.
        return super()._prepare_inputs(padded_batch(send_to_device(inputs, self.args.device)))

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        model_inputs = {key: value for key, value in inputs.items() if key not in _BOOKKEEPING_KEYS}
        return spread(super().compute_loss(model, model_inputs, *args, **kwargs))

    def get_batch_samples(self, epoch_iterator: Any, *args: Any) -> Any:
        if self._windows is not None:
            epoch_iterator = self._windows.heard(epoch_iterator, self.state.global_step)
        return super().get_batch_samples(self._meter.timed(epoch_iterator), *args)

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], *args: Any) -> torch.Tensor:
        loss = super().training_step(model, inputs, *args)
        return self._nonfinite.note_micro_batch(loss, inputs["row_index"])

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        # What transformers calls last before the optimizer's step (DeepSpeed: first after its own).
        norm = super()._get_grad_norm(model, grad_norm)
        if not self._nonfinite.accepts(norm, step=self.state.global_step + 1):
            self._tr_loss -= self._nonfinite.skipped_loss
            if not self.is_deepspeed_enabled:
                model.zero_grad(set_to_none=True)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs = self._nonfinite.corrected_log(logs) | self._meter.since_last_time()
        elif "train_loss" in logs:
            logs["train_loss"] = self._nonfinite.corrected_train_loss(logs["train_loss"])
            logs["skipped_steps"] = sum(entry.get("skipped_steps", 0) for entry in self.state.log_history)
            logs |= self._meter.of_training()
        super().log(logs, start_time)

    def _utterance_ids(self, row_numbers: Sequence[int]) -> list[str]:
        return self.train_dataset.rows.select_columns("id")[list(row_numbers)]["id"]

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            trained_model = self.model if model is None else model
            optimizer_class, settings = self.get_optimizer_cls_and_kwargs(self.args, trained_model)
            groups = parameter_groups(
                trained_model,
                self.scope,
                self.learning_rates,
                weight_decay=self.args.weight_decay,
                decayed_names=self.get_decay_parameter_names(trained_model),
            )
            # transformers takes these `params` instead of its own two groups.
            self.optimizer_cls_and_kwargs = optimizer_class, {**settings, "params": groups}
        return super().create_optimizer(model)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        frozen_at_first = self.model.encoder_is_frozen and with_frozen_encoder(self.scope) != self.scope
        if not (frozen_at_first and self.is_deepspeed_enabled):
            return self._prepare_and_load(*args, **kwargs)
        # ZeRO partitions what requires gradients at this moment, and must know the encoder.
        self.scope.apply(self.model)
        prepared = self._prepare_and_load(*args, **kwargs)
        with_frozen_encoder(self.scope).apply(self.model)
        set_encoder_decay(self.optimizer, 0.0)
        return prepared

    def unfreeze_encoder(self, was_frozen_before: bool = True) -> None:
        """Train the encoder from the next step on; see `vietst.training.unfreezing`.

        Args:
            was_frozen_before: False where training goes on from a checkpoint of a later step.
        """
        self.scope.apply(self.model)
        if isinstance(self.model_wrapped, DistributedDataParallel):
            handler = self.accelerator.ddp_handler
            rebuild_reducer(self.model_wrapped, handler.to_kwargs() if handler is not None else {})
        if self.is_deepspeed_enabled:
            set_encoder_decay(self.optimizer, self.args.weight_decay)
            if was_frozen_before:
                restart_adam(self.optimizer.optimizer)

    def _has_stopped_early(self) -> bool:
        return any(
            callback.early_stopping_patience_counter >= callback.early_stopping_patience
            for callback in self.callback_handler.callbacks
            if isinstance(callback, EarlyStoppingCallback)
        )

    def _run_epoch(self, **kwargs: Any) -> None:
        # Resuming from a checkpoint of the last step must end at once; transformers would take one more step.
        if self.state.global_step >= self.state.max_steps or self._has_stopped_early():
            self.control.should_training_stop = True
            return
        order = self._train_batches or self._drawn
        if order is not None:
            # Where an epoch is resumed in its middle, transformers' own call does not get through: what skips
            # the batches that are done is wrapped around what deals them to the processes.
            order.set_epoch(kwargs["epoch"])
        super()._run_epoch(**kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As transformers', on dev; the extra sets are scored before it, and stand in the same log entry."""
        self.gather_function = self.accelerator.gather  # all rows, as Seq2SeqTrainer wants them for dev
        scores: dict[str, float] = {}
        for extra_set in self._extra_sets:
            scores |= self._score(extra_set)
        scores |= self.guard.judge(scores, self.state.global_step, self.state.log_history)
        self._extra_scores = scores
        return super().evaluate(*args, **kwargs)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        output = super().evaluation_loop(*args, **kwargs)
        output.metrics.update(self._extra_scores)
        return output

    def _score(self, extra_set: ScoredSet) -> dict[str, float]:
        of_dev = self.compute_metrics, self.tasks, self.language
        self.compute_metrics, self.tasks = extra_set.compute_metrics, (TRANSCRIBE,)
        self.language = extra_set.language
        output = super().evaluation_loop(
            self._extra_loader(extra_set),
            description=extra_set.name,
            metric_key_prefix=f"eval_{extra_set.name}",
        )
        self.compute_metrics, self.tasks, self.language = of_dev
        # Closes its progress bar.
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, output.metrics)
        return output.metrics

    def _extra_loader(self, extra_set: ScoredSet) -> DataLoader[Any]:
        """One for the whole training, whose workers end with every evaluation: the sets may be many."""
        if extra_set.name not in self._extra_loaders:
            arguments = self.args
            loader: DataLoader[Any] = DataLoader(
                extra_set.dataset,
                batch_size=arguments.eval_batch_size,
                collate_fn=extra_set.collator,
                num_workers=arguments.dataloader_num_workers,
                pin_memory=arguments.dataloader_pin_memory,
                prefetch_factor=arguments.dataloader_prefetch_factor,
            )
            self._extra_loaders[extra_set.name] = self._with_workers_apart(self.accelerator.prepare(loader))
        return self._extra_loaders[extra_set.name]

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **generation: Any,
    ) -> tuple[None, tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
        """Loss and hypotheses of a batch from one encoder pass.

        The loss is not returned as such: transformers would average batch means, count copied rows, and
        scale by the number of processes. What is returned lets `make_compute_metrics` weigh by tokens.

        Returns (R = tasks × utterances, one row for every pair of them, task by task):
            None; (generated ids int64 [R, length], summed loss float32 [R, 1]); identity int64 [R, 3] of
            (row index, position of the task in `TASKS`, label tokens — 0 where the task has no target).
        """
        from transformers.integrations import is_deepspeed_zero3_enabled, is_fsdp_managed_module

        if self._windows is not None and self._evaluates_in_full_window:
            inputs = in_longer_window(inputs, self._windows.context.input_kind.num_window_frames)
        caps = [  # of exact seconds: DeepSpeed prepares inputs in half precision
            max_new_tokens(clip_s, self._tokens_per_second, self._tokens_base)
            for clip_s in inputs["duration_s"].tolist()
        ]
        inputs = self._prepare_inputs(inputs)
        row_index, _ = (inputs.pop(key) for key in _BOOKKEEPING_KEYS)
        num_utterances, device = row_index.shape[0], row_index.device
        with torch.no_grad(), eager():
            outputs = model(**inputs)
            generated = self._generate(
                self.accelerator.unwrap_model(model),
                outputs.encoder_states,
                self.tasks,
                language=self.language
                if isinstance(self.language, str)
                else [self.language[index] for index in row_index.tolist()],
                max_new_tokens=caps,
                num_beams=self._num_beams,
                # ZeRO-3 and FSDP gather weights in every forward: ranks must take equally many steps.
                synced_gpus=is_deepspeed_zero3_enabled() or is_fsdp_managed_module(self.model),
            )
        generated = cut_at_own_cap(generated, caps, self.processing_class.tokenizer.pad_token_id)
        task_ids = torch.tensor([TASKS.index(task) for task in self.tasks], device=device)
        # [num_targets]: where each label row stands among the R pairs
        position_of_task = torch.zeros(len(TASKS), dtype=torch.int64, device=device)
        position_of_task[task_ids] = torch.arange(len(self.tasks), device=device)
        pair = position_of_task[inputs["task_index"]] * num_utterances + inputs["utterance_index"]
        losses = torch.zeros(len(self.tasks) * num_utterances, device=device)
        losses[pair] = outputs.target_losses.float()
        num_tokens = torch.zeros_like(losses, dtype=torch.int64)
        num_tokens[pair] = (inputs["labels"] != IGNORE_INDEX).sum(dim=1)
        identity = torch.stack(
            [row_index.repeat(len(self.tasks)), task_ids.repeat_interleave(num_utterances), num_tokens], dim=1
        )
        return None, (generated, losses[:, None]), identity
