"""The step of a network of chemnet: transform, network, closure, and which cells it is for. The formulas are chemnet's.

Needs numpy; torch, where it is installed, computes the network. Python 3.8 or later.
"""

from __future__ import annotations

import math
import os
from typing import Any, Callable, Mapping

import numpy as np

Array = np.ndarray
Network = Callable[[Array], Array]

# How a cell is answered: by the network, by the network though its gas is calm, or not by it.
KINDS = ("network", "calm", "cold", "frozen", "outside", "failed", "invalid")
NETWORK, CALM, COLD, FROZEN, OUTSIDE, FAILED, INVALID = range(len(KINDS))

# Bounds of valid states and of the closure, as in chemnet's gas/state.py and gas/closure.py
T_MIN, SUM_TOLERANCE, NEGATIVE_TOLERANCE = 200.0, 1e-3, 1e-6
CLOSED, MAX_RESIDUAL = 2e-16, 1e-13  # [kg/kg] of an element: round-off, and what may be missing after the closure
MAX_NEWTON, MAX_GAP = 50, 1e-3  # iterations for T, and [K] between the last ones where polynomials do not meet

SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_NTASKS")  # processes of a parallel run


class Step:
    """The step of the network over dt, for the arrays and facts of `model.npz`.

    `frozen` [K]: colder gas does not react; `calm_too`: whether the network answers for calm gas, too; `gpu`: whether
    torch may use one. `engine` says what computes the network.
    """

    def __init__(
        self,
        arrays: Mapping[str, Array],
        facts: Mapping[str, Any],
        frozen: float = 0.0,
        calm_too: bool = False,
        gpu: bool = False,
    ) -> None:
        self._arrays, self._facts, self._frozen, self._calm_too = arrays, facts, frozen, calm_too
        self._network, self.engine = network_of(arrays, facts["activation"], gpu)
        self._changing = np.flatnonzero(arrays["output_scale"][2:])

    def changes(self, states: Array) -> tuple[Array, Array]:
        """Changes of the mass fractions (n, K) over dt, zero where the network has no answer, and kinds (n,).

        States (n, 2 + K) are rows of T [K], p [Pa] and mass fractions, finite.
        """
        kinds, h = self._judge(states)
        change, asked = np.zeros((len(states), states.shape[1] - 2)), np.flatnonzero(kinds == NETWORK)
        if not asked.size:
            return change, kinds
        states, h = states[asked], h[asked]
        outputs = self._network(self._inputs(states)).astype(np.float64)
        largest = np.abs(outputs[:, 2:][:, self._changing]).max(axis=1, initial=0.0)
        calm = largest < self._facts["calm_limit"] ** (1.0 / self._facts["power"])
        answer, ok = self._close(states, self._raw(states, outputs), h)
        answer[~ok if self._calm_too else ~ok | calm] = 0.0
        change[asked], kinds[asked] = answer, np.where(ok, np.where(calm, CALM, NETWORK), FAILED)
        return change, kinds

    def _judge(self, states: Array) -> tuple[Array, Array]:
        """Kinds (n,) of the states, NETWORK where it is to be asked, and their enthalpy (n,) [J/kg]."""
        given, P, Y, a = states[:, 0], states[:, 1], states[:, 2:], self._arrays
        valid = (given >= T_MIN) & (given <= self._facts["T_max"]) & (P > 0.0)
        valid &= (Y.min(axis=1) >= -NEGATIVE_TOLERANCE) & (np.abs(Y.sum(axis=1) - 1.0) <= SUM_TOLERANCE)
        h = enthalpy_and_cp(np.where(valid, given, 1000.0), Y, a["breaks"], a["coefficients"])[0]
        sums = np.column_stack([h, Y]).dot(a["directions"].T)
        inside = ((states >= a["low"]) & (states <= a["high"])).all(axis=1)
        inside &= ((sums >= a["bounds"][:, 0]) & (sums <= a["bounds"][:, 1])).all(axis=1)
        kinds = np.where(inside, NETWORK, OUTSIDE).astype(np.int8)
        kinds[given < self._facts["cold_limit"]] = COLD
        kinds[given < self._frozen] = FROZEN
        kinds[~valid] = INVALID
        return kinds, h

    def _inputs(self, states: Array) -> Array:
        values = states.copy()
        values[:, 2:] = (eighth_root(states[:, 2:]) - 1.0) * 8.0
        return ((values - self._arrays["input_mean"]) * self._arrays["input_gain"]).astype(np.float32)

    def _raw(self, states: Array, outputs: Array) -> Array:
        """Mass fractions (n, K) after dt as the network has them, whose elements are not restored yet."""
        scaled = (outputs * self._arrays["output_scale"])[:, 2:]
        change = scaled * np.abs(scaled) ** (self._facts["power"] - 1)
        return np.maximum(eighth_root(states[:, 2:]) + change / 8.0, 0.0) ** 8

    def _close(self, states: Array, raw: Array, h: Array) -> tuple[Array, Array]:
        """Changes (n, K) that keep elements and enthalpy, and True (n,) where they were found."""
        a = self._arrays
        reactive, old = a["reactive"], states[:, 2:][:, a["reactive"]]
        with np.errstate(all="ignore"):  # rows that cannot be closed are found below
            new = close(old, raw[:, reactive], a["elements"])
            Y = states[:, 2:].copy()
            Y[:, reactive] = new
            T = temperature(h, Y, states[:, 0], a["breaks"], a["coefficients"])
            ok = (np.abs((old - new).dot(a["elements"].T)) <= MAX_RESIDUAL).all(axis=1) & (T > 0.0)
            return Y - states[:, 2:], ok


