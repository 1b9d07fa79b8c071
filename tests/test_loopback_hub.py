"""The loopback Hub does what huggingface_hub expects of a Hub: each test is a client process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hub.server import TOKEN, LoopbackHub


def client(hub: LoopbackHub, tmp_path: Path, program: str, **environment: str) -> dict[str, Any]:
    """Run a program in a process of its own; it fills the dict `told`, which comes back."""
    finished = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import json; told = {{}}\n{program}\nprint('TOLD', json.dumps(told, default=str))",
        ],
        cwd=tmp_path,
        env=hub.client_environment(tmp_path / "hf_home", **environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    told: dict[str, Any] = json.loads(finished.stdout.rpartition("TOLD ")[2])
    return told


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    (folder / "metrics").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "whisper"}\n')
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 4096)
    (folder / "metrics" / "empty.txt").touch()
    return folder


def test_what_is_uploaded_comes_back_the_same_and_can_be_changed(tmp_path: Path, published: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        told = client(
            hub,
            tmp_path,
            """
from pathlib import Path
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
api = HfApi()
told["name"] = api.whoami()["name"]
api.create_repo("tester/model", private=True)
api.create_repo("tester/model", private=True, exist_ok=True)
first = api.upload_folder(repo_id="tester/model", folder_path="published", commit_message="first")
again = api.upload_folder(repo_id="tester/model", folder_path="published", commit_message="again")
told["unchanged_makes_no_commit"] = first.oid == again.oid
api.create_tag("tester/model", tag="v1")
api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="tester/model")
api.delete_file("metrics/empty.txt", repo_id="tester/model")
told["config"] = Path(hf_hub_download("tester/model", "config.json")).read_text()
tagged = Path(snapshot_download("tester/model", revision="v1"))
names = ["config.json", "model.safetensors", "metrics/empty.txt"]
told["same"] = {name: Path("published", name).read_bytes() == (tagged / name).read_bytes() for name in names}
tree = api.list_repo_tree("tester/model", recursive=True, revision="v1")
told["tree"] = sorted(entry.path for entry in tree)
told["files"] = api.list_repo_files("tester/model")
told["commits"] = [commit.title for commit in api.list_repo_commits("tester/model")]
told["found"] = [api.repo_exists("tester/model"), api.repo_exists("tester/other")]
api.delete_repo("tester/model")
told["left"] = api.repo_exists("tester/model")
""",
            HF_TOKEN=TOKEN,
        )
    assert told["name"] == "tester"
    assert told["unchanged_makes_no_commit"]
    assert told["config"] == "{}"
    assert told["same"] == {"config.json": True, "model.safetensors": True, "metrics/empty.txt": True}
    assert told["tree"] == [
        ".gitattributes",
        "config.json",
        "metrics",
        "metrics/empty.txt",
        "model.safetensors",
    ]
    assert told["files"] == [".gitattributes", "config.json", "model.safetensors"]
    assert told["commits"][-1] == "initial commit"
    assert told["commits"][-2] == "first"
    assert told["found"] == [True, False]
    assert told["left"] is False
    assert any("/info/lfs/objects/batch" in request for request in hub.requests), "weights go by LFS"


def test_access_is_refused_as_huggingface_co_refuses_it(tmp_path: Path, published: Path) -> None:
    program = """
from huggingface_hub import HfApi, hf_hub_download
for name in ("tester/public", "tester/private", "tester/gated", "tester/missing"):
    try:
        told[name] = HfApi().model_info(name).id and hf_hub_download(name, "config.json") and "read"
    except Exception as error:
        told[name] = f"{type(error).__name__} {error.response.status_code}"
"""
    with LoopbackHub(tmp_path / "hub") as hub:
        for access in ("public", "private", "gated"):
            hub.store.publish(f"tester/{access}", published, access)
        anonymous = client(hub, tmp_path, program)
        owner = client(hub, tmp_path, program, HF_TOKEN=TOKEN)
        stranger = client(hub, tmp_path, program, HF_TOKEN="hf_other")
    assert anonymous == {
        "tester/public": "read",
        "tester/private": "RepositoryNotFoundError 401",
        "tester/gated": "GatedRepoError 401",
        "tester/missing": "RepositoryNotFoundError 401",
    }
    assert owner == {
        "tester/public": "read",
        "tester/private": "read",
        "tester/gated": "GatedRepoError 403",
        "tester/missing": "RepositoryNotFoundError 404",
    }
    assert stranger["tester/private"] == "HfHubHTTPError 401"


def test_a_download_that_broke_off_goes_on_where_it_was(tmp_path: Path, published: Path) -> None:
    with LoopbackHub(tmp_path / "hub") as hub:
        hub.store.publish("tester/model", published)
        told = client(
            hub,
            tmp_path,
            """
import os, urllib.request
address = os.environ["HF_ENDPOINT"] + "/tester/model/resolve/main/model.safetensors"
answer = urllib.request.urlopen(urllib.request.Request(address, headers={"Range": "bytes=300-"}))
told["status"], told["range"] = answer.status, answer.headers["Content-Range"]
told["tail"] = answer.read().hex()
""",
        )
    data = (published / "model.safetensors").read_bytes()
    assert told == {
        "status": 206,
        "range": f"bytes 300-{len(data) - 1}/{len(data)}",
        "tail": data[300:].hex(),
    }
