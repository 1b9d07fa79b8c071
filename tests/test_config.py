"""Loading a run configuration: where values come from, and how every mistake is named."""

import ast
import re
import subprocess
import sys
import types
import typing
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from vietst import config_schema
from vietst.config import LoadedConfig, accumulation_steps, load_config, shipped_config_names
from vietst.config_schema import RunConfig, TrainingSection
from vietst.errors import ConfigError

SHIPPED = ("base", "dev_e2e", "dev_whisper", "nano_e2e", "nano_whisper", "prod_e2e", "prod_whisper")

# What the guide's YAML files name for the data side and for Whisper (§5), each with a value of its type.
GUIDE_KEYS = {
    "paths": {"data_root": ".", "manifest_path": "m.tsv", "splits_dir": "s", "output_dir": "o"},
    "audio": {"sample_rate": 16000, "max_length_seconds": 30},
    "model": {"name": "openai/whisper-tiny", "type": "whisper", "language": "vi", "task": "both"},
    "training": {
        "seed": 42,
        "eval_strategy": "steps",
        "logging_steps": 50,
        "save_total_limit": 3,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "report_to": "tensorboard",
        "batch_size": 1,
        "gradient_accumulation_steps": 4,
        "learning_rate": 1.0e-4,
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.1,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "num_train_epochs": 2,
        "max_steps": 100,
        "fp16": True,
        "gradient_checkpointing": False,
        "eval_steps": 25,
        "save_steps": 50,
        "freeze_encoder": True,
    },
    "dataloader": {"num_workers": 4, "pin_memory": True, "prefetch_factor": 2},
    "output": {"dir": "o/dev_whisper", "experiment_name": "whisper_tiny_dev"},
}


def write(folder: Path, text: str, name: str = "mine.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def problems(excinfo: pytest.ExceptionInfo[ConfigError]) -> list[str]:
    """The lines of an error that name one problem each."""
    return [line.strip() for line in excinfo.value.found.splitlines() if line.startswith("    ")] or [
        excinfo.value.found
    ]


# --- shipped files ---------------------------------------------------------------------------------------


def test_these_configs_are_shipped() -> None:
    assert tuple(shipped_config_names()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_loads(name: str) -> None:
    loaded = load_config(name)
    assert loaded.name == name
    assert loaded.config.output.dir == Path("outputs") / name


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "base"])
def test_a_shipped_config_says_what_it_is_for_and_repeats_nothing_of_base(name: str, repo_root: Path) -> None:
    folder = repo_root / "vietst" / "configs"
    text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
    header = text.partition("_base_")[0]
    for word in ("Purpose:", "Hardware:", "Launch:", "accelerate launch", f"--config {name}"):
        assert word in header
    own, base = yaml.safe_load(text), yaml.safe_load((folder / "base.yaml").read_text(encoding="utf-8"))
    repeated = [
        f"{section}.{key}"
        for section, values in own.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if base.get(section, {}).get(key) == value
    ]
    assert not repeated


def test_base_says_the_defaults_of_the_schema(repo_root: Path) -> None:
    base = yaml.safe_load((repo_root / "vietst/configs/base.yaml").read_text(encoding="utf-8"))
    defaults = RunConfig.model_validate({"output": {"dir": "x", "experiment_name": "x"}}).model_dump(
        mode="json"
    )
    for section, values in base.items():
        for key, value in values.items():
            assert defaults[section][key] == value, f"{section}.{key}"


def test_a_file_without_a_base_has_the_same_defaults_as_one_that_inherits_from_base(tmp_path: Path) -> None:
    alone = load_config(write(tmp_path, "model: {language: vi}"))
    inheriting = load_config(write(tmp_path, "_base_: base.yaml"))
    assert alone.config == inheriting.config


def test_the_guides_keys_are_all_accepted(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, yaml.safe_dump(GUIDE_KEYS))).config
    assert config.model.freeze_encoder is True
    assert config.training.gradient_accumulation_steps == 4
    assert config.output.dir == Path("o/dev_whisper")