def eighth_root(Y: Array) -> Array:
    """Y^(1/8); negative mass fractions count as zero."""
    return np.sqrt(np.sqrt(np.sqrt(np.maximum(Y, 0.0))))


def enthalpy_and_cp(T: Array, Y: Array, breaks: Array, coefficients: Array) -> tuple[Array, Array]:
    """Enthalpy (n,) [J/kg] and heat capacity (n,) [J/kg/K]; breaks (R - 1, K) [K], coefficients (R, K, 8)."""
    ranges = (T[:, None, None] > breaks).sum(axis=1)  # (n, K)
    a = sum((Y * (ranges == r)).dot(coefficients[r]) for r in range(len(coefficients)))
    h = a[:, 5] + T * (a[:, 0] + T * (a[:, 1] / 2 + T * (a[:, 2] / 3 + T * (a[:, 3] / 4 + T * a[:, 4] / 5))))
    cp = a[:, 0] + T * (a[:, 1] + T * (a[:, 2] + T * (a[:, 3] + T * a[:, 4])))
    return h + a[:, 7] * np.log(T) - a[:, 6] / T, cp + (a[:, 6] / T + a[:, 7]) / T


def temperature(h: Array, Y: Array, T: Array, breaks: Array, coefficients: Array) -> Array:
    """Temperature (n,) [K] of enthalpy h (n,) [J/kg] by Newton's method from T (n,); nan where there is none."""
    change = np.full(len(T), np.inf)
    for _ in range(MAX_NEWTON):
        value, cp = enthalpy_and_cp(T, Y, breaks, coefficients)
        change = (h - value) / cp
        T = T + change
        if not (np.abs(change) > 1e-8 * T).any():
            break
    return np.where(np.abs(change) < MAX_GAP, T, np.nan)


def close(old: Array, raw: Array, elements: Array) -> Array:
    """Mass fractions (n, m) near `raw` with the elements (E, m) of `old`, none below zero, by the least change."""
    floor = np.minimum(old, 0.0)
    new = _project(old, np.maximum(raw, floor), elements)
    again = (new < floor).any(axis=1)
    if again.any():
        old, floor = old[again], floor[again]
        part = _project(old, np.maximum(new[again], floor), elements)
        back = np.where(part < floor, (old - floor) / np.where(part < floor, old - part, 1.0), 1.0).min(axis=1)
        shorter = np.maximum(old + back[:, None] * (part - old), floor)
        new[again] = np.where(back[:, None] < 1.0, shorter, part)
    return new


def _project(old: Array, new: Array, elements: Array) -> Array:
    """Add W E^T (E W E^T)^-1 E (old - new), W = Y^1.75, refined once where more than round-off is missing."""
    root = np.sqrt(np.maximum(new, 0.0))
    weights = new * root * np.sqrt(root)
    for _ in range(2):
        missing = (old - new).dot(elements.T)
        open_rows = (np.abs(missing) > CLOSED).any(axis=1)
        rows, missing = _combined(elements, weights, missing)
        change = weights * np.einsum("nem,ne->nm", rows, _solve(rows, weights, missing))
        new = new + np.where(open_rows[:, None], change, 0.0)
    return new


def _combined(elements: Array, weights: Array, missing: Array) -> tuple[Array, Array]:
    """Element rows (n, E, m), each without the heaviest species of those before it, and what they miss (n, E).

    Where nearly all carbon and hydrogen is in the fuel, E W E^T of both is singular but for traces, which combinations
    such as H - 4 C keep. A row without species is zero.
    """
    n, E = len(weights), len(elements)
    rows, missing, every = np.repeat(elements[None], n, axis=0), missing.copy(), np.arange(n)
    for p in range(E):
        size = (rows[:, p:] ** 2 * weights[:, None]).reshape(n, -1)
        place = size.argmax(axis=1)
        row, column = p + place // elements.shape[1], place % elements.shape[1]
        there = size[every, place] > 0.0
        for values in (rows, missing):
            values[every, row], values[:, p] = values[:, p].copy(), values[every, row].copy()
        pivot = np.where(there, rows[every, p, column], 1.0)
        for e in range(p + 1, E):
            factor = np.where(there, rows[every, e, column] / pivot, 0.0)
            rows[:, e] -= factor[:, None] * rows[:, p]
            missing[:, e] -= factor * missing[:, p]
            rows[every, e, column] = np.where(there, 0.0, rows[every, e, column])
        rows[~there, p] = 0.0
        missing[~there, p] = 0.0
    return rows, missing


