"""What a merge makes of a trained folder, and what it has to agree with.

Invariants: a merge is computed in float32 and rounded to bf16 once; a QLoRA adapter is merged into
the base as its quantiser saw it, for that is what it was trained to correct, and the alternative
(the base as it was) is measured beside it; what `full` left is served as it is, rounded. The model
to agree with is what was trained: the adapter, unmerged, on the base that it was trained on,
computed in float32, so that what differs is the merge and not the noise of bf16 sums.
"""

from pathlib import Path
from typing import Any

from gpu_steps import adapters, models
from gpu_steps.config import ConfigError
from gpu_steps.train import FULL, QLORA


def merged(base_model: Path, trained: Path, method: str) -> Any:
    """Return the model to serve, in bf16."""
    if method == FULL:
        _require_whole(trained)
        return _rounded(models.load_model(trained, "float32"))
    if method == QLORA:
        from gpu_steps.quantised import dequantised  # bitsandbytes: only where it is used

        return _merge(dequantised(base_model), trained)
    return _merge(models.load_model(base_model, "float32"), trained)


def alternative(base_model: Path, trained: Path, method: str) -> Any | None:
    """Return QLoRA's other merge, into the base that was not quantised, as it would be served."""
    if method != QLORA:
        return None
    return _merge(models.load_model(base_model, "float32"), trained).float()


def reference(base_model: Path, trained: Path, method: str) -> Any:
    """Return what was trained, unmerged, computing in float32."""
    if method == FULL:
        return models.load_model(trained, "float32")
    if method == QLORA:
        from gpu_steps.quantised import load_quantised

        return adapters.load_adapter(load_quantised(base_model, "float32"), trained)
    return adapters.load_adapter(models.load_model(base_model, "float32"), trained)


def _merge(base: Any, trained: Path) -> Any:
    return _rounded(adapters.load_adapter(base, trained).merge_and_unload(safe_merge=True))


def _rounded(model: Any) -> Any:
    return model.to(models.DTYPES["bfloat16"])


def _require_whole(trained: Path) -> None:
    if not (trained / "config.json").is_file():
        msg = f"{trained}: is no whole model (it has no config.json), as method full leaves one."
        raise ConfigError(msg)