def test_every_key_is_documented_or_shares_its_neighbours_text() -> None:
    tree = ast.parse(Path(config_schema.__file__).read_text(encoding="utf-8"))
    undocumented = set()
    for section in (
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name != "RunConfig"
    ):
        assert ast.get_docstring(section), section.name
        for node, following in zip(section.body, [*section.body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign) and not isinstance(following, ast.Expr):
                undocumented.add(ast.unparse(node.target))
    assert undocumented <= {"encoder_layers", "decoder_layers", "adam_beta1", "adam_beta2", "adam_epsilon"}


def test_prod_learns_the_same_on_one_two_four_and_eight_devices() -> None:
    training = load_config("prod_whisper").config.training
    steps = {n: accumulation_steps(training, n) for n in (1, 2, 4, 8)}
    assert {n * training.batch_size * count for n, count in steps.items()} == {256}


# --- files, bases, overrides -----------------------------------------------------------------------------


def test_a_base_is_found_beside_the_file_then_among_the_shipped(tmp_path: Path) -> None:
    write(tmp_path, "_base_: dev_whisper\ntraining: {seed: 7}", "parent.yaml")
    loaded = load_config(write(tmp_path, "_base_: parent.yaml\nmodel: {task: transcribe}"))
    assert loaded.config.training.seed == 7
    assert loaded.config.model.name == "openai/whisper-tiny"
    assert loaded.config.model.task == "transcribe"


def test_a_path_to_a_shipped_file_is_the_shipped_config(repo_root: Path) -> None:
    assert load_config(repo_root / "vietst/configs/dev_whisper.yaml") == load_config("dev_whisper")


def test_origins_name_the_file_the_command_line_or_the_default(tmp_path: Path) -> None:
    path = write(tmp_path, "_base_: dev_whisper.yaml\ntraining: {seed: 7}")
    origins = load_config(path, ["training.learning_rate=1e-5"]).origins
    assert origins["training.seed"] == path
    assert origins["model.name"] == "dev_whisper.yaml"
    assert origins["audio.sample_rate"] == "base.yaml"
    assert origins["training.learning_rate"] == "command line"
    assert origins["training.adam_beta1"] == "default"


def test_every_value_has_an_origin() -> None:
    loaded = load_config("nano_whisper")
    for section, values in loaded.config.model_dump().items():
        for key in values or ():  # a section that is left out has none
            assert f"{section}.{key}" in loaded.origins


def test_a_config_that_inherits_gets_a_run_folder_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path, "_base_: nano_whisper.yaml\npaths: {output_dir: elsewhere}", "second try.yaml")
    output = load_config(path).config.output
    assert output.dir == Path("elsewhere/second try")
    assert output.experiment_name == "second try"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.learning_rate=1e-4", 1e-4),
        ("training.learning_rate=2", 2.0),
        ("training.eval_strategy=no", "no"),
        ("training.bf16=auto", "auto"),
        ("training.bf16=false", False),
        ("training.effective_batch=null", None),
        ("model.name=a=b", "a=b"),
        ("data.split_ratios=[0.7,0.2,0.1]", [0.7, 0.2, 0.1]),
        (r"paths.data_root=C:\Users\An Nguyễn\speech", r"C:\Users\An Nguyễn\speech"),
    ],
)
def test_an_override_is_read_as_yaml_reads_it(override: str, expected: object) -> None:
    loaded = load_config("dev_whisper", ["training.load_best_model_at_end=false", override])
    assert loaded.value(override.partition("=")[0]) == expected


def test_the_last_of_two_overrides_wins() -> None:
    assert load_config("base", ["training.seed=1", "training.seed=2"]).config.training.seed == 2


def test_a_small_number_without_a_point_is_a_number(tmp_path: Path) -> None:
    """YAML 1.1 reads 1e-4 as text."""
    assert (
        load_config(write(tmp_path, "training: {learning_rate: 1e-4}")).config.training.learning_rate == 1e-4
    )


def test_a_byte_order_mark_and_windows_line_ends_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes("\ufefftraining:\r\n  seed: 3\r\n".encode())
    assert load_config(path).config.training.seed == 3


def test_a_heading_with_all_its_keys_commented_out_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "_base_: dev_whisper.yaml\ntraining:\n  # seed: 1\n")
    assert load_config(path).config.training == load_config("dev_whisper").config.training


def test_null_takes_the_nano_section_away(tmp_path: Path) -> None:
    loaded = load_config(write(tmp_path, "_base_: nano_whisper.yaml\nnano: null\nmodel: {name: x/y}"))
    assert loaded.config.nano is None
    assert loaded.origins["nano"].endswith("mine.yaml")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_description_loads_to_the_same_config(name: str, tmp_path: Path) -> None:
    loaded = load_config(name, ["training.adam_epsilon=1e-9", "model.language=vi"])
    assert load_config(write(tmp_path, loaded.describe())).config == loaded.config
    assert yaml.safe_load(loaded.describe()) == loaded.config.model_dump(mode="json")


