"""Text → text: any translation model of transformers with an encoder and a decoder, for cascades.

Multilingual tokenizers (mBART-50, NLLB, M2M-100) are told languages by codes; others are made for one pair of
languages (Marian), or read from a prefix of the text what to do (T5).
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from tqdm import tqdm
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from vietst.errors import ModelError
from vietst.models.loading import LOAD_ERRORS, load_error, read_config, require_all_weights
from vietst.models.own_caps import ends_at_own_caps
from vietst.runtime import get_logger

logger = get_logger(__name__)

_CODES: Final = {"en": ("en_XX", "eng_Latn", "en"), "vi": ("vi_VN", "vie_Latn", "vi")}
"""What mBART-50, NLLB and M2M-100 call the two languages."""

_WHAT: Final = "a text translation model (encoder and decoder) of transformers"

TARGET_TOKENS_PER_SOURCE_TOKEN: Final = 2.0
TARGET_TOKENS_BASE: Final = 20
"""A translation's cap, against endless repetition: it has about as many tokens as what it translates."""

CAPS_ID: Final = f"{TARGET_TOKENS_PER_SOURCE_TOKEN:g} x source + {TARGET_TOKENS_BASE}, each text's own"


@dataclasses.dataclass(frozen=True)
class LanguagePair:
    """How a model is told what to translate into what."""

    source: str | None = None
    """A code of the tokenizer, or `en`, `vi`; None: English, where the tokenizer has codes."""

    target: str | None = None
    """None: Vietnamese."""

    prefix: str = ""
    """Put before every text."""


