"""Load balance: rows of unequal work shared out between the ranks, and their results brought back to their owners.

    rows of a rank --hand_out--> rows to do --(any work, row by row)--> results --hand_back--> results of its rows

Only the surplus of a rank travels. Nothing but the place of the work changes, so a result that depends on its row alone
is bitwise the same with and without.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from cfd_coupling.parallel import Communicator

_TOLERANCE = 0.005  # share of the mean work that is not worth a message

Floats = NDArray[np.float64]


class LoadBalance:
    """Balance of one kind of work over the ranks of `comm`; every rank calls `hand_out`, then `hand_back`.

    moved: rows that this rank handed to others the last time. waiting [s]: how long it then waited for them.
    """

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm
        self.moved, self.waiting = 0, 0.0
        self._counts = np.zeros((1, 1), dtype=np.int64)

    def hand_out(self, rows: Floats, work: Floats) -> Floats:
        """Rows (n_to_do, m) for this rank: the first of its own `rows` (n, m), then what others hand to it.

        work: expected cost of each row (n,), in any unit; it decides how many rows travel.
        """
        start = time.perf_counter()
        totals = self.comm.each(np.array([work.sum()]))[:, 0]
        self.waiting = time.perf_counter() - start
        cuts = _cuts(work, plan(totals)[self.comm.rank])
        kept, *given = np.split(rows, cuts)
        self._counts = self.comm.each(np.array([len(block) for block in given]))
        self.moved = len(rows) - len(kept)
        if not self._counts.any():
            return rows
        taken = self._counts[:, self.comm.rank]
        return np.concatenate([kept, *self.comm.exchange(given, [(int(n), rows.shape[1]) for n in taken])])

    def hand_back(self, results: Floats) -> Floats:
        """Results (n, k) of this rank's own rows, from the `results` (n_to_do, k) of the rows to do."""
        if not self._counts.any():
            return results
        start = time.perf_counter()
        given, taken = self._counts[self.comm.rank], self._counts[:, self.comm.rank]
        own, *others = np.split(results, len(results) - taken.sum() + np.cumsum([0, *taken[:-1]]))
        returned = self.comm.exchange(others, [(int(n), results.shape[1]) for n in given])
        self.waiting += time.perf_counter() - start
        return np.concatenate([own, *returned])


def plan(totals: Floats) -> Floats:
    """Work (n, n) that rank r hands to rank s, moves[r, s], for the work (n,) that each rank has.

    Surplus and lack are laid on one line, each in the order of the ranks; what overlaps is handed over:

        surplus  |---- rank 1 ----|------ rank 2 ------|
        lack     |-- rank 0 --|------- rank 3 ---------|
    """
    surplus = totals - totals.mean()
    surplus[np.abs(surplus) <= _TOLERANCE * totals.mean()] = 0.0
    given, taken = (np.append(0.0, np.cumsum(np.maximum(part, 0.0))) for part in (surplus, -surplus))
    overlap = np.minimum(given[1:, None], taken[1:]) - np.maximum(given[:-1, None], taken[:-1])
    return np.maximum(overlap, 0.0)


def _cuts(work: Floats, moves: Floats) -> NDArray[np.int64]:
    """Where to split rows of `work` (n,) into those that stay and, from the end of the list, `moves` for each rank."""
    middles = np.cumsum(work) - 0.5 * work
    stay = work.sum() - moves.sum()
    return np.searchsorted(middles, stay + np.append(0.0, np.cumsum(moves[:-1]))).astype(np.int64)
