"""The part of the Hub's HTTP API that writes: repositories, branches, tags, uploads, commits.

An upload is: `preupload` (which files go by LFS) → `lfs_batch` (where to put them) → `lfs_put` and
`lfs_verify` for each → `commit`, whose lines carry the small files and name the large ones.
"""

import base64
import fnmatch
import hashlib
import json
from typing import Any

from tests.hub.access import Hub
from tests.hub.messages import HubError, Request, Response, json_response
from tests.hub.repositories import DEFAULT_BRANCH, Repository, StoredFile, is_large_file


def validate_card(hub: Hub, request: Request) -> Response:
    return json_response({"errors": [], "warnings": []})


# --- repositories, branches, tags --------------------------------------------------------------------


def create_repository(hub: Hub, request: Request) -> Response:
    kind, repo_id = _named(request)
    hub.check_may_write(request, repo_id)
    url = f"{request.base_url}/{'' if kind == 'model' else kind + 's/'}{repo_id}"
    try:
        hub.store.create(kind, repo_id, "private" if _wants_private(request) else "public")
    except HubError as refusal:  # the client takes the address of the one that is there
        return json_response({"error": refusal.message, "url": url}, status=refusal.status)
    return json_response({"url": url, "name": repo_id, "id": repo_id})


def delete_repository(hub: Hub, request: Request) -> Response:
    kind, repo_id = _named(request)
    hub.check_may_write(request, repo_id)
    if hub.store.repositories.pop((kind, repo_id), None) is None:
        raise HubError(404, "Repository not found", "RepoNotFound")
    return json_response({})


def change_settings(hub: Hub, request: Request, plural: str, repo_id: str) -> Response:
    repository = _writable(hub, request, plural, repo_id)
    if {"visibility", "private"} & request.json().keys():
        repository.access = "private" if _wants_private(request) else "public"
    return json_response({})


def _named(request: Request) -> tuple[str, str]:
    asked = request.json()
    return asked.get("type") or "model", f"{asked.get('organization') or 'tester'}/{asked['name']}"


def _wants_private(request: Request) -> bool:
    asked = request.json()
    return asked.get("visibility") == "private" or bool(asked.get("private"))


def _writable(hub: Hub, request: Request, plural: str, repo_id: str) -> Repository:
    hub.check_token(request)
    repository = hub.readable(request, plural, repo_id)
    hub.check_may_write(request, repo_id)
    return repository


def create_branch(hub: Hub, request: Request, plural: str, repo_id: str, name: str) -> Response:
    repository = _writable(hub, request, plural, repo_id)
    if name in repository.branches:
        raise HubError(409, "Reference already exists")
    start = request.json().get("startingPoint") or DEFAULT_BRANCH
    repository.branches[name] = repository.commit_at(start).sha
    return json_response({})


def create_tag(hub: Hub, request: Request, plural: str, repo_id: str, revision: str) -> Response:
    repository = _writable(hub, request, plural, repo_id)
    name = request.json()["tag"]
    if name in repository.tags:
        raise HubError(409, "Tag reference exists already")
    repository.tags[name] = repository.commit_at(revision).sha
    return json_response({})


def delete_branch(hub: Hub, request: Request, plural: str, repo_id: str, name: str) -> Response:
    return _delete_reference(_writable(hub, request, plural, repo_id).branches, name)


def delete_tag(hub: Hub, request: Request, plural: str, repo_id: str, name: str) -> Response:
    return _delete_reference(_writable(hub, request, plural, repo_id).tags, name)


def _delete_reference(references: dict[str, str], name: str) -> Response:
    if references.pop(name, None) is None:
        raise HubError(404, "Reference does not exist", "RevisionNotFound")
    return json_response({})


# --- uploads -----------------------------------------------------------------------------------------