class TextTranslator:
    """A translation model with its tokenizer and the languages that it is asked for (`languages`).

    Args:
        name_or_path: a folder or Hub id.

    Raises:
        ModelError: no text translation model there, or one that does not know the languages.
    """

    def __init__(
        self, name_or_path: str, languages: LanguagePair, device: torch.device, dtype: torch.dtype
    ) -> None:
        read_config(name_or_path, _WHAT)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
        except LOAD_ERRORS as error:
            raise load_error(name_or_path, _WHAT, error) from error
        self.name = name_or_path
        self.languages = languages
        self._device, self._dtype = device, dtype
        self._forced: dict[str, int] = {}
        if hasattr(self.tokenizer, "src_lang"):
            source, target = self._code(languages.source or "en"), self._code(languages.target or "vi")
            self.languages = dataclasses.replace(languages, source=source, target=target)
            self.tokenizer.src_lang = source
            self._forced = {"forced_bos_token_id": self._token_id(target)}
        elif stated := languages.source or languages.target:
            raise ModelError(
                where=f"model {name_or_path}",
                rule="a tokenizer that is told languages by codes, where codes are given",
                found=f"the code {stated}, and a {type(self.tokenizer).__name__}, which knows none",
                do="leave the codes out; a model of several languages may want a prefix, such as “>>vie<< ”",
            )

    @functools.cached_property
    def _model(self) -> Any:
        """Loaded when the first text is translated; languages are checked before speech is decoded for it."""
        try:
            model, loading = AutoModelForSeq2SeqLM.from_pretrained(
                self.name,
                dtype=self._dtype,
                weights_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except LOAD_ERRORS as error:
            raise load_error(self.name, _WHAT, error) from error
        require_all_weights(self.name, loading["missing_keys"])
        # The caps here replace both: stated twice, transformers warns in every batch, and an end that is
        # forced on the longest text of a batch is none for the others.
        model.generation_config.max_length = None
        model.generation_config.forced_eos_token_id = None
        return model.to(self._device).eval()

    def _known_codes(self) -> set[str]:
        tokenizer = self.tokenizer
        if hasattr(tokenizer, "lang_code_to_token"):  # M2M-100 writes them as __vi__
            return set(tokenizer.lang_code_to_token)
        # Plain pieces of the vocabulary may be spelled as a code is.
        return {*getattr(tokenizer, "lang_code_to_id", ()), *tokenizer.get_added_vocab()}

    def _code(self, language: str) -> str:
        known = self._known_codes()
        for code in _CODES.get(language, (language,)):
            if code in known:
                return code
        raise ModelError(
            where=f"model {self.name}",
            rule="a language that its tokenizer has a code for",
            found=f"{language!r}; there are, for example, {', '.join(sorted(known)[:8])}",
            do="write the code as the model's page on the Hub does",
        )

    def _token_id(self, code: str) -> int:
        tokens = getattr(self.tokenizer, "lang_code_to_token", {})
        return int(self.tokenizer.convert_tokens_to_ids(tokens.get(code, code)))

    @torch.no_grad()
    def translate(self, texts: Sequence[str], batch_size: int) -> list[str]:
        """Each text alone, with the search that the model's own generation settings ask for.

        Nothing is translated into nothing. What is longer than the model reads is cut, and said.
        """
        sources = [f"{self.languages.prefix}{text.strip()}" if text.strip() else "" for text in texts]
        token_ids = [self._token_ids(source) for source in sources]
        translations = [""] * len(texts)
        longest_first = sorted(
            filter(sources.__getitem__, range(len(texts))), key=lambda i: -len(token_ids[i])
        )
        for batch in _with_progress(longest_first, batch_size):
            for index, text in zip(batch, self._translate_batch([token_ids[i] for i in batch]), strict=True):
                translations[index] = text
        return translations

    def _token_ids(self, source: str) -> list[int]:
        longest = min(self.tokenizer.model_max_length, self._max_positions())
        cut: list[int] = self.tokenizer(source, truncation=True, max_length=longest).input_ids
        if len(cut) == longest:
            logger.warning(
                "%s reads %d tokens at most, and this text fills or exceeds them: %.60s …",
                self.name,
                longest,
                source,
            )
        return cut

    def _max_positions(self) -> int:
        return int(getattr(self._model.config, "max_position_embeddings", None) or 10**6)

    def _translate_batch(self, token_ids: Sequence[list[int]]) -> list[str]:
        inputs = self.tokenizer.pad({"input_ids": list(token_ids)}, return_tensors="pt").to(
            self._model.device
        )
        caps = [self._cap(len(ids)) for ids in token_ids]
        cap, ends = ends_at_own_caps(
            caps,
            num_tasks=1,
            num_beams=self._model.generation_config.num_beams or 1,
            prompt_length=1,  # the decoder's start token; a forced language counts as generated
            end_token_id=self.tokenizer.eos_token_id,
            device=self._model.device,
        )
        try:
            generated = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                logits_processor=ends,
                max_new_tokens=cap,
                **self._forced,
            )
        except torch.OutOfMemoryError:
            raise ModelError(
                where=f"model {self.name}",
                rule="memory for a batch of texts on the GPU",
                found=f"too little for {len(token_ids)} texts of up to {len(token_ids[0])} tokens",
                do="a smaller --batch_size",
            ) from None
        texts = []
        for row, cap in zip(generated.tolist(), caps, strict=True):
            # First come the decoder's start token and the language. No text depends on a longer one.
            own = row[1 + len(self._forced) : 1 + cap]
            texts.append(self.tokenizer.decode(own, skip_special_tokens=True).strip())
        return texts

    def _cap(self, num_source_tokens: int) -> int:
        wanted = math.ceil(TARGET_TOKENS_PER_SOURCE_TOKEN * num_source_tokens) + TARGET_TOKENS_BASE
        return min(wanted, self._max_positions() - 1)


def _with_progress(indices: Sequence[int], batch_size: int) -> Iterator[Sequence[int]]:
    with tqdm(total=len(indices), desc="translating", unit=" texts") as progress:
        for start in range(0, len(indices), batch_size):
            batch = indices[start : start + batch_size]
            yield batch
            progress.update(len(batch))
