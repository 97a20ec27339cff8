"""Audit of labels: their difference from CVODES at tight tolerances, in a random share of the rows."""

from __future__ import annotations

import functools

import numpy as np

from chemnet.data.dataset import Audit, Pairs
from chemnet.gas.mechanism import Mechanism
from chemnet.gas.status import Status
from chemnet.kinetics.cvodes import CvodesReactor

RTOL, ATOL = 1e-10, 1e-16


def audit(pairs: Pairs, dt: float, share: float, mechanism: Mechanism, rng: np.random.Generator) -> Audit:
    """Audit of a random `share` of the rows (rounded up); rows where CVODES fails are left out."""
    row = np.sort(rng.choice(len(pairs), int(np.ceil(share * len(pairs))), replace=False))
    exact, status = _oracle(mechanism).advance(pairs.states[row], dt)
    taken = status <= Status.RETRIED
    return Audit(row[taken], pairs.next_states[row[taken]] - exact[taken])


@functools.lru_cache(maxsize=1)
def _oracle(mechanism: Mechanism) -> CvodesReactor:
    """Making one takes as long as twenty of its labels, and there are fifty in a shard."""
    return CvodesReactor(mechanism, RTOL, ATOL)


def figures(audit: Audit) -> dict[str, float]:
    """Figures of an audit: median, 99th percentile and largest of |dT| [K] and of the largest |dY| of each row."""
    found: dict[str, float] = {"audit_rows": len(audit.row)}
    if len(audit.row) == 0:
        return found
    error = np.abs(audit.difference)
    for name, values in (("T", error[:, 0]), ("Y", error[:, 2:].max(axis=1))):
        for word, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            found[f"audit_{name}_{word}"] = float(np.quantile(values, share))
    return found
