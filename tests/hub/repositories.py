"""What a loopback Hub holds: repositories with their commits in memory, file contents in a folder."""

import dataclasses
import datetime
import hashlib
import os
import re
from pathlib import Path
from typing import Literal

from tests.hub.messages import HubError

Access = Literal["public", "private", "gated"]
"""Who may read: everybody; holders of the token; nobody, as before an access request is granted."""

DEFAULT_BRANCH = "main"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """One file of a commit. Large (LFS) files are known by their content's SHA-256, others by git's hash."""

    sha256: str
    num_bytes: int
    git_hash: str
    is_lfs: bool
    pointer_num_bytes: int = 0

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.git_hash


@dataclasses.dataclass(frozen=True)
class Commit:
    """A state of a repository: all its files by path."""

    sha: str
    parent: str | None
    title: str
    message: str
    date: str
    files: dict[str, StoredFile]


@dataclasses.dataclass
class Repository:
    """Branches and tags point to commits by their hash."""

    kind: str  # "model", "dataset" or "space"
    repo_id: str
    access: Access
    created: str
    branches: dict[str, str] = dataclasses.field(default_factory=dict)
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    commits: dict[str, Commit] = dataclasses.field(default_factory=dict)

    def commit_at(self, revision: str) -> Commit:
        """The commit that a branch, a tag, a hash or the unique beginning of one names."""
        for names in (self.branches, self.tags):
            if revision in names:
                return self.commits[names[revision]]
        matches = [sha for sha in self.commits if sha.startswith(revision)] if len(revision) >= 7 else []
        if len(matches) != 1:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[matches[0]]

    def history(self, revision: str) -> list[Commit]:
        """Newest first."""
        commits = [self.commit_at(revision)]
        while (parent := commits[-1].parent) is not None:
            commits.append(self.commits[parent])
        return commits


class HubStore:
    """All repositories of a Hub. File contents lie in `folder` under their SHA-256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repositories: dict[tuple[str, str], Repository] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def content_path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise HubError(400, "bad oid")
        return self.folder / sha256

    def add_content(self, data: bytes) -> str:
        """Keep bytes; returns their SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.content_path(sha256)
        if not path.exists():
            path.write_bytes(data)
        return sha256

    def regular_file(self, data: bytes) -> StoredFile:
        return StoredFile(self.add_content(data), len(data), _git_blob_hash(data), is_lfs=False)

    def lfs_file(self, sha256: str) -> StoredFile:
        """A large file whose content has been uploaded before."""
        path = self.content_path(sha256)
        if not path.exists():
            raise HubError(400, f"LFS object {sha256} has not been uploaded")
        num_bytes = path.stat().st_size
        pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {num_bytes}\n".encode()
        )
        return StoredFile(sha256, num_bytes, _git_blob_hash(pointer), True, len(pointer))

    def create(self, kind: str, repo_id: str, access: Access) -> Repository:
        """A repository with one commit, as the Hub makes it."""
        if (kind, repo_id) in self.repositories:
            raise HubError(409, f"You already created this {kind} repo")
        repository = Repository(kind, repo_id, access, _now())
        self.repositories[kind, repo_id] = repository
        attributes = self.regular_file(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
        self.add_commit(repository, DEFAULT_BRANCH, {".gitattributes": attributes}, "initial commit")
        return repository

    def add_commit(
        self,
        repository: Repository,
        branch: str,
        files: dict[str, StoredFile],
        title: str,
        message: str = "",
    ) -> Commit:
        # Two commits with the same content still are two.
        sha = hashlib.sha1(os.urandom(20)).hexdigest()
        commit = Commit(sha, repository.branches.get(branch), title, message, _now(), files)
        repository.commits[sha] = commit
        repository.branches[branch] = sha
        return commit

    def publish(self, repo_id: str, folder: Path, access: Access = "public") -> Repository:
        """A model repository with the files of a folder, the large ones as LFS files."""
        repository = self.create("model", repo_id, access)
        files = dict(repository.commit_at(DEFAULT_BRANCH).files)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            data = path.read_bytes()
            is_lfs = is_large_file(path.name, len(data))
            files[path.relative_to(folder).as_posix()] = (
                self.lfs_file(self.add_content(data)) if is_lfs else self.regular_file(data)
            )
        self.add_commit(repository, DEFAULT_BRANCH, files, "files of the model")
        return repository


_LFS_SUFFIXES: tuple[str, ...] = (".safetensors", ".bin", ".pt", ".pth", ".onnx", ".msgpack", ".h5", ".npz")
_LFS_SUFFIXES += (".parquet", ".arrow", ".gz", ".zip", ".tar", ".model", ".wav", ".flac", ".mp3")
_LFS_MIN_BYTES = 10 * 1024 * 1024


def is_large_file(name: str, num_bytes: int) -> bool:
    """Whether the Hub stores a file with LFS rather than in git."""
    return name.endswith(_LFS_SUFFIXES) or "tfevents" in name or num_bytes > _LFS_MIN_BYTES


def _git_blob_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
