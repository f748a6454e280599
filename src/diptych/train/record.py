"""What a run writes down of itself: its first event, what led to a loss that is not finite, and its card."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from diptych import __version__
from diptych.checkpoint.card import write_card
from diptych.checkpoint.files import write_whole
from diptych.data.table import Table
from diptych.train.device import Precision, describe_machine
from diptych.train.learner import Update
from diptych.train.plan import Plan
from diptych.train.run import plain_run
from diptych.train.state import TrainState

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "pyarrow", "tokenizers")


def first_event(plan: Plan, precision: Precision, product_rate: float | None) -> dict[str, Any]:
    """The event "start": where and on what, and the loss of a model that knows nothing."""
    job, order = plan.job, plan.order
    return {
        "machine": describe_machine(plan.device),
        "versions": {
            "diptych": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "precision": precision.name,
        "precision_reason": precision.reason,
        "product_rate": product_rate,
        "parameters": sum(parameter.numel() for parameter in job.model.parameters()),
        "origin": job.origin,
        "table": str(plan.table.path),
        **({} if len(plan.table.parts) == 1 else {"mixed": _mixed(plan)}),
        **({"partners": plan.partners} if plan.partners else {}),
        "split": job.run.inputs.split,
        "rows": order.num_rows,
        "batch": order.batch_rows,
        "ranks": plan.ranks.size,
        "steps": plan.steps,
        "chance_loss": job.objective.chance_loss(order.batch_rows),
    }


def _mixed(plan: Plan) -> list[dict[str, Any]]:
    """The tables, their rows, and their steps in proportion."""
    return [
        {"table": str(rows.path), "fingerprint": rows.fingerprint, "rows": len(rows), "share": share}
        for rows, share in zip(plan.rows.parts, plan.order.shares, strict=True)
    ]


def write_nan_record(
    out: Path,
    step: int,
    keys: Sequence[str],
    update: Update,
    losses: Sequence[float],
    broken: Sequence[str],
    temperature: float | None,
) -> Path:
    """Writes nan.json: the step, the keys of its batch, and the losses that came before it."""
    record = {
        "step": step,
        "loss": str(update.loss),
        "terms": {name: str(value) for name, value in update.parts.means().items()},
        "grad_norm": str(update.grad_norm),
        "lr": update.rate,
        "temperature": str(temperature),
        "parameters_without_finite_gradient": list(broken),
        "last_losses": list(losses),
        "keys": list(keys),
    }
    write_whole(out / "nan.json", json.dumps(record, indent=2) + "\n")
    return out / "nan.json"


def write_run_card(plan: Plan, state: TrainState) -> None:
    """Writes card.md of where the run stands."""
    job, table = plan.job, plan.table
    machine = describe_machine(plan.device)
    write_card(
        plan.out,
        run=plain_run(job.run),
        data={
            **(_of_one(table, job.run.inputs.split) if len(table.parts) == 1 else _of_several(plan)),
            "rows left out as bad": len(state.bad_rows),
        },
        metrics=state.best_metrics or state.last_metrics,
        facts={
            "weights before": state.origin,
            "steps": f"{state.step} of {plan.steps}",
            "checkpoint of these figures": state.step if state.best_step is None else state.best_step,
            "time_s": round(state.time_s, 1),
            "precision": state.precision,
            "parameters": sum(parameter.numel() for parameter in job.model.parameters()),
            "machine": ", ".join(f"{name} {value}" for name, value in machine.items()),
            "diptych": __version__,
            "torch": torch.__version__,
        },
    )


def _of_one(table: Table, split: str) -> dict[str, Any]:
    return {
        "table": table.path.name,
        "kind": table.kind,
        "split": f"{split}, {table.splits[split]} rows",
        "fingerprint": table.fingerprint,
    }


def _of_several(plan: Plan) -> dict[str, Any]:
    """A line a table, with its share of the steps."""
    steps = sum(plan.order.shares)
    return {
        f"table {number}": f"{rows.path.name}, {rows.name}, {len(rows)} rows, {share} of {steps} steps, fingerprint "
        f"{rows.fingerprint}"
        for number, (rows, share) in enumerate(zip(plan.rows.parts, plan.order.shares, strict=True), start=1)
    }
