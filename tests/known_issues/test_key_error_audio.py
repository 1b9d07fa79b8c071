"""Guide: `KeyError: 'audio'`, mended by `remove_unused_columns=False`.

transformers drops every column that the model's forward does not name, before the collator sees it; the
collators read features, lengths and texts under the names of the feature cache.
"""

import math

from tests.tiny_runs import history
from vietst.training.runner import run_training


def test_the_collator_gets_every_column_of_the_cache(tiny_config):
    run_dir = run_training(tiny_config("training.max_steps=1", "training.eval_steps=1"))
    assert all(math.isfinite(loss) for loss in history(run_dir, "loss"))
    assert history(run_dir, "eval_num_utterances") == [10], "every utterance of dev"
