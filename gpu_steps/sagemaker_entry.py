"""The container's command in a SageMaker training job: ``python -m gpu_steps.sagemaker_entry``.

Invariants: SageMaker brings inputs and checkpoints and takes model and checkpoints away; the
hyperparameter ``step`` names the digest of step.json; an error ends in one sentence in
output/failure, which SageMaker hands on as the failure's reason.
"""

import json
import sys
from pathlib import Path

from gpu_steps import container

_STOP_SECONDS = 100.0  # SageMaker kills 120 s after SIGTERM.


def main() -> int:
    """Run the step of this job; return the exit code."""
    root = container.root()
    failure = container.attempted(
        "sagemaker_entry", lambda: container.perform(root, named_step(root), _STOP_SECONDS)
    )
    if failure is None:
        return 0
    container.write_sentence(root / "output" / "failure", failure)
    return 1


def named_step(root: Path) -> str:
    """Return the digest of step.json that the hyperparameters name."""
    parameters = json.loads((root / "input/config/hyperparameters.json").read_text("utf-8"))
    return str(parameters.get(container.STEP))


if __name__ == "__main__":
    sys.exit(main())
