"""Which unknowns are eliminated in which order, and where the entries of the matrix and of its factors are stored.

Unknowns are the amounts of the species that react, and T. Each species meets few others: the entries that are not zero,
and those that elimination adds, are listed once per mechanism. The order is Markowitz's: next comes the species with
the fewest products of its row and its column (H. M. Markowitz, Management Science 3 (1957) 255; I. S. Duff,
A. M. Erisman, J. K. Reid, Direct Methods for Sparse Matrices, 2017). The last ones are nearly full and form a dense
block; how many they are is what costs least. Where the block is all there is, species keep their order.

Density depends on every amount alike, which adds u_k to every entry of row k. Where the matrix is sparse, the total
amount N = sum n is an unknown of its own, the last: its column holds u, its row says sum n - N = 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Cost of a product, of an entry below the diagonal and of an entry in eight solutions, beside a product in the dense
# block: the block that they choose is within 4 % of the cheapest of 8 to 11 blocks from none to all species, by the
# time of one factorisation and eight solutions with AVX-512, in 12 mechanisms of 9 to 100 species.
_SPARSE_PRODUCT, _SPARSE_ENTRY, _SOLVED_ENTRY, _SOLVED_IN_BLOCK = 2.0, 4.0, 12.0, 8.0


class Layout(NamedTuple):
    """Places of the entries in an array: below the diagonal, above it, the diagonal, the dense block row by row.

    Row i has entries lower[i]..lower[i + 1] left of the diagonal and of the block, and upper[i]..upper[i + 1] right of
    the diagonal, which end with those of T and of N.
    """

    size: int  # m + 1: amounts of m species, T
    total: int  # 1 if N is an unknown, too, else 0
    sparse: int  # rows above the block
    block: int  # place of the block
    order: int  # rows of the block; even, so that the last may be one of the unit matrix
    lower: NDArray[np.uint64]  # (size + total + 1,)
    upper: NDArray[np.uint64]  # (sparse + 1,)
    column: NDArray[np.int32]  # of the entries below and above the diagonal
    diagonal: NDArray[np.int32]  # (size + total,) places
    of_T: NDArray[np.int32]  # (size,) places of the column of T
    of_total: NDArray[np.int32]  # (size,) places of the column of N; empty if there is none
    targets: NDArray[np.int32]  # places that products are taken off, in the order of the elimination


def places(layout: Layout) -> int:
    """Length of the array that holds a matrix."""
    return layout.block + layout.order**2


class Places:
    """Place of the entry (i, j) of a layout."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._of: dict[tuple[int, int], int] = {}
        for start in (layout.lower, layout.upper):
            for i in range(len(start) - 1):
                for place in range(int(start[i]), int(start[i + 1])):
                    self._of[i, int(layout.column[place])] = place
        self._of.update(((i, i), int(layout.diagonal[i])) for i in range(layout.sparse))

    def __call__(self, i: int, j: int) -> int:
        """Raises KeyError where the matrix has none."""
        layout = self._layout
        if min(i, j) >= layout.sparse:
            return layout.block + (i - layout.sparse) * layout.order + j - layout.sparse
        return self._of[i, j]


def eliminate(coupled: NDArray[np.bool_], block: int | None = None) -> tuple[NDArray[np.intp], Layout]:
    """Order of the species (m,) and layout of the matrix; `coupled` (m, m): whether a row's rate depends on an amount.

    The dense block has `block` species, or one more to make that even, or as many as cost least.
    """
    m = len(coupled)
    order, rows, columns = _markowitz(coupled)
    sparse = _cheapest(rows, columns, m) if block is None else m - block - block % 2
    if sparse <= 0:
        return np.arange(m), _layout(m, [], [])
    place = np.empty(m + 2, np.intp)
    place[[*order, m, m + 1]] = np.arange(m + 2)
    right = [sorted(int(place[j]) for j in row) for row in rows[:sparse]]
    below = [sorted(int(place[i]) for i in column) for column in columns[:sparse]]
    return np.array(order), _layout(m, right, below)


# ---- order


def _markowitz(coupled: NDArray[np.bool_]) -> tuple[list[int], list[list[int]], list[list[int]]]:
    """Order of the species and, per pivot, the columns right of it and the rows below it. T is m, N is m + 1.

    Sets of unknowns are the bits of a whole number.
    """
    m = len(coupled)
    border, one = 3 << m, np.eye(m, dtype=bool)
    rows = [_bits(row) | border for row in coupled | one] + [0, 0]
    columns = [_bits(column) | border for column in coupled.T | one] + [0, 0]
    left, order = set(range(m)), list[int]()
    right, below = list[list[int]](), list[list[int]]()
    while left:
        pivot = min(left, key=lambda k: ((rows[k].bit_count() - 1) * (columns[k].bit_count() - 1), k))
        left.remove(pivot)
        order.append(pivot)
        others = ~(1 << pivot)
        row, column = rows[pivot] & others, columns[pivot] & others
        right.append(list(_members(row)))
        below.append(list(_members(column)))
        for i in below[-1]:
            rows[i] = (rows[i] | row) & others
        for j in right[-1]:
            columns[j] = (columns[j] | column) & others
    return order, right, below


def _bits(flags: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")


def _members(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _cheapest(rows: list[list[int]], columns: list[list[int]], m: int) -> int:
    """How many species to eliminate before the block, whose order is to be even."""
    sizes = [(len(row), len(column)) for row, column in zip(rows, columns, strict=True)]
    each = [_SPARSE_PRODUCT * r * c + _SPARSE_ENTRY * c + _SOLVED_ENTRY * (r + c) for r, c in sizes]
    before = list(accumulate(each, initial=0.0))

    def cost(sparse: int) -> float:
        order = m + 2 - sparse if sparse else m + 1 + (m + 1) % 2
        return before[sparse] + order**3 / 3 + _SOLVED_IN_BLOCK * order**2

    return min((k for k in range(m + 1) if k == 0 or (m - k) % 2 == 0), key=lambda k: (cost(k), k))


# ---- places


def _layout(m: int, right: list[list[int]], below: list[list[int]]) -> Layout:
    """Layout for pivots with these columns right of them and these rows below, in the order of the elimination."""
    sparse, total = len(right), int(len(right) > 0)
    n = m + 1 + total
    left: list[list[int]] = [[] for _ in range(n)]
    for k, rows in enumerate(below):
        for i in rows:
            left[i].append(k)
    lower = np.cumsum([0, *map(len, left)])
    upper = lower[-1] + np.cumsum([0, *map(len, right)])
    first = int(upper[-1])
    layout = Layout(
        size=m + 1,
        total=total,
        sparse=sparse,
        block=first + sparse,
        order=(n - sparse) + (n - sparse) % 2,
        lower=lower.astype(np.uint64),
        upper=upper.astype(np.uint64),
        column=_indices([j for row in left + right for j in row]),
        diagonal=_indices(range(first, first + n)),
        of_T=_indices([]),
        of_total=_indices([]),
        targets=_indices([]),
    )
    place = Places(layout)
    return layout._replace(
        diagonal=_indices([place(i, i) for i in range(n)]),
        of_T=_indices([place(i, m) for i in range(m + 1)]),
        of_total=_indices([place(i, m + 1) for i in range(m + 1)] if total else []),
        targets=_indices([place(i, j) for i, row in enumerate(left) for k in row for j in right[k]]),
    )


def _indices(numbers: list[int] | range) -> NDArray[np.int32]:
    return np.array(numbers, np.int32)
