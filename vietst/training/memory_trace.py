"""What one training step holds in memory, found out without weights, data or arithmetic.

The step is run on PyTorch's fake tensors: they have shapes and types, and the real modules, autograd,
autocast and activation checkpointing work on them, but nothing is computed and nothing is allocated. Every
storage that would come into being is counted until the moment it would be freed.

Not seen are the scratch spaces inside of kernels. Those that matter here are added by hand, see
`_hidden_copy_bytes`.
"""

import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Device = Literal["cpu", "cuda"]
Precision = Literal["fp32", "bf16", "fp16"]

WEIGHTS: Final = "weights"
WEIGHT_COPIES: Final = "weights in half precision"
BATCH: Final = "batch"
GRADIENTS: Final = "gradients"
ENCODER_ACTIVATIONS: Final = "activations of the encoder"
DECODER_ACTIVATIONS: Final = "activations of the decoder"
LOGITS_AND_LOSS: Final = "logits and loss"
BACKWARD: Final = "temporaries of the backward pass"
KERNEL_SCRATCH: Final = "copies inside of kernels"

_ATEN = torch.ops.aten
_AUTOCAST_TYPES: Final = {"bf16": torch.bfloat16, "fp16": torch.float16}

Build = Callable[[], tuple[nn.Module, Mapping[str, torch.Tensor]]]
"""Makes a model, as it is trained (what is frozen, in train mode), and a batch for its `forward`."""


@dataclasses.dataclass(frozen=True)
class StepTrace:
    """The fullest moment of a forward and backward pass.

    `bytes_of` tells by category what was held then; the optimizer's state is not among it. `most_bytes_of`
    tells the most that each category held at any moment.
    """

    model: nn.Module
    bytes_of: dict[str, int]
    most_bytes_of: dict[str, int]

    @property
    def peak_bytes(self) -> int:
        return sum(self.bytes_of.values())


