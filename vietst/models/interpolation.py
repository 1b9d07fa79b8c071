"""Weights between a base model and the one that was trained from it (WiSE-FT, Wortsman et al. 2022).

Of arXiv 2109.01903: fine-tuned weights mixed with those that the training began from keep more of what the
base could, often at little or no loss on the new task. All is on the line

    weights(share) = (1 - share) · base + share · tuned,    0 ≤ share ≤ 1

for every parameter as it is stored: of a weight-normalized convolution (wav2vec2's positions) its length and
direction. What was tied stays tied, what was frozen stays as it is, and the two ends are the two models.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from vietst.data.features import input_kind_of
from vietst.errors import ModelError
from vietst.models.architectures import ARCHITECTURES
from vietst.models.made_folders import made_folder, require_place
from vietst.models.model_record import read_model_record, write_model_record

CARD_NAME: Final = "interpolation.json"
"""In the folder of a saved mixture: what it was made of."""

_OTHERWISE: Final = "name another folder"

_UNSEEN_IN_WEIGHTS: Final = (
    "model_type",
    "tie_word_embeddings",
    # Whisper, mBART
    "encoder_attention_heads",
    "decoder_attention_heads",
    "activation_function",
    "scale_embedding",
    # wav2vec2
    "num_attention_heads",
    "hidden_act",
    "feat_extract_norm",
    "feat_extract_activation",
    "do_stable_layer_norm",
    "conv_stride",
    "layer_norm_eps",
)
"""Settings that decide what weights mean, though weights of other settings have the same sizes."""


def interpolated(base: torch.Tensor, tuned: torch.Tensor, share: float) -> torch.Tensor:
    """A tensor between two of one shape, computed in float32; at the shares 0 and 1 the bits of one of them.

    Numbers that are not floating-point (buffers) are the same in both.
    """
    if share == 0 or not base.is_floating_point():
        return base
    if share == 1:
        return tuned
    return torch.lerp(base.float(), tuned.float(), share)


def require_place_for_mixture(folder: Path) -> None:
    """Raises ModelError where `ModelPair.save` would."""
    require_place(folder, CARD_NAME, _OTHERWISE)


class ModelPair:
    """A tuned model, its base, and every model between them.

    Args:
        model_type: a name of `ARCHITECTURES`.
        base, tuned: folders or Hub ids.

    Raises:
        ModelError: a model that cannot be loaded, or two that are no base and what was trained from it.
    """

    def __init__(self, model_type: str, base: str, tuned: str) -> None:
        architecture = ARCHITECTURES[model_type]
        self.names = base, tuned
        processors = [architecture.load_processor(name) for name in self.names]
        self.processor = processors[1]
        self._require_same("a front end", *(input_kind_of(p.feature_extractor).name for p in processors))
        self._require_same_vocabulary(*(p.tokenizer.get_vocab() for p in processors))
        self._base, self._tuned = (architecture.load_model(name) for name in self.names)
        for setting, (of_base, of_tuned) in _settings(self._base.config, self._tuned.config):
            self._require_same(f"the setting {setting}", of_base, of_tuned)
        self._require_same_layers(self._base.state_dict(), self._tuned.state_dict())

    def at(self, share: float) -> Any:
        """A new model in float32, on the CPU, in eval mode.

        Args:
            share: of the tuned model, 0 to 1. Its config and generation settings come with it, but for 0.
        """
        model = copy.deepcopy(self._base if share == 0 else self._tuned).eval()
        base, tuned = self._base.state_dict(), self._tuned.state_dict()
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                tensor.copy_(interpolated(base[name], tuned[name], share))
        return model

    def save(self, share: float, folder: Path) -> None:
        """The model of a share and its processor, as stock transformers loads them.

        Raises:
            ModelError: the folder holds something else.
        """
        card = {"base": self.names[0], "tuned": self.names[1], "share_of_tuned": share}
        with made_folder(folder, CARD_NAME, _OTHERWISE) as building:
            model = self.at(share)
            if share > 0 and (record := read_model_record(self.names[1])) is not None:
                write_model_record(model, record)
            model.save_pretrained(building)
            self.processor.save_pretrained(building)
            text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
            (building / CARD_NAME).write_text(text, encoding="utf-8", newline="\n")

    def _require_same(self, what: str, of_base: object, of_tuned: object) -> None:
        if of_base != of_tuned:
            raise self._error(f"{what}: {of_base} in the base, {of_tuned} in the tuned model")

    def _require_same_vocabulary(self, base: Mapping[str, int], tuned: Mapping[str, int]) -> None:
        if base != tuned:
            raise self._error(
                f"other vocabularies: {len(base):,} tokens in the base, {len(tuned):,} in the tuned model, "
                f"{len(base.items() & tuned.items()):,} of them the same under the same id (was one trimmed?)"
            )

    def _require_same_layers(
        self, base: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor]
    ) -> None:
        if only_one := sorted(base.keys() ^ tuned.keys()):
            raise self._error(f"{len(only_one)} weights that only one of them has, such as {only_one[0]}")
        for name, tensor in base.items():
            self._require_same(f"sizes of {name}", list(tensor.shape), list(tuned[name].shape))
            if not tensor.is_floating_point() and not torch.equal(tensor, tuned[name]):
                raise self._error(f"other numbers in {name}, between which there are none")

    def _error(self, found: str) -> ModelError:
        return ModelError(
            where=f"{self.names[1]} and its base {self.names[0]}",
            rule="weights are mixed of a model and the base that its training began from",
            found=found,
            do="name that base: model.name in resolved_config.yaml of the run",
        )


def _settings(base: Any, tuned: Any) -> Iterator[tuple[str, tuple[object, object]]]:
    """What two configs, and those of their encoders and decoders, say about `_UNSEEN_IN_WEIGHTS`."""
    for part in ("", "encoder.", "decoder."):
        of_part = [getattr(config, part[:-1], None) if part else config for config in (base, tuned)]
        for name in _UNSEEN_IN_WEIGHTS:
            of_base, of_tuned = (getattr(config, name, None) for config in of_part)
            yield f"{part}{name}", (of_base, of_tuned)
