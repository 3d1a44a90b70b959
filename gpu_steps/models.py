"""Loads and saves causal language models as safetensors folders.

Invariants: nothing but local folders and safetensors is loaded, no code that comes with a model is
run, and the padding token is never the end-of-turn token (else the end of turn is masked out of
the loss as padding and the model never learns to stop).
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

from gpu_steps.config import ConfigError
from gpu_steps.output import write_json
from gpu_steps.rows import special_tokens

_SHORT_ROWS = 512
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float16": torch.float16}


def quiet_libraries() -> None:
    """Turn off progress bars and chatter: a step reports in its own words."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # Announcements between these libraries; nothing that a step's user could act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def device() -> torch.device:
    """The accelerator of this machine, else its CPU."""
    return torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")


def require_dtype(dtype: str) -> None:
    """Raise ConfigError for a precision that is unknown."""
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}.")


def load_model(folder: Path, dtype: str, quantization_config: Any = None) -> Any:
    """Load the model of a local folder, quantised if a configuration for that is given.

    Raises:
        ConfigError: the folder has no model, or `dtype` is unknown.
    """
    require_dtype(dtype)
    _require_model(folder)
    # A quantised model is made on its device and cannot be moved.
    placed = {} if quantization_config is None else {"device_map": {"": device()}}
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=DTYPES[dtype],
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        quantization_config=quantization_config,
        **placed,
    )
    return model.to(device()) if quantization_config is None else model


def prefer_fast_attention(model: Any, longest: int) -> None:
    """Choose the attention that trains fastest on short rows of a CPU; measured, not obvious.

    The backward pass of the fused kernel takes 1.4 times as long there. Its use of memory does not
    grow with the square of the length, so long rows keep it.
    """
    if model.device.type == "cpu" and longest <= _SHORT_ROWS:
        model.set_attn_implementation("eager")


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a local folder."""
    _require_model(folder)
    return transformers.AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False, local_files_only=True
    )


def _require_model(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        msg = f"{folder}: is no model (it has no config.json); name one that prepare_base made."
        raise ConfigError(msg)


def choose_pad_token(tokenizer: Any, end_of_turn: str) -> str:
    """Name a special token to pad with that is not the end of turn.

    Raises:
        ConfigError: the tokenizer has no other special token.
    """
    preferred = [tokenizer.pad_token, tokenizer.unk_token]
    added = sorted(special_tokens(tokenizer))
    # A padding or reserved token first: a token with a meaning of its own is the last resort.
    reserved = [token for token in added if "pad" in token or "reserved" in token]
    for token in [*preferred[:1], *reserved, *preferred[1:], *added]:
        if token and token not in (end_of_turn, tokenizer.eos_token, tokenizer.bos_token):
            return str(token)
    msg = "the tokenizer has no special token besides the end of turn to pad with; add one to it."
    raise ConfigError(msg)


def save_model(model: Any, folder: Path) -> None:
    """Write the weights and a config.json that names no path of this machine."""
    model.save_pretrained(folder)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    config.pop("_model_name_or_path", None)
    write_json(folder / "config.json", config)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer; its configuration holds no trace of where it was loaded from."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in ("is_local", "local_files_only", "name_or_path"):
        config.pop(key, None)
    write_json(path, config)
