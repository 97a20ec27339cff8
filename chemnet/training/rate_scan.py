"""Scan of learning rates: the same short training at each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from chemnet.runtime.config import parse
from chemnet.runtime.errors import NumericalError, UsageError
from chemnet.runtime.files import read_json
from chemnet.runtime.tables import Table
from chemnet.training.config import TrainConfig
from chemnet.training.loop import CHECKPOINT
from chemnet.training.options import FitOptions
from chemnet.training.run import train
from chemnet.validation import IgnitionCases

_SCAN = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the config's learning rate


def scan_rates(
    config: TrainConfig,
    rates: Sequence[float] = (),
    *,
    data: Path | Sequence[Path] | None = None,
    out: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    max_minutes: float | None = None,
    cases: IgnitionCases | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
) -> Table:
    """Table of short trainings (default: of a minute) at several learning rates.

    The default rates are a quarter to four times the config's. Each training is left in `rate-<rate>` below the run
    folder, and judged by `cases`, as by `train`; one that is there is replaced with `overwrite` only. Raises what
    `train` raises; a training that diverges has a row without figures.
    """
    start = config.fit.learning_rate
    out = out or Path("runs") / config.name
    rates = rates or [factor * start for factor in _SCAN]
    for rate in rates:
        if (out / f"rate-{rate:g}" / CHECKPOINT).is_file() and not overwrite:
            raise UsageError(
                f"{out / f'rate-{rate:g}'} holds a training\n"
                "Name another folder with --out, or replace what the scan left with --overwrite."
            )
    rows = []
    for rate in rates:
        changed = config.fit.model_dump() | {"learning_rate": rate, "rollouts": 1}
        at_rate = config.model_copy(update={"fit": parse(FitOptions, changed, "--scan-rates")})
        try:
            run = train(
                at_rate,
                data=data,
                out=out / f"rate-{rate:g}",
                seed=seed,
                device=device,
                max_minutes=1.0 if max_minutes is None else max_minutes,
                cases=cases,
                overwrite=True,
                report=report,
            )
        except NumericalError:
            rows.append((rate, None, None, None))
            continue
        facts = read_json(run / "manifest.json")
        error = facts["quick_delay_error"]
        rows.append((rate, facts["steps"], facts["validation_loss"], None if error is None else 100.0 * error))
    columns = ("learning rate", "steps", "validation loss", "delay error [%]")
    return Table(f"learning rates of {config.name}; a rate without figures diverged", columns, rows)