def test_the_description_shows_origins_without_folders(tmp_path: Path) -> None:
    described = load_config(write(tmp_path, "training: {seed: 7}")).describe()
    assert re.search(r"^  seed: 7 +# mine\.yaml$", described, re.MULTILINE)
    assert str(tmp_path) not in described


# --- freeze_encoder, in both of the guide's places -------------------------------------------------------


@pytest.mark.parametrize("section", ["model", "training"])
def test_freeze_encoder_is_taken_in_both_places(section: str, tmp_path: Path) -> None:
    loaded = load_config(write(tmp_path, f"{section}: {{freeze_encoder: true}}"))
    assert loaded.config.model.freeze_encoder is True
    assert loaded.origins["model.freeze_encoder"].endswith("mine.yaml")
    assert load_config("base", [f"{section}.freeze_encoder=true"]).config.model.freeze_encoder is True


def test_freeze_encoder_given_twice_must_agree(tmp_path: Path) -> None:
    both = "model: {freeze_encoder: true}\ntraining: {freeze_encoder: %s}"
    assert load_config(write(tmp_path, both % "true")).config.model.freeze_encoder is True
    with pytest.raises(ConfigError, match=r"training\.freeze_encoder"):
        load_config(write(tmp_path, both % "false"))


def test_freeze_encoder_of_a_later_source_wins_under_either_name(tmp_path: Path) -> None:
    path = write(tmp_path, "model: {freeze_encoder: true}")
    assert load_config(path, ["training.freeze_encoder=false"]).config.model.freeze_encoder is False


