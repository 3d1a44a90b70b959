"""Whether a golden set is large enough for its gates: each gate's need, computed exactly.

A gate is worth its name when it refuses a model that is truly worse by ``detect_points`` often
enough (``power``); a gate with a margin also lets pass, as often, a model that is truly as good.
`golden.power` documents the sums.
"""

from ftdm_assets.graph.plan import CheckPlan, Outcome, Reading
from ftdm_assets.model_folder import ModelFolder
from golden.gates import needs_told
from golden.power import (
    PowerSettings,
    lost_class_size,
    margin_size,
    paired_size,
    share_size,
)


def power_settings(model: ModelFolder) -> PowerSettings:
    """Return what "detect" means."""
    gates = model.settings.gates
    return PowerSettings(gates.alpha, gates.power.power, gates.power.changed)


def needs(model: ModelFolder) -> dict[str, int | None]:
    """Return the golden examples that each gate needs; None where no number is enough."""
    gates, settings = model.settings.gates, power_settings(model)
    detect = gates.power.detect_points / 100
    kind = model.settings.task.kind
    gate, level = {
        "classification": ("target_reached", gates.target_accuracy),
        "extraction": ("exact_match", gates.target_exact_match),
        "generation": ("answers_pass", gates.target_accuracy),
    }[kind]
    found: dict[str, int | None] = {gate: share_size(level, detect, settings.power)}
    margin = gates.worse_than_production_points / 100
    found["not_worse_than_production"] = (
        margin_size(detect, margin, settings) if 0 < margin < detect else None
    )
    if gates.better_than_production:
        found["better_than_production"] = paired_size(detect, settings)
    floor = gates.class_floor_correction != "none" and gates.class_floor_recall
    if kind == "classification" and floor:
        # Holm's first step, and all of Bonferroni's, is at alpha over the number of classes.
        classes = len(model.labels())
        each = lost_class_size(gates.class_floor_recall, gates.alpha / classes)
        found["class_floor"] = each * classes
    return found


def check(model: ModelFolder) -> CheckPlan:
    """Return the check that warns of a golden set too small for its gates."""
    gates = model.settings.gates
    needed = needs(model)
    return CheckPlan(
        "golden_set",
        "power",
        "As many examples as the gates need to tell a worse model from one that is as good.",
        _enough,
        {"needed": needed, "alpha": gates.alpha, **gates.power.model_dump()},
        severity="warn",
    )


def _enough(reading: Reading) -> Outcome:
    model = reading.model
    rows = int(reading.manifest("golden_set").facts["rows"])
    known = [(name, size) for name, size in needs(model).items() if size is not None]
    impossible = [name for name, size in needs(model).items() if size is None]
    judged = needs_told(known, rows, _hint(model))
    if impossible:
        detect = model.settings.gates.power.detect_points
        text = (
            f"no number of examples is enough for {', '.join(impossible)}: its margin has to lie "
            f"between 0 and the {detect} points to be detected; {judged.reason}"
        )
        return Outcome(False, text, judged.measured)
    return Outcome(judged.passed, judged.reason, judged.measured)


def _hint(model: ModelFolder) -> str:
    gates = model.settings.gates
    return (
        "verify more examples, or ask for less: attributes.gates.power.detect_points is "
        f"{gates.power.detect_points}, the margin {gates.worse_than_production_points} points"
    )