def preupload(hub: Hub, request: Request, plural: str, repo_id: str, revision: str) -> Response:
    """Which of the files are to be uploaded with LFS, and which are ignored."""
    files = _writable(hub, request, plural, repo_id).commit_at(revision).files
    asked = request.json()
    lines = [line.strip() for line in (asked.get("gitIgnore") or "").splitlines()]
    ignored = [line for line in lines if line and not line.startswith("#")]
    answers = []
    for file in asked["files"]:
        name, is_binary = file["path"].rsplit("/", 1)[-1], b"\0" in base64.b64decode(file.get("sample") or "")
        known = files.get(file["path"])
        answers.append(
            {
                "path": file["path"],
                "uploadMode": "lfs" if is_binary or is_large_file(name, file["size"]) else "regular",
                "shouldIgnore": any(fnmatch.fnmatch(file["path"], pattern) for pattern in ignored),
                "oid": known.etag if known else None,
            }
        )
    return json_response({"files": answers})


def lfs_batch(hub: Hub, request: Request, repo_id: str, plural: str = "models") -> Response:
    """Where to upload to or download from, for each of the contents."""
    asked = request.json()
    if asked["operation"] == "upload":
        _writable(hub, request, plural, repo_id)
    else:
        hub.downloadable(request, plural, repo_id)
    objects = []
    for content in asked["objects"]:
        answer: dict[str, Any] = {"oid": content["oid"], "size": content["size"]}
        address = f"{request.base_url}/_lfs/{content['oid']}"
        is_here = hub.store.content_path(content["oid"]).exists()
        if asked["operation"] == "upload" and not is_here:
            answer["actions"] = {"upload": {"href": address}, "verify": {"href": f"{address}/verify"}}
        elif asked["operation"] == "download" and is_here:
            answer["actions"] = {"download": {"href": address}}
        elif asked["operation"] == "download":
            answer["error"] = {"code": 404, "message": "Object does not exist"}
        objects.append(answer)
    return json_response(
        {"transfer": "basic", "objects": objects, "hash_algo": "sha256"},
        headers={"Content-Type": "application/vnd.git-lfs+json"},
    )


def lfs_put(hub: Hub, request: Request, sha256: str) -> Response:
    if hashlib.sha256(request.body).hexdigest() != sha256:
        raise HubError(400, "sha256 mismatch")
    hub.store.add_content(request.body)
    return json_response({}, headers={"ETag": f'"{sha256}"'})


def lfs_verify(hub: Hub, request: Request, sha256: str) -> Response:
    path = hub.store.content_path(sha256)
    if not path.exists() or path.stat().st_size != request.json()["size"]:
        raise HubError(404, "object missing or wrong size")
    return json_response({})


def commit(hub: Hub, request: Request, plural: str, repo_id: str, revision: str) -> Response:
    """One commit from lines of JSON: a header, then what is added and deleted."""
    repository = _writable(hub, request, plural, repo_id)
    if revision not in repository.branches:
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    head = repository.commit_at(revision)
    files, header = dict(head.files), {"summary": "", "description": ""}
    for line in request.body.splitlines():
        if not line.strip():
            continue
        operation = json.loads(line)
        key, value = operation["key"], operation["value"]
        if key != "header":
            _apply(hub, files, key, value)
            continue
        header |= value
        if value.get("parentCommit") and not head.sha.startswith(value["parentCommit"]):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
    made = hub.store.add_commit(repository, revision, files, header["summary"], header["description"])
    prefix = "" if plural == "models" else f"{plural}/"
    return json_response(
        {
            "success": True,
            "commitOid": made.sha,
            "hookOutput": "",
            "commitUrl": f"{request.base_url}/{prefix}{repo_id}/commit/{made.sha}",
        }
    )


def _apply(hub: Hub, files: dict[str, StoredFile], key: str, value: dict[str, Any]) -> None:
    """One operation of a commit, on the files of its parent."""
    if key == "file":
        is_base64 = value.get("encoding") == "base64"
        data = base64.b64decode(value["content"]) if is_base64 else value["content"].encode()
        files[value["path"]] = hub.store.regular_file(data)
    elif key == "lfsFile":
        files[value["path"]] = hub.store.lfs_file(value["oid"])
    elif key == "deletedFile":
        if files.pop(value["path"], None) is None:
            raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
    elif key == "deletedFolder":
        prefix = value["path"].rstrip("/") + "/"
        for path in [path for path in files if path.startswith(prefix)]:
            del files[path]
    else:
        raise HubError(400, f"unknown operation {key}")
