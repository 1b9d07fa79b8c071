"""The tokenizer: can it write Vietnamese with all its tones, and English? Is it the one of the training?"""

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vietst.doctor.findings import Finding, Status
from vietst.doctor.recorded_clip import other_versions
from vietst.evaluation.decode import TextDecoder
from vietst.inference.self_check import read_expected, vocabulary_digest
from vietst.models.architectures import Architecture

VOWELS = (
    "a à ả ã á ạ ă ằ ẳ ẵ ắ ặ â ầ ẩ ẫ ấ ậ e è ẻ ẽ é ẹ ê ề ể ễ ế ệ i ì ỉ ĩ í ị o ò ỏ õ ó ọ ô ồ ổ ỗ ố ộ "
    "ơ ờ ở ỡ ớ ợ u ù ủ ũ ú ụ ư ừ ử ữ ứ ự y ỳ ỷ ỹ ý ỵ đ"
)
"""Every Vietnamese vowel with every tone."""

TEXTS = {
    "Vietnamese": "Mười người thợ quét những đoạn đường gãy, khuỷu, ngoằn ngoèo; nghỉ ở chỗ rẽ, uống trà đá.",
    "code-switched": "mình sẽ fix cái bug này trước deadline",
    "English": "The quick brown fox jumps over the lazy dog",
    "all tones": VOWELS,
    "all tones in capitals": VOWELS.upper(),
}


def check_tokenizer(folder: Path, architecture: Architecture) -> Iterator[Finding]:
    processor = architecture.load_processor(str(folder))
    tokenizer = processor.tokenizer
    decode = TextDecoder(tokenizer)
    lost: dict[str, str] = {}
    for kind, text in TEXTS.items():
        normal = unicodedata.normalize("NFC", text)
        (back,) = decode([architecture.text_token_ids(tokenizer, normal)])
        if back != normal:
            lost[kind] = lost_letters(normal, back)
    if lost:
        yield Finding(
            Status.WARNING,
            "tokenizer",
            "does not give back " + "; ".join(f"{kind} ({letters})" for kind, letters in lost.items()),
            "the model cannot write this; train from a base whose vocabulary has these letters",
        )
    else:
        yield Finding(Status.OK, "tokenizer", f"gives back {', '.join(TEXTS)}")
    yield check_size(tokenizer, architecture.load_model_config(str(folder)))
    yield from check_vocabulary(folder, tokenizer)


def lost_letters(text: str, back: str) -> str:
    """What of a text is not in what came back; "order or spaces" where all is."""
    missing = "".join(sorted(set(text) - set(back) - {" "}))
    if len(missing) > 12:
        return f"{len(missing)} letters, such as {missing[:6]}"
    return missing or "order or spaces"


def check_size(tokenizer: Any, config: Any) -> Finding:
    """No token without a row in the embedding: the model would fail where it meets one."""
    num_rows = getattr(config, "decoder", config).vocab_size
    found = f"{len(tokenizer)} tokens, {num_rows} rows in the embedding"
    if len(tokenizer) > num_rows:
        return Finding(
            Status.MEND, "vocabulary", found, "publish the tokenizer that the model was trained with"
        )
    return Finding(Status.OK, "vocabulary", found)


def check_vocabulary(folder: Path, tokenizer: Any) -> Iterator[Finding]:
    """Does each id stand for the token that it stood for in training? Without a record nothing is found."""
    subject, expected = "tokens", read_expected(folder)
    if expected is None:
        return
    if expected.vocabulary_digest is None:
        yield Finding(Status.OK, subject, "not recorded at training time, by an older version of vietst")
    elif expected.vocabulary_digest == vocabulary_digest(tokenizer):
        yield Finding(Status.OK, subject, "each id stands for what it stood for at training time")
    else:
        yield Finding(
            Status.MEND,
            subject,
            "some ids stand for other tokens than at training time, and texts get wrong words",
            f"push the run folder again: the tokenizer's files are others{other_versions(expected)}",
        )
