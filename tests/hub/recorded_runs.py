"""Run folders as training and evaluation leave them, without either: real configurations and results."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vietst.config import load_config
from vietst.evaluation.metrics import Prediction
from vietst.evaluation.report import Timing, write_results
from vietst.models.model_record import record_of

SPLIT_HASH = "sha256:" + "6e75d7e3" * 8
COMMIT = "0123456789abcdef" * 2 + "01234567"

PAIRS = (
    ("mình sẽ fix cái bug này", "mình sẽ sửa cái lỗi này"),
    ("cuộc meeting dời sang thứ hai", "cuộc họp dời sang thứ hai"),
    ("team chưa xong deadline hôm nay", "nhóm chưa xong hạn chót hôm nay"),
)


def write_run(root: Path, config: str, overrides: Sequence[str] = (), **facts: Any) -> Path:
    """`root/run`, a finished run whose best step was 200 of 300."""
    run = root / "run"
    run.mkdir(parents=True)
    loaded = load_config(config, [*overrides, f"output.dir={run.as_posix()}"]).config
    is_whisper = loaded.model.type == "whisper"
    tasks = list(record_of(loaded).tasks)
    _write_yaml(run / "resolved_config.yaml", loaded.model_dump(mode="json"))
    write_json(
        run / "run_facts.json",
        {
            "vietst_version": "0.1.0",
            "base_model": loaded.model.name,
            "base_origin": "hub",
            "base_hub_ids": ["openai/whisper-medium"]
            if is_whisper
            else ["facebook/wav2vec2-large-xlsr-53", "facebook/mbart-large-50"],
            "architecture": loaded.model.type,
            "tasks": tasks,
            "language": "vi",
            "input_kind": "log_mel-80" if is_whisper else "waveform-16k",
            "split_hash": SPLIT_HASH,
            "num_train_utterances": 31_800,
            "num_dev_utterances": 200,
            "train_hours": 23.17,
            "num_parameters": 763_857_920,
            "num_trained_parameters": 762_321_920,
            **facts,
        },
    )
    packages = {"vietst": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"}
    write_json(
        run / "environment.json",
        {"python": "3.11.7", "packages": packages, "cpu": "AMD EPYC", "world_size": 8}
        | {"gpus": [{"name": "NVIDIA H100 80GB HBM3", "memory_bytes": 85 * 10**9}] * 8, "git_commit": COMMIT},
    )
    write_json(run / "train_results.json", {"train_runtime": 7200.0, "peak_memory_gb": 61.2})
    write_state(run, 300)
    model_type = "whisper" if is_whisper else "speech-encoder-decoder"
    write_json(
        run / "config.json",
        {"model_type": model_type, "vietst": record_of(loaded).model_dump(mode="json")},
    )
    write_json(
        run / "generation_config.json",
        {"num_beams": 5, "lang_to_id": {"vi_VN": 250_024}, "decoder_start_token_id": 250_024},
    )
    extractor = {"chunk_length": 30} if is_whisper else {"feature_size": 1}
    write_json(run / "processor_config.json", {"feature_extractor": extractor})
    (run / "model.safetensors").write_bytes(b"")
    return run


def write_state(folder: Path, step: int) -> None:
    """The trainer's state after so many steps, with dev scores at every hundred."""
    log = [{"step": at, "loss": 3.0 - at / 200, "epoch": at / 100} for at in range(50, step + 1, 50)]
    log += [
        {"step": at, "eval_loss": 1.0, "eval_wer": 60.0 - at / 10, "eval_bleu": at / 10, "epoch": at / 100}
        for at in range(100, step + 1, 100)
    ]
    best = {"best_global_step": 200 if step >= 200 else 100}
    write_json(
        folder / "trainer_state.json",
        {"global_step": step, "max_steps": 300, "epoch": step / 100, "log_history": log, **best},
    )


def evaluate(run: Path, num_videos: int = 12, windows: dict[str, Any] | None = None) -> Path:
    """`results/run_metrics.json` beside the run, from predictions with some errors; `windows`: short ones."""
    run_facts = json.loads((run / "run_facts.json").read_text(encoding="utf-8"))
    predictions = [
        Prediction(
            id=f"video_{video}/{number}",
            video_id=f"video_{video}",
            duration_s=3.0 + number,
            transcript=transcript,
            translation=translation,
            transcript_hypothesis=transcript if video % 3 else transcript.replace("cái", "con"),
            translation_hypothesis=translation if video % 2 else f"{translation} nhé",
            speaker_id=f"nguyen_van_{video}",
            audio_path=f"audio/video_{video}/{number}.wav",
        )
        for video in range(num_videos)
        for number, (transcript, translation) in enumerate(PAIRS)
    ]
    facts = {
        "model": str(run),
        "device": "cuda:0",
        "dtype": "bfloat16",
        "model_type": run_facts["architecture"],
        "decoding": {"tasks": ["transcribe", "translate"], "batch_size": 16, "num_beams": 5}
        | {"context": windows},
        "test_csv": "data/splits/test.csv",
        "test_csv_digest": SPLIT_HASH,
        "run": run_facts,
    }
    timing = Timing(latencies_s=[0.5] * len(predictions), compute_s=9.0)
    baselines = {"copy": {"bleu": 40.0, "chrf": 50.0}, "random_training_sentence": {"wer": 101.0}}
    return write_results(run.parent / "results", run.name, predictions, timing, facts, baselines)[0]


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_yaml(path: Path, content: Any) -> None:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
