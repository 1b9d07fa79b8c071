"""Kill trainings at random moments and resume them: in the end they must be what an undisturbed one is.

    python tests/kill_and_resume.py                                  every launch mode, both architectures
    python tests/kill_and_resume.py --modes zero2 --architectures e2e --kills 3 --seed 7

For every mode and architecture, a training of the tiny nano model runs undisturbed, and another is killed
(kill -9, all processes) ten times and started again with `--resume`. Equal must be: the losses and learning
rates of all steps, the scores on dev, and the final weights, to the bit. After every kill, what has the name
of a checkpoint must be complete, and the best one that the newest knows of must be there.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

from tests.launched_run import ARCHITECTURES, MODES, Launch, RunningLaunch
from tests.tiny_runs import history, make_tiny_corpus
from vietst.training.checkpoints import complete_checkpoints, missing_parts, read_state

NUM_STEPS = 120
OPTIONS = (
    f"training.max_steps={NUM_STEPS}",
    "training.eval_steps=5",
    "training.save_steps=5",
    "training.save_total_limit=2",
    "training.effective_batch=8",
    "training.batch_size=4",
    "training.learning_rate=3e-3",
    "training.freeze_encoder_updates=12",
    "training.early_stopping_patience=100",
    "augmentation.mask_time_prob=0.1",
    "dataloader.num_workers=1",
    "evaluation.max_dev_utterances=4",
)
E2E_OPTIONS = (
    "model.dropout=0.1",
    "training.effective_batch=null",
    "training.batch_seconds=12",
    "training.effective_batch_seconds=24",
)
LONGEST_SHARE = 1 / 6
"""A killed launch trains for at most this share of the undisturbed training's time."""


def main() -> None:
    arguments = parse_arguments()
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="kill_and_resume-") as work:
        corpus = make_tiny_corpus(Path(work) / "corpus")
        failed = []
        for mode in arguments.modes:
            for architecture in arguments.architectures:
                folder = Path(work) / f"{mode}-{architecture}"
                start = time.monotonic()
                try:
                    verdict = kill_and_compare(mode, architecture, corpus, folder, arguments.kills, draw)
                except AssertionError as error:
                    verdict = f"FAILED: {error}"
                    failed.append(f"{mode} {architecture}")
                seconds = time.monotonic() - start
                print(f"{mode:7} {architecture:8} {verdict}  ({seconds:.0f} s)", flush=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    add("--architectures", nargs="+", choices=list(ARCHITECTURES), default=list(ARCHITECTURES))
    add("--kills", type=int, default=10, help="per mode and architecture (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    return parser.parse_args()


def kill_and_compare(
    mode: str, architecture: str, corpus: Path, folder: Path, num_kills: int, draw: random.Random
) -> str:
    """Raises AssertionError where something differs. Returns what happened, in words."""

    def launch(name: str) -> Launch:
        common = (*ARCHITECTURES[architecture](corpus, folder / "base"), *OPTIONS)
        if architecture == "e2e":
            common += E2E_OPTIONS
        return Launch(mode, architecture, (*common, f"output.dir={folder / name}"), folder)

    with RunningLaunch(launch("straight")) as running:
        running.wait_for_step(1)
        start = time.monotonic()
        running.wait_for_step(NUM_STEPS)
        training_s = time.monotonic() - start
        assert running.wait() == 0, running.output()[-3000:]
    kills: list[str] = []
    while len(kills) < num_kills:
        with RunningLaunch(launch("killed"), "--resume", "auto") as running:
            running.wait_for_step(1)
            time.sleep(draw.uniform(0, training_s * LONGEST_SHARE))
            assert running.process.poll() is None, f"ended by itself: {running.output()[-3000:]}"
            kills.append(where_it_is(folder / "killed"))
        check_run_folder(folder / "killed")
    with RunningLaunch(launch("killed"), "--resume", "auto") as running:
        assert running.wait() == 0, running.output()[-3000:]
    check_equal(folder / "straight", folder / "killed")
    return f"equal after {num_kills} kills, newest checkpoint then: {', '.join(kills)}"


def where_it_is(run_dir: Path) -> str:
    """The newest checkpoint's step; `+` where the next one is being written."""
    steps = [path.name.removeprefix("checkpoint-") for path in complete_checkpoints(run_dir)]
    return (steps[-1] if steps else "none") + ("+" if (run_dir / "checkpoint.partial").exists() else "")


def check_run_folder(run_dir: Path) -> None:
    """What a killed training leaves: whole checkpoints only, and the best one among them."""
    for checkpoint in run_dir.glob("checkpoint-*"):
        assert not missing_parts(checkpoint), f"{checkpoint.name} lacks {missing_parts(checkpoint)}"
    for checkpoint in complete_checkpoints(run_dir)[-1:]:
        best_step = read_state(checkpoint)["best_global_step"]
        best = run_dir / f"checkpoint-{best_step}"
        assert best_step is None or best.is_dir(), f"{checkpoint.name} knows {best.name} as best; it is gone"


def check_equal(straight: Path, resumed: Path) -> None:
    """Losses, rates, scores and weights of two finished trainings."""
    for key in ("loss", "learning_rate", "grad_norm", "eval_loss", "eval_wer"):
        assert history(resumed, key) == history(straight, key), f"{key} differs"
    weights = [(run_dir / "model.safetensors").read_bytes() for run_dir in (straight, resumed)]
    assert weights[0] == weights[1], "the final weights differ"
    names = [sorted(path.name for path in run_dir.glob("checkpoint*")) for run_dir in (straight, resumed)]
    assert names[0] == names[1], f"other checkpoints are kept: {names}"


if __name__ == "__main__":
    main()