# --- hub ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_config_pushes_only_where_a_repository_is_stated(name: str) -> None:
    assert not load_config(name).config.hub.pushes
    with_repository = load_config(name, ["hub.repo_id=me/model"]).config.hub
    assert with_repository.pushes
    assert with_repository.private
    assert not load_config(name, ["hub.repo_id=me/model", "hub.push=false"]).config.hub.pushes


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["hub.push=true"], "hub.push"),
        (["hub.repo_id=me/my/model"], "hub.repo_id"),
        (["hub.repo_id=mô-hình"], "hub.repo_id"),
        (["hub.datasets=[speech]"], "hub.datasets"),
        (
            ["hub.repo_id=me/model", "hub.push_when=best", "training.eval_strategy=no",
             "training.load_best_model_at_end=false"],
            "hub.push_when",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_pushed_is_refused(overrides: list[str], key: str) -> None:
    with pytest.raises(ConfigError) as excinfo:
        load_config("base", overrides)
    (problem,) = problems(excinfo)
    assert problem.startswith(f"command line: {key}: ")


# --- mistakes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("training: {batch_sise: 4}", "training.batch_sise", "training.batch_size"),
        ("training: {num_workers: 4}", "training.num_workers", "dataloader.num_workers"),
        ("model: {lanugage: vi}", "model.lanugage", "model.language"),
        ("trainig: {seed: 4}", "trainig", "training"),
        ("batch_size: 4", "batch_size", "training.batch_size"),
        ("training: {no: 4}", "training.False", "did you mean"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    text: str, key: str, nearest: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as excinfo:
        load_config(write(tmp_path, text))
    (problem,) = problems(excinfo)
    assert f"mine.yaml: {key}: " in problem
    assert nearest in problem


def test_a_wrong_value_inside_a_key_is_named(tmp_path: Path) -> None:
    sources = 'data.sources={"own": {"manifest": "a.tsv"}, "other": {"manifest": "b.tsv", "weight": -1}}'
    with pytest.raises(ConfigError, match=r"data\.sources: other\.weight: -1"):
        load_config("base", [sources])


def test_all_errors_of_all_sources_are_reported_at_once(tmp_path: Path) -> None:
    write(tmp_path, "training: {learning_rate: fast}", "parent.yaml")
    text = """
_base_: parent.yaml
training: {batch_size: 0, warmup_ratio: 0.1, warmup_steps: 10, batch_sise: 2}
augmentation: {mask_time_prob: 1.5}
"""
    with pytest.raises(ConfigError) as excinfo:
        load_config(write(tmp_path, text), ["model.task=sing", "model.typ=whisper", "seed=1"])
    found = problems(excinfo)
    expected = [
        ("mine.yaml", "training.batch_sise"),
        ("command line", "model.typ"),
        ("command line", "seed=1"),
        ("command line", "model.task"),
        ("mine.yaml", "training.batch_size"),
        ("parent.yaml", "training.learning_rate"),
        ("mine.yaml", "augmentation.mask_time_prob"),
        ("mine.yaml", "training.warmup_steps"),
    ]
    assert len(found) == len(expected)
    for origin, key in expected:
        assert any(re.search(rf"(^|/|\\){origin}: {re.escape(key)}: ", line) for line in found), (origin, key)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.batch_size=8.5", "integer"),
        ("training.batch_size=true", "integer"),
        ("training.learning_rate='1e-4'", "number"),
        ("training.learning_rate=.inf", "finite"),
        ("training.warmup_ratio=1", "less than 1"),
        ("training.seed=4294967296", "less than 4294967296"),  # NumPy takes no larger one
        ("training.fp16=yess", "auto"),
        ("audio.sample_rate=8000", "16000"),
        ("audio.max_length_seconds=31", "less than or equal to 30"),
        ("data.split_ratios=[0.5,0.5]", "required"),
        ("model.type=hubert", "whisper"),
        ("output.experiment_name=a/b", "pattern"),
    ],
)
def test_a_value_that_does_not_fit_its_key_is_refused(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as excinfo:
        load_config("base", [override])
    assert "command line: " + override.partition("=")[0] in problems(excinfo)[0]


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["data.split_ratios=[0.8,0.1,0.2]"], "data.split_ratios"),
        (["data.split_ratios=[0.9,0.1,0.0]"], "data.split_ratios"),
        (["data.video_id_pattern='(unclosed'"], "data.video_id_pattern"),
        (["data.min_duration_s=30"], "data.min_duration_s"),
        (["training.warmup_steps=5", "training.warmup_ratio=0.1"], "training.warmup_steps"),
        (["training.bf16=true", "training.fp16=true"], "training.fp16"),
        (["training.max_steps=0"], "training.max_steps"),
        (["training.eval_strategy=no"], "training.load_best_model_at_end"),
        (["training.eval_steps=30", "training.save_steps=50"], "training.save_steps"),
        (["training.greater_is_better=true"], "training.greater_is_better"),
        (
            ["model.task=translate", "training.metric_for_best_model=eval_wer"],
            "training.metric_for_best_model",
        ),
        (
            ["model.task=transcribe", "training.metric_for_best_model=eval_chrf"],
            "training.metric_for_best_model",
        ),
        (
            ["training.load_best_model_at_end=false", "training.early_stopping_patience=2"],
            "training.early_stopping_patience",
        ),
        (["model.task=transcribe", "loss.transcribe_weight=0"], "loss.transcribe_weight"),
        (["model.trim_vocabulary=true"], "model.type"),
        (["model.type=e2e", "model.trim_vocabulary=true"], "model.trim_vocabulary"),
        (["model.add_adapter=true"], "model.type"),
        (["model.length_adaptor=true"], "model.type"),
        (["model.type=e2e", "model.encoder=a"], "model.encoder"),
        (["audio.context=bucketed", "model.type=e2e"], "audio.context"),
        (["audio.context=bucketed", "model.cache_encoder_states=true"], "audio.context"),
        (["audio.context_windows_s=[4,3]"], "audio.context_windows_s"),
        (["evaluation.context=bucketed"], "evaluation.context"),
    ],
)
def test_values_that_contradict_each_other_are_refused(overrides: list[str], key: str) -> None:
    with pytest.raises(ConfigError) as excinfo:
        load_config("base", overrides)
    (problem,) = problems(excinfo)
    assert problem.startswith(f"command line: {key}: ")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("nano.attention_heads=3", "nano.attention_heads"),
        ("nano.hop_length_samples=333", "nano.hop_length_samples"),
        ("nano.window_s=31", "nano.window_s"),
    ],
)
def test_a_nano_model_that_cannot_be_built_is_refused(override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(key)):
        load_config("nano_whisper", [override])


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        ("facebook/wav2vec2-base", "facebook/mbart-large-50"),
        ("a/encoder", "b/decoder"),
        ("null", "null"),
    ],
)
def test_nano_parts_are_made_beside_each_other_and_never_at_the_name_of_something_else(
    encoder: str, decoder: str
) -> None:
    with pytest.raises(ConfigError, match="encoder and decoder in one folder"):
        load_config("nano_e2e", [f"model.encoder={encoder}", f"model.decoder={decoder}"])


