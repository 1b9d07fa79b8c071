"""The part of the Hub's HTTP API that reads: account, repositories, file lists, files."""

import hashlib
import re
from typing import Any
from urllib.parse import parse_qs

from tests.hub.access import KIND_OF_PLURAL, Hub
from tests.hub.messages import HubError, Request, Response, json_response
from tests.hub.repositories import DEFAULT_BRANCH, Commit, Repository, StoredFile


def whoami(hub: Hub, request: Request) -> Response:
    hub.check_token(request)
    return json_response(
        {
            "type": "user",
            "id": "0",
            "name": "tester",
            "fullname": "Tester",
            "email": "tester@example.org",
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}},
        }
    )


def repository_info(
    hub: Hub, request: Request, plural: str, repo_id: str, revision: str = DEFAULT_BRANCH
) -> Response:
    repository = hub.readable(request, plural, repo_id)
    commit = repository.commit_at(revision)
    return json_response(_described(repository, commit, with_blobs=request.flag("blobs")))


def list_repositories(hub: Hub, request: Request, plural: str) -> Response:
    described = [
        _described(repository, repository.commit_at(DEFAULT_BRANCH))
        for (kind, repo_id), repository in hub.store.repositories.items()
        if kind == KIND_OF_PLURAL[plural]
        and repository.access != "private"
        and request.query.get("search", "") in repo_id
        and repo_id.startswith(request.query.get("author", ""))
    ]
    return json_response(described[: int(request.query.get("limit", 1000))])


def _described(repository: Repository, commit: Commit, with_blobs: bool = False) -> dict[str, Any]:
    siblings: list[dict[str, Any]] = []
    for path, file in sorted(commit.files.items()):
        sibling: dict[str, Any] = {"rfilename": path}
        if with_blobs:
            sibling |= {"size": file.num_bytes, "blobId": file.git_hash}
            if file.is_lfs:
                sibling["lfs"] = {
                    "sha256": file.sha256,
                    "size": file.num_bytes,
                    "pointerSize": file.pointer_num_bytes,
                }
        siblings.append(sibling)
    return {
        "_id": repository.repo_id,
        "id": repository.repo_id,
        "modelId": repository.repo_id,
        "author": repository.repo_id.split("/")[0],
        "sha": commit.sha,
        "private": repository.access == "private",
        "gated": "manual" if repository.access == "gated" else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": siblings,
        "createdAt": repository.created,
        "lastModified": commit.date,
    }


def list_references(hub: Hub, request: Request, plural: str, repo_id: str) -> Response:
    repository = hub.readable(request, plural, repo_id)
    return json_response(
        {
            "branches": [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha}
                for name, sha in repository.branches.items()
            ],
            "tags": [
                {"name": name, "ref": f"refs/tags/{name}", "targetCommit": sha}
                for name, sha in repository.tags.items()
            ],
            "converts": [],
            "pullRequests": [],
        }
    )


def list_commits(hub: Hub, request: Request, plural: str, repo_id: str, revision: str) -> Response:
    commits = hub.readable(request, plural, repo_id).history(revision)
    listed = [
        {
            "id": commit.sha,
            "title": commit.title,
            "message": commit.message,
            "date": commit.date,
            "authors": [{"user": "tester"}],
        }
        for commit in commits
    ]
    return json_response(listed, headers={"X-Total-Count": str(len(listed))})


def list_discussions(hub: Hub, request: Request, plural: str, repo_id: str) -> Response:
    """No pull requests and discussions yet; transformers asks for them when weights are a `.bin` file."""
    hub.readable(request, plural, repo_id)
    return json_response({"discussions": [], "count": 0, "start": 0, "numClosedDiscussions": 0})


def list_tree(
    hub: Hub, request: Request, plural: str, repo_id: str, revision: str, folder: str | None = None
) -> Response:
    """Files and folders below a folder, with `?recursive` also those deeper down."""
    commit = hub.readable(request, plural, repo_id).commit_at(revision)
    prefix = f"{folder.strip('/')}/" if folder and folder.strip("/") else ""
    inside = [path for path in sorted(commit.files) if path.startswith(prefix)]
    if prefix and not inside:
        raise HubError(404, f'{folder} does not exist on "{revision}"', "EntryNotFound")
    entries: dict[str, dict[str, Any]] = {}
    for path in inside:
        *folders, _ = path.removeprefix(prefix).split("/")
        depth = len(folders) if request.flag("recursive") else min(1, len(folders))
        for level in range(1, depth + 1):
            parent = prefix + "/".join(folders[:level])
            entries.setdefault(parent, _folder_entry(parent))
        if not folders or request.flag("recursive"):
            entries[path] = _file_entry(path, commit.files[path])
    if request.flag("expand"):
        last_commit = {"id": commit.sha, "title": commit.title, "date": commit.date}
        entries = {path: {**entry, "lastCommit": last_commit} for path, entry in entries.items()}
    return json_response(list(entries.values()))


def paths_info(hub: Hub, request: Request, plural: str, repo_id: str, revision: str) -> Response:
    is_json = request.body.lstrip().startswith(b"{")
    asked = (request.json() if is_json else parse_qs(request.body.decode()))["paths"]
    files = hub.readable(request, plural, repo_id).commit_at(revision).files
    entries = []
    for path in (path.strip("/") for path in asked):
        if path in files:
            entries.append(_file_entry(path, files[path]))
        elif any(file.startswith(f"{path}/") for file in files):
            entries.append(_folder_entry(path))
    return json_response(entries)


def _file_entry(path: str, file: StoredFile) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": file.num_bytes, "oid": file.git_hash}
    if file.is_lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.num_bytes, "pointerSize": file.pointer_num_bytes}
    return entry


def _folder_entry(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


def download(
    hub: Hub, request: Request, repo_id: str, revision: str, path: str, plural: str = "models"
) -> Response:
    """A file, or for HEAD its headers: commit, size and ETag, by which the client names it in its cache."""
    repository = hub.downloadable(request, plural, repo_id)
    commit = repository.commit_at(revision)
    file = commit.files.get(path)
    if file is None:
        raise HubError(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit.sha})
    headers = {"X-Repo-Commit": commit.sha, "X-Linked-Size": str(file.num_bytes)}
    if file.is_lfs:
        headers["X-Linked-ETag"] = f'"{file.sha256}"'
    return _content(hub, request, file.sha256, file.etag, headers)


def download_content(hub: Hub, request: Request, sha256: str) -> Response:
    return _content(hub, request, sha256, sha256, {})


def _content(hub: Hub, request: Request, sha256: str, etag: str, headers: dict[str, str]) -> Response:
    """The whole content, or the `Range` that a client asks for when it continues a download."""
    path = hub.store.content_path(sha256)
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": f'"{etag}"',
        **headers,
    }
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if asked is None:
        return Response(200, headers, body_path=path)
    data = path.read_bytes()
    start, end = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
    if start >= len(data):
        raise HubError(416, "range not satisfiable", **{"Content-Range": f"bytes */{len(data)}"})
    headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
    return Response(206, headers, data[start : end + 1])
