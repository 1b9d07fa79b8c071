"""`SpeechTranslator` from a Hub id: what it downloads, revisions, and the cache without a network."""

import json
import subprocess
import sys
from pathlib import Path

from tests.hub.server import TOKEN, LoopbackHub
from tests.inference.models import write_model

PROGRAM = """
import json, sys
from pathlib import Path
import huggingface_hub
from vietst.errors import VietstError
from vietst.inference import SpeechTranslator
from vietst.models import whisper_inputs

folders, clip, adapter = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
commits = []
if folders:
    huggingface_hub.create_repo("tester/model", private=False)
    for folder in folders:
        commits.append(huggingface_hub.upload_folder(repo_id="tester/model", folder_path=folder).oid)
    huggingface_hub.create_repo("tester/adapter", private=False)
    huggingface_hub.upload_folder(repo_id="tester/adapter", folder_path=adapter)
    huggingface_hub.create_repo("tester/both", private=False)
    for folder in (folders[1], adapter):
        huggingface_hub.upload_folder(repo_id="tester/both", folder_path=folder)
told = {}
for revision in [None, *commits[:1], "no-such-branch"]:
    try:
        translator = SpeechTranslator.from_pretrained("tester/model", revision=revision)
        said = translator(clip).segments[0].said
        told[str(revision)] = [translator.model_name, {task: said[task].log_probability for task in said}]
    except VietstError as error:
        told[str(revision)] = error.found
for name in ("adapter", "both"):
    for load in (SpeechTranslator.from_pretrained, whisper_inputs.load_processor):
        try:
            load(f"tester/{name}")
        except VietstError as error:
            told.setdefault(name, []).append([error.where, error.found])
cached = Path(huggingface_hub.constants.HF_HUB_CACHE).rglob("snapshots/*/**/*")
print("TOLD", json.dumps([commits, told, sorted({path.name for path in cached if path.is_file()})]))
"""


def test_models_come_from_the_hub_by_revision_and_then_from_the_cache(
    tmp_path: Path, tiny_corpus: Path
) -> None:
    clip = next((tiny_corpus / "data" / "export").rglob("*.wav"))
    old = write_model(tmp_path / "old", "whisper", tasks=("transcribe",))
    new = write_model(tmp_path / "new", "whisper")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    described = {"peft_type": "LORA", "base_model_name_or_path": "openai/whisper-small"}
    (adapter / "adapter_config.json").write_text(json.dumps(described), encoding="utf-8")
    (new / "checkpoint-4").mkdir()
    for name in ("checkpoint-4/model.safetensors", "optimizer.bin", "chart.png"):
        (new / name).write_bytes(b"not needed")

    def run(hub: LoopbackHub, folders: list[Path], **environment: str) -> tuple[list[str], dict, list[str]]:
        ran = subprocess.run(
            [
                *(sys.executable, "-c", PROGRAM, json.dumps([str(folder) for folder in folders])),
                *(str(clip), str(adapter)),
            ],
            env=hub.client_environment(tmp_path / "hf_home", HF_TOKEN=TOKEN, **environment),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        return json.loads(ran.stdout.rpartition("TOLD ")[2])

    with LoopbackHub(tmp_path / "hub") as hub:
        commits, told, downloaded = run(hub, [old, new])
    name, of_new = told["None"]
    assert name == "tester/model"
    assert of_new.keys() == {"transcribe", "translate"}
    _, of_old = told[commits[0]]
    assert of_old.keys() == {"transcribe"}
    assert "no such branch" in told["no-such-branch"]
    of_adapter = "a LoRA adapter of openai/whisper-small, not merged into it"
    for named in ("adapter", "both"):  # of the second, transformers would load the adapter's base instead
        assert told[named] == [[f"model tester/{named}", of_adapter]] * 2
    assert "model.safetensors" in downloaded
    assert not {"optimizer.bin", "chart.png"} & set(downloaded)
    _, offline, _ = run(hub, [], HF_HUB_OFFLINE="1")
    assert (offline["None"], offline["adapter"]) == (told["None"], told["adapter"])
    assert offline["both"] == told["both"]
