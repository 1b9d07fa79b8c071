"""Which published model can be trained in how much memory, and with which way of fine-tuning.

    python scripts/plan_memory.py [--num_utterances 1] [--duration_s 15] [--num_label_tokens 64] \\
        [--precision bf16] [--optimizer adamw_torch] [--gradient_checkpointing] [--memory_gb 4 16 80]

Prints one table for the Whispers and both E2E variants, from configurations alone: no weights, no network, no
GPU. What it forecasts is one process on one GPU, both tasks, gradients accumulated over micro batches of
--num_utterances clips. `--dry_run` of a training script prints the plan of its own configuration and data.
"""

import argparse
from collections.abc import Callable

from vietst.runtime import quiet_libraries
from vietst.script_end import run_script

OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adafactor", "adamw_bnb_8bit", "paged_adamw_8bit")


def number(kind: type, low: float, high: float = float("inf")) -> Callable[[str], float]:
    """A type for argparse: an int or float between two bounds, both of them allowed."""

    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return parse


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--num_utterances", type=number(int, 1), default=1, help="clips in a micro batch")
    parser.add_argument(
        "--duration_s", type=number(float, 0.5, 30), default=15.0, help="longest clip (Whisper: always 30)"
    )
    parser.add_argument(
        "--num_label_tokens",
        type=number(int, 8, 448),
        default=64,
        help="longest target, prompt included (Whisper's decoder has 448 positions)",
    )
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="bf16")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw_torch")
    parser.add_argument("--gradient_checkpointing", action="store_true")
    parser.add_argument(
        "--trimmed_vocabulary", type=number(int, 100), help="pieces of a trimmed mBART-50 (default 25,000)"
    )
    parser.add_argument(
        "--memory_gb", type=number(float, 0.1), nargs="+", default=[4, 16, 80], help="of the devices"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    quiet_libraries()
    from tqdm import tqdm

    from vietst.models.published_sizes import TRIMMED_VOCABULARY
    from vietst.training.memory_plan import StepSettings
    from vietst.training.memory_steps import Workload
    from vietst.training.memory_table import describe_entries, format_table, plan_entries, table_entries

    workload = Workload(arguments.num_utterances, arguments.duration_s, arguments.num_label_tokens)
    settings = StepSettings(
        optimizer=arguments.optimizer,
        precision=arguments.precision,
        device="cuda",
        gradient_checkpointing=arguments.gradient_checkpointing,
        accumulates_gradients=True,
    )
    entries = table_entries(workload, arguments.trimmed_vocabulary or TRIMMED_VOCABULARY)
    plans = list(tqdm(plan_entries(entries, settings), total=len(entries), unit="plan"))
    print(f"{describe_entries(workload, settings, arguments.memory_gb)}\n")
    print(format_table(entries, plans, arguments.memory_gb))


if __name__ == "__main__":
    run_script(main)
