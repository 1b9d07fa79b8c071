"""What is made appears complete or not at all, and never in the place of somebody else's files."""

import contextlib
from pathlib import Path

import pytest

from tests.models.test_nano_e2e import ALL_TEXTS
from tests.models.test_nano_e2e import SHAPE as E2E_SHAPE
from tests.tiny_e2e import write_base
from tests.tiny_models import SHAPE as WHISPER_SHAPE
from vietst.errors import ModelError
from vietst.models.e2e_assembly import AssemblySettings, ensure_e2e_base
from vietst.models.made_folders import made_folder
from vietst.models.nano import ensure_nano_whisper
from vietst.models.nano_e2e import ensure_nano_e2e

CARD = "card.json"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_takes_the_place_of_an_older_one_when_it_is_complete(tmp_path):
    folder = tmp_path / "models" / "made"
    for content in ("old", "new"):
        with made_folder(folder, CARD, "") as building:
            assert building.parent == folder.parent, "on the same file system"
            (building / CARD).write_text(content)
            (building / content).touch()
    assert files_of(folder).keys() == {CARD, "new"}
    with contextlib.suppress(KeyboardInterrupt), made_folder(folder, CARD, "") as building:
        (building / "newest").touch()
        raise KeyboardInterrupt
    assert files_of(folder).keys() == {CARD, "new"}
    assert list(folder.parent.iterdir()) == [folder], "nothing is left behind"


def test_an_empty_folder_is_used(tmp_path):
    with made_folder(tmp_path, CARD, "") as building:
        (building / CARD).touch()
    assert files_of(tmp_path).keys() == {CARD}


def test_files_that_were_not_made_here_are_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with (
        pytest.raises(ModelError, match=r"thesis\.tex, and no card\.json\n.*choose another"),
        made_folder(tmp_path, CARD, "choose another"),
    ):
        pass
    assert files_of(tmp_path).keys() == {"thesis.tex"}


def test_a_file_is_not_replaced(tmp_path):
    (tmp_path / "model").write_text("mine", encoding="utf-8")
    with (
        pytest.raises(ModelError, match=r"a file\n.*choose another"),
        made_folder(tmp_path / "model", CARD, "choose another"),
    ):
        pass
    assert (tmp_path / "model").read_text(encoding="utf-8") == "mine"


def test_a_trained_model_at_the_name_of_a_model_to_be_made_survives(tmp_path):
    base = write_base(tmp_path)
    trained = tmp_path / "trained"
    base.rename(trained)
    (trained / "e2e_base_card.json").unlink()  # a run folder has none
    before = files_of(tmp_path)
    parts = (str(tmp_path / "encoder"), str(tmp_path / "decoder"))
    with pytest.raises(ModelError, match=r"model\.encoder=null"):
        ensure_e2e_base(trained, *parts, AssemblySettings())
    with pytest.raises(ModelError, match=r"model\.name="):
        ensure_nano_whisper(trained, WHISPER_SHAPE, ALL_TEXTS)
    with pytest.raises(ModelError, match=r"model\.encoder="):
        ensure_nano_e2e(tmp_path, E2E_SHAPE, ALL_TEXTS)
    assert files_of(tmp_path) == before