def trace_training_step(
    build: Build,
    *,
    precision: Precision = "fp32",
    device: Device = "cpu",
    gradient_checkpointing: bool = False,
    accumulates_gradients: bool = False,
) -> StepTrace:
    """Run a forward and a backward pass of what `build` makes, on fake tensors.

    Args:
        build: called with fake tensors switched on, so that its model and batch take no memory.
        precision: fp32, or autocast to bfloat16 or float16, as the Trainer does it.
        device: whose kernels are meant; no such device is needed.
        gradient_checkpointing: as in the training configuration.
        accumulates_gradients: gradients of earlier micro batches are there already.

    Returns:
        The model (of fake tensors) and its memory by category.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    # The tensors are those of a CPU whatever the device: a PyTorch without CUDA cannot even pretend.
    with FakeTensorMode(), _KernelStandIns(device):
        model, batch = build()
        if gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
        tracker = _StorageTracker(_output_matrix(model).shape, copies_for_convolution=device == "cpu")
        for tensor in (*model.parameters(), *model.buffers()):
            tracker.see(tensor, WEIGHTS)
        for tensor in batch.values():
            tracker.see(tensor, BATCH)
        if accumulates_gradients:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
                    tracker.see(parameter.grad, GRADIENTS)
        with _watched(model, tracker), tracker:
            loss = _forward(model, batch, precision)
            tracker.is_backward = True
            loss.backward()
    bytes_of = {name: size for name, size in tracker.at_peak.items() if size}
    return StepTrace(model=model, bytes_of=bytes_of, most_bytes_of=tracker.most)


def _forward(model: nn.Module, batch: Mapping[str, torch.Tensor], precision: Precision) -> torch.Tensor:
    """The loss, with everything else of the output let go, as the Trainer lets it go."""
    if precision == "fp32":
        return model(**batch).loss
    from accelerate.utils import convert_outputs_to_fp32

    autocast = torch.autocast("cpu", dtype=_AUTOCAST_TYPES[precision])
    return convert_outputs_to_fp32(autocast(model.forward))(**batch).loss


def _output_matrix(model: nn.Module) -> torch.Tensor:
    """[vocabulary, width of the decoder]."""
    return model.get_output_embeddings().weight  # type: ignore[operator]


class _StorageTracker(TorchDispatchMode):
    """Counts the bytes of all living storages by category, and remembers the fullest moment.

    Args:
        matrix_shape: of the output matrix; what has as many columns as it has rows is logits.
    """

    def __init__(self, matrix_shape: torch.Size, *, copies_for_convolution: bool) -> None:
        super().__init__()
        self.matrix_shape = matrix_shape
        self.copies_for_convolution = copies_for_convolution
        self.is_backward = False
        self.categories: list[str] = []  # of the modules that run at the moment, the innermost last
        self.at_peak: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self._live: dict[str, int] = {}
        self._total = self._peak = 0
        self._storages: dict[int, tuple[str, int]] = {}  # key → category, bytes

    def see(self, tensor: torch.Tensor, category: str, *, replaces: bool = False) -> None:
        """Count a tensor's storage, unless it is counted already.

        Args:
            replaces: it takes the place of another one that is about to be freed.
        """
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return
        self._storages[key] = (category, storage.nbytes())
        self._add(category, storage.nbytes())
        weakref.finalize(storage, self._forget, key)
        if not replaces:
            self._note_peak()

    def category_of(self, tensor: torch.Tensor) -> str | None:
        return self._storages.get(tensor.untyped_storage()._cdata, (None, 0))[0]

    def rename(self, tensor: torch.Tensor, category: str) -> None:
        """Count a storage under another category from now on."""
        key = tensor.untyped_storage()._cdata
        if key in self._storages:
            before, size = self._storages[key]
            self._add(before, -size)
            self._add(category, size)
            self._storages[key] = (category, size)

    def _forget(self, key: int) -> None:
        category, size = self._storages.pop(key)
        self._add(category, -size)

    def _add(self, category: str, size: int) -> None:
        self._live[category] = self._live.get(category, 0) + size
        self.most[category] = max(self.most.get(category, 0), self._live[category])
        self._total += size

    def _note_peak(self, scratch_bytes: int = 0) -> None:
        if self._total + scratch_bytes > self._peak:
            self._peak = self._total + scratch_bytes
            self.at_peak = self._live | {KERNEL_SCRATCH: scratch_bytes}

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        if operation.namespace == "prim":  # questions about a tensor
            return result
        is_sum = self._is_sum_of_gradients(operation, result)
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.see(tensor, self._category(operation, args, tensor), replaces=is_sum)
        if not is_sum:
            self._note_peak(self._hidden_copy_bytes(operation, args))
        return result

    def _is_sum_of_gradients(self, operation: Any, result: Any) -> bool:
        """Whether autograd adds up the output matrix's gradients, as that and as the embedding.

        It does so in place (measured), as soon as nothing else holds one of them; but not on fake tensors.
        """
        return operation is _ATEN.add.Tensor and self.is_backward and result.shape == self.matrix_shape

    def _category(self, operation: Any, args: tuple[Any, ...], tensor: torch.Tensor) -> str:
        if operation is _ATEN._to_copy.default and self.category_of(args[0]) == WEIGHTS:
            return WEIGHT_COPIES
        if tensor.dim() > 1 and tensor.shape[-1] == self.matrix_shape[0]:
            return LOGITS_AND_LOSS  # wherever they are made
        if tensor.shape == self.matrix_shape:
            return GRADIENTS
        if self.categories:  # also when a checkpointed layer is computed again
            return self.categories[-1]
        return BACKWARD if self.is_backward else LOGITS_AND_LOSS

    def _hidden_copy_bytes(self, operation: Any, args: tuple[Any, ...]) -> int:
        """What a kernel allocates and frees by itself: copies of inputs in the order that it wants.

        oneDNN, which convolves on CPUs, packs inputs of more than one channel by blocks of channels
        (measured: the size of the input).
        """
        if self.copies_for_convolution:
            if operation is _ATEN.convolution.default and args[0].shape[1] > 1:
                return _num_bytes(args[0])
            if operation is _ATEN.convolution_backward.default and args[1].shape[1] > 1:
                return _num_bytes(args[0])
        return 0


def _num_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


@contextlib.contextmanager
def _watched(model: nn.Module, tracker: _StorageTracker) -> Iterator[None]:
    """Tell the tracker which module runs, and which tensors become gradients."""
    handles: list[Any] = []
    for name, module in model.named_modules():
        category = _category_of_module(name, module, model)
        if category is None:
            continue
        handles.append(module.register_forward_pre_hook(lambda *_, c=category: tracker.categories.append(c)))
        # Checkpointing leaves a layer by an exception as soon as it has computed enough.
        handles.append(module.register_forward_hook(lambda *_: _pop(tracker), always_call=True))
    for parameter in model.parameters():
        if parameter.requires_grad:
            handles.append(
                parameter.register_post_accumulate_grad_hook(lambda p: tracker.rename(p.grad, GRADIENTS))
            )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pop(tracker: _StorageTracker) -> None:
    tracker.categories.pop()


def _category_of_module(name: str, module: nn.Module, model: nn.Module) -> str | None:
    """Category of what a module allocates; None: that of the module around it."""
    if name == "":
        return None
    if module is model.get_output_embeddings():  # type: ignore[operator]
        return LOGITS_AND_LOSS
    # Whisper: model.encoder…; E2E: encoder…, enc_to_dec_proj; the decoder's encoder_attn is the decoder's
    first = name.removeprefix("model.").partition(".")[0]
    return DECODER_ACTIVATIONS if first == "decoder" else ENCODER_ACTIVATIONS if first == "encoder" else None


class _KernelStandIns(TorchFunctionMode):
    """What is computed in another way than it would be, for the bytes to be right.

    CTC reads lengths as numbers, which fake tensors do not have. And where PyTorch's CUDA kernels keep less
    for the backward pass than its CPU kernels, those are meant: dropout keeps a mask of one byte for each
    value there, and attention can drop out without keeping all of its weights.
    """

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.is_gpu = device == "cuda"

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is nn.functional.ctc_loss:
            return _CtcStandIn.apply(*args[:2])
        if self.is_gpu and function is nn.functional.scaled_dot_product_attention:
            return function(*args, **(kwargs | {"dropout_p": 0.0}))
        if self.is_gpu and function is nn.functional.dropout:
            return _cuda_dropout(*args, **kwargs)
        return function(*args, **kwargs)


def _cuda_dropout(
    input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    return torch.native_dropout(input, p, training)[0] if training and p > 0 else input


class _CtcStandIn(torch.autograd.Function):
    """What PyTorch's CTC loss allocates: a log-probability for each position and label or blank (alpha, and
    beta in the backward pass), and a gradient for each position and symbol."""

    @staticmethod
    def forward(ctx: Any, log_probabilities: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        num_positions, num_utterances, _ = log_probabilities.shape
        alpha = log_probabilities.new_empty(num_utterances, num_positions, 2 * labels.shape[1] + 1)
        ctx.save_for_backward(log_probabilities, alpha)
        return log_probabilities.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        log_probabilities, alpha = ctx.saved_tensors
        beta = torch.empty_like(alpha)  # noqa: F841, it is held until the gradient is there
        return torch.empty_like(log_probabilities), None
