"""Training on features that stay on the Hub: each utterance's are fetched when a batch needs them.

The rest of a row is there from the start (`feature_index`). So everything that a downloaded cache promises
should hold: the order of the data and the losses, which are tested, and exact resuming, which is not. What it
costs is one request per utterance, again in every epoch, and nothing is kept. The requests of a batch run at
the same time, and the data loader's workers work ahead.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vietst.data.batching import UtteranceDataset
from vietst.data.feature_index import PLACE_COLUMNS
from vietst.data.feature_plan import shard_name
from vietst.data.features import InputKind
from vietst.errors import FeatureCacheError
from vietst.hub_access import HUB_ERRORS, refusal

if TYPE_CHECKING:
    import datasets

_REQUESTS_AT_ONCE: Final = 16


@dataclass(frozen=True)
class RemoteShards:
    """The shards of one split in a dataset repository."""

    repo_id: str
    commit: str
    folder: str
    """Of the split, in the repository."""
    num_shards: int
    kind: InputKind

    def features(self, row: dict[str, Any]) -> bytes:
        """The features of a row of the split's index, from the Hub.

        Raises:
            FeatureCacheError: the Hub refuses, does not answer for about a minute, or gives other bytes.
        """
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

        name = f"{self.folder}/{shard_name(row['shard'], self.num_shards)}"
        start, length = row["offset"], row["num_frames"] * self.kind.bytes_per_frame
        url = hf_hub_url(self.repo_id, name, repo_type="dataset", revision=self.commit)
        headers = {**build_hf_headers(), "Range": f"bytes={start}-{start + length - 1}"}
        try:
            response = http_backoff(
                "GET", url, headers=headers, follow_redirects=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            )
            hf_raise_for_status(response)
        except HUB_ERRORS as error:
            found, do = refusal(error) or (
                str(error),
                "look into the repository; the training can be resumed",
            )
            raise self._error(name, found, do) from error
        if len(response.content) != length:
            found = f"HTTP {response.status_code}, {len(response.content)} bytes"
            raise self._error(name, found, f"a Hub that serves a Range, here of {length} bytes")
        return response.content

    def _error(self, name: str, found: str, do: str) -> FeatureCacheError:
        return FeatureCacheError(
            where=f"hf://datasets/{self.repo_id}@{self.commit}/{name}",
            rule="the features of an utterance come when a batch needs them (data.stream_features)",
            found=found,
            do=do,
        )


class StreamedUtteranceDataset(UtteranceDataset):
    """Rows of a split's index that get their features from the Hub."""

    def __init__(self, rows: "datasets.Dataset", shards: RemoteShards) -> None:
        super().__init__(rows)
        self._shards = shards

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = super().__getitem__(index)
        features = self._shards.features(row)
        return {**{key: row[key] for key in row if key not in PLACE_COLUMNS}, "features": features}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of a batch, as PyTorch's loader asks for them."""
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            return list(pool.map(self.__getitem__, indices))