@pytest.mark.parametrize("metric", ["eval_loss", "eval_wer", "eval_cer", "eval_bleu", "eval_chrf"])
def test_the_direction_of_best_follows_from_the_metric(metric: str) -> None:
    training = load_config("base", [f"training.metric_for_best_model={metric}"]).config.training
    assert training.greater_is_better is (metric in ("eval_bleu", "eval_chrf"))


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "${training.seed}", "x${y}"])
def test_interpolation_is_refused_and_not_resolved(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not supported"):
        load_config(write(tmp_path, f"model: {{name: '{value}'}}"))
    with pytest.raises(ConfigError, match="not supported"):
        load_config("base", [f"model.name={value}"])


@pytest.mark.parametrize(
    "text",
    [
        "model: !!python/object/apply:os.system [exit 1]",
        "model: {name: x",
        "training: {seed: 1}\ntraining: {seed: 2}",
        "- a\n- b",
        "just words",
        "model: whisper",
        "_base_: [a, b]",
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_name(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        load_config(write(tmp_path, text))


def test_a_file_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("model: {name: \xe9}".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml"):
        load_config(path)


@pytest.mark.parametrize("bases", [("a", "a"), ("b", "a")])
def test_files_that_inherit_from_each_other_are_refused(bases: tuple[str, str], tmp_path: Path) -> None:
    for name, base in zip("ab", bases, strict=True):
        write(tmp_path, f"_base_: {base}.yaml", f"{name}.yaml")
    with pytest.raises(ConfigError, match=r"a\.yaml → .*a\.yaml"):
        load_config(tmp_path / "a.yaml")


def test_an_unknown_name_lists_the_shipped_ones_and_the_nearest() -> None:
    with pytest.raises(ConfigError) as excinfo:
        load_config("dev_wisper")
    assert all(name in excinfo.value.do for name in SHIPPED)
    assert "did you mean dev_whisper?" in excinfo.value.do


def test_a_missing_base_names_the_file_that_asks_for_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.yaml: _base_: nowhere\.yaml"):
        load_config(write(tmp_path, "_base_: nowhere.yaml"))


@pytest.mark.parametrize("override", ["training.seed", "seed=1", "training.seed.x=1", "=1", "training.=1"])
def test_an_override_of_another_form_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_config("base", [override])


def test_a_loaded_config_does_not_change() -> None:
    config = load_config("base").config
    with pytest.raises(ValueError, match="frozen"):
        config.training.seed = 1  # type: ignore[misc]


def test_validation_needs_no_torch() -> None:
    load = "from vietst.config import load_config; load_config('prod_whisper')"
    program = f"{load}; import sys; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"


# --- the effective batch ---------------------------------------------------------------------------------


@given(batch_size=st.integers(1, 64), num_processes=st.integers(1, 16), effective_batch=st.integers(1, 2048))
def test_batch_size_times_accumulation_times_processes_is_the_effective_batch(
    batch_size: int, num_processes: int, effective_batch: int
) -> None:
    training = TrainingSection(batch_size=batch_size, effective_batch=effective_batch)
    per_forward = batch_size * num_processes
    if effective_batch % per_forward == 0:
        assert batch_size * accumulation_steps(training, num_processes) * num_processes == effective_batch
        return
    with pytest.raises(ConfigError) as excinfo:
        accumulation_steps(training, num_processes)
    named = [int(number) for number in re.findall(r"\d+", excinfo.value.do)]
    effective_batches, batch_sizes = re.split(
        r", or training\.batch_size", excinfo.value.do + ", or training.batch_size"
    )[:2]
    for batch in map(int, re.findall(r"\d+", effective_batches)):
        assert accumulation_steps(training.model_copy(update={"effective_batch": batch}), num_processes)
    for size in map(int, re.findall(r"\d+", batch_sizes)):
        assert accumulation_steps(training.model_copy(update={"batch_size": size}), num_processes)
    assert named


@given(steps=st.integers(1, 16), num_processes=st.integers(1, 16))
def test_without_an_effective_batch_the_stated_accumulation_holds(steps: int, num_processes: int) -> None:
    assert accumulation_steps(TrainingSection(gradient_accumulation_steps=steps), num_processes) == steps
    assert accumulation_steps(TrainingSection(), num_processes) == 1


def test_both_accumulation_and_effective_batch_must_agree() -> None:
    training = TrainingSection(batch_size=4, gradient_accumulation_steps=2, effective_batch=16)
    assert accumulation_steps(training, 2) == 2
    with pytest.raises(ConfigError, match=r"gradient_accumulation_steps"):
        accumulation_steps(training, 1)


def test_sections_of_the_run_config_are_models() -> None:
    """What `--dry_run` prints and the key checks rely on."""
    for name, info in RunConfig.model_fields.items():
        annotation = info.annotation
        options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
        assert issubclass(options[0], BaseModel), name
    assert isinstance(load_config("base"), LoadedConfig)
