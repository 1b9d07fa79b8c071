"""Who may do what on the loopback Hub, with the answers that huggingface.co gives to the others."""

import dataclasses

from tests.hub.messages import HubError, Request
from tests.hub.repositories import HubStore, Repository

KIND_OF_PLURAL = {"models": "model", "datasets": "dataset", "spaces": "space"}
"""The Hub's kinds of repository, as its addresses name them."""


@dataclasses.dataclass(frozen=True)
class Hub:
    """The store, and the two tokens of its one account: for writing, and for reading private repositories."""

    store: HubStore
    token: str
    read_token: str

    def check_token(self, request: Request) -> None:
        if self._is_owner(request):
            return
        if "authorization" in request.headers:
            raise HubError(401, "Invalid credentials in Authorization header")
        # huggingface_hub takes a 401 of an https address for a missing repository; ours is http and says so.
        raise HubError(401, "Invalid username or password.", "RepoNotFound")

    def check_may_write(self, request: Request, repo_id: str) -> None:
        self.check_token(request)
        if request.headers["authorization"] != f"Bearer {self.token}" or not repo_id.startswith("tester/"):
            owner = repo_id.partition("/")[0]
            raise HubError(403, f"You don't have the rights to write to the namespace {owner}")

    def readable(self, request: Request, plural: str, repo_id: str) -> Repository:
        """A repository that may be seen. A private one is denied as if it did not exist."""
        repository = self.store.repositories.get((KIND_OF_PLURAL[plural], repo_id))
        if repository is None or (repository.access == "private" and not self._is_owner(request)):
            self.check_token(request)  # who has none is not told what there is
            raise HubError(404, "Repository not found", "RepoNotFound")
        return repository

    def downloadable(self, request: Request, plural: str, repo_id: str) -> Repository:
        """A repository whose files may be fetched: of a gated one only the description may be seen."""
        repository = self.readable(request, plural, repo_id)
        if repository.access == "gated":
            status = 403 if "authorization" in request.headers else 401
            raise HubError(status, f"Access to model {repo_id} is restricted.", "GatedRepo")
        return repository

    def _is_owner(self, request: Request) -> bool:
        tokens = (self.token, self.read_token)
        return request.headers.get("authorization") in [f"Bearer {token}" for token in tokens]
