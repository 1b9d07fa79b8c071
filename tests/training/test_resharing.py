"""What DeepSpeed leaves to be done where its checkpoint is shared out anew; the rest: test_checkpoints.py."""

import pytest
import torch

from vietst.training.resharing import place_steps


@pytest.mark.parametrize(("is_fused", "device"), [(True, "meta"), (False, "cpu")])
def test_steps_lie_where_the_optimizer_reads_them(is_fused, device):
    """Fused, beside the moments: a GPU cannot read main memory. Otherwise there, not to be waited for."""
    parameter = torch.nn.Parameter(torch.zeros(2, device="meta"))
    optimizer = torch.optim.AdamW([parameter], fused=is_fused)
    optimizer.state[parameter] = {"step": torch.tensor(7.0), "exp_avg": torch.zeros(2, device="meta")}
    place_steps(optimizer)
    assert optimizer.state[parameter]["step"].device.type == device
