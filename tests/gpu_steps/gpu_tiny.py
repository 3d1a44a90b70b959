"""Rows and names that the tests of the GPU steps share."""

import json
from pathlib import Path
from typing import Any

END = "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEXTS = ["where is my parcel", "the card was charged twice", "it does not start", "sync fails"]
LABELS = ["order_status", "double_charge", "device_setup", "app_sync"]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def row(number: int) -> dict[str, str]:
    """Row `number`: one of four tickets, of varying length, with its category."""
    text = f"{TEXTS[number % 4]} {'please ' * (number % 5)}{number}"
    prompt = f"<|im_start|>user\n{text}{END}\n<|im_start|>assistant\n"
    return {"record_id": f"r{number}", "prompt": prompt, "completion": LABELS[number % 4] + END}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def train_config(model: Path, rows: Path, output: Path) -> dict[str, Any]:
    """Return the JSON content of a train step over a tiny model, its work beside the output."""
    return {
        "base_model": str(model),
        "base_name": "example/tiny",
        "base_digest": "0" * 64,
        "train_file": str(rows),
        "output": str(output),
        "work": str(output.parent / "work"),
        "seed": 7,
        "method": "lora",
        "lora": {"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": TARGETS},
        "epochs": 3,
        "learning_rate": 0.01,
        "batch_size": 4,
        "max_length": 128,
        "warmup_ratio": 0.1,
        "scheduler": "cosine",
        "dtype": "bfloat16",
        "checkpoint_every": 5,
        "threads": 1,
    }