def _solve(rows: Array, weights: Array, right: Array) -> Array:
    """Solution (n, E) of (rows W rows^T) x = right by Cholesky's L L^T; 0 for rows without species."""
    n, E = right.shape
    matrix, inverse, x = np.einsum("nem,nm,nfm->nef", rows, weights, rows), np.zeros((n, E)), right.copy()
    L = np.zeros((n, E, E))
    for e in range(E):
        for f in range(e):
            L[:, e, f] = (matrix[:, e, f] - (L[:, e, :f] * L[:, f, :f]).sum(axis=1)) * inverse[:, f]
        square = matrix[:, e, e] - (L[:, e, :e] ** 2).sum(axis=1)
        inverse[:, e] = np.where(matrix[:, e, e] > 0.0, 1.0 / np.sqrt(square), 0.0)
        x[:, e] = (x[:, e] - (L[:, e, :e] * x[:, :e]).sum(axis=1)) * inverse[:, e]
    for e in range(E - 1, -1, -1):
        x[:, e] = (x[:, e] - (L[:, e + 1 :, e] * x[:, e + 1 :]).sum(axis=1)) * inverse[:, e]
    return x


def network_of(arrays: Mapping[str, Array], activation: str, gpu: bool) -> tuple[Network, str]:
    """Function from inputs (n, m) to outputs (n, m_out), float32, and what computes it: torch where there is one."""
    count = sum(name.startswith("weight_") for name in arrays)
    layers = [(arrays[f"weight_{i}"], arrays[f"bias_{i}"]) for i in range(count)]
    try:
        import torch
    except (ImportError, OSError):
        return _numpy_network(layers, ACTIVATIONS[activation]), "numpy"
    if int(variable(SIZES, "1")) > 1:
        torch.set_num_threads(1)  # there are as many processes as cores
    device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
    return _torch_network(torch, layers, activation, device), f"torch, {device}"


def _torch_network(torch: Any, layers: list[tuple[Array, Array]], activation: str, device: str) -> Network:
    F = torch.nn.functional
    act = {"gelu": F.gelu, "silu": F.silu, "relu": torch.relu, "tanh": torch.tanh}[activation]
    tensors = [[torch.from_numpy(array).to(device) for array in layer] for layer in layers]

    def run(inputs: Array) -> Array:
        with torch.no_grad():
            values = torch.from_numpy(inputs).to(device)
            for i, (weight, bias) in enumerate(tensors):
                values = F.linear(act(values) if i else values, weight, bias)
            return values.cpu().numpy()

    return run


def _numpy_network(layers: list[tuple[Array, Array]], act: Network) -> Network:
    def run(inputs: Array) -> Array:
        values = inputs
        for i, (weight, bias) in enumerate(layers):
            values = (act(values) if i else values).dot(weight.T) + bias
        return values

    return run


class _Gelu:
    """x Phi(x), Phi the normal distribution: its Taylor polynomial of degree 3 about the nearest of many nodes."""

    STEP, LAST = 1.0 / 32.0, 6.0  # beyond LAST, Phi is 0 or 1 to float32

    def __init__(self) -> None:
        x = np.arange(-self.LAST, self.LAST + self.STEP, self.STEP)
        value = np.array([0.5 * math.erfc(-node / math.sqrt(2.0)) for node in x])
        slope = np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi)
        terms = [value, slope, -x * slope / 2.0, (x**2 - 1.0) * slope / 6.0]
        self._nodes, self._terms = x.astype(np.float32), [term.astype(np.float32) for term in terms]

    def __call__(self, values: Array) -> Array:
        near = np.clip(values, np.float32(-self.LAST), np.float32(self.LAST))
        node = np.rint((near + np.float32(self.LAST)) * np.float32(1.0 / self.STEP)).astype(np.intp)
        d, (a, b, c, e) = near - self._nodes[node], self._terms
        return values * (a[node] + d * (b[node] + d * (c[node] + d * e[node])))


def _silu(values: Array) -> Array:
    decay = np.exp(-np.abs(values))  # no overflow on either side
    result: Array = values * np.where(values < 0.0, decay, np.float32(1.0)) / (np.float32(1.0) + decay)
    return result


ACTIVATIONS: Mapping[str, Network] = {
    "gelu": _Gelu(),
    "silu": _silu,
    "relu": lambda x: np.maximum(x, np.float32(0.0)),
    "tanh": np.tanh,
}


def variable(names: tuple[str, ...], default: str) -> str:
    """The first of these environment variables that is set."""
    return next((os.environ[name] for name in names if name in os.environ), default)
