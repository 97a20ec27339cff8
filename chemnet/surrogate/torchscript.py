"""The whole step of a model as TorchScript, for `torch::jit::load` in C++: domain, transform, network, closure.

PyTorch has deprecated TorchScript in favour of torch.export; it is here for programs that load nothing else. Its
formulas are those of `closure.py`, `transform.py` and `model.py` for all rows at once.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import torch
from torch import nn

from chemnet.gas.state import NEGATIVE_TOLERANCE, SUM_TOLERANCE, T_MIN
from chemnet.gas.status import Status
from chemnet.gas.thermo import MAX_GAP, MAX_NEWTON
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.plain_arrays import plain_arrays

_ROUND_OFF, _MAX_RESIDUAL = 2e-16, 1e-13  # [kg/kg] of an element, as in closure.py


def content(model: Surrogate, facts: Mapping[str, str]) -> bytes:
    """Content of a file for `torch.jit.load`: `ClosedStep` of a model, with facts as its extra files."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)  # said above
        torch.jit.save(torch.jit.script(ClosedStep(model).eval()), file, _extra_files=dict(facts))
    return file.getvalue()


class ClosedStep(nn.Module):
    """States (n, 2 + K), float64, to the states after dt, and a status (n,), int8, each as `chemnet.Status`.

    Elements and enthalpy are kept. Rows with another status than OK (0) come back unchanged: FAILED (2), INVALID (3),
    OUTSIDE (4) of the domain, and SLOW (5), which are colder or calmer than the limits of the model.
    """

    def __init__(self, model: Surrogate) -> None:
        super().__init__()
        arrays = plain_arrays(model)
        self.network = model.network
        for name, array in arrays.items():
            if not name.startswith(("weight_", "bias_")):
                self.register_buffer(name, torch.tensor(array))
        self.register_buffer("changing", torch.tensor(arrays["output_scale"]) != 0.0)
        self.changing[:2] = False
        self.power: int = model.transform.power
        self.cold_limit: float = model.cold_limit
        self.least_change: float = model.calm_limit ** (1.0 / model.transform.power)
        self.T_max: float = model.mechanism.T_max
        self.ok, self.failed, self.invalid = int(Status.OK), int(Status.FAILED), int(Status.INVALID)
        self.outside, self.slow = int(Status.OUTSIDE), int(Status.SLOW)
        self.T_min, self.sum_tolerance, self.negative_tolerance = T_MIN, SUM_TOLERANCE, NEGATIVE_TOLERANCE
        self.max_newton, self.max_gap = MAX_NEWTON, MAX_GAP
        self.round_off, self.max_residual = _ROUND_OFF, _MAX_RESIDUAL

    def forward(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        T, Y = states[:, 0], states[:, 2:]
        h, _ = self.enthalpy_and_cp(T, Y)
        status = self.judge(states, h)
        root = Y.clamp(min=0.0).sqrt().sqrt().sqrt()
        values = torch.cat([states[:, :2], (root - 1.0) * 8.0], dim=1)
        outputs = self.network(((values - self.input_mean) * self.input_gain).float()).double()
        largest = (outputs.abs() * self.changing).amax(dim=1)
        scaled = (outputs * self.output_scale)[:, 2:]
        raw = (root + scaled * scaled.abs() ** (self.power - 1) / 8.0).clamp(min=0.0) ** 8
        old = Y[:, self.reactive]
        new = self.close(old, raw[:, self.reactive])
        closed = Y.clone()
        closed[:, self.reactive] = new
        T_new = self.temperature(h, closed, T)
        missing = ((old - new) @ self.elements.t()).abs().amax(dim=1)
        kept = (missing <= self.max_residual) & (T_new > 0.0)
        asked = status == self.ok
        status = torch.where(asked & (largest < self.least_change), self.slow, status)
        status = torch.where(asked & ~kept, self.failed, status)
        after = torch.cat([T_new.unsqueeze(1), states[:, 1:2], closed], dim=1)
        return torch.where((status == self.ok).unsqueeze(1), after, states), status.to(torch.int8)

    def judge(self, states: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """Status (n,) of states whose enthalpy is h: OK where the network is to be asked."""
        given, P, Y = states[:, 0], states[:, 1], states[:, 2:]
        valid = (given >= self.T_min) & (given <= self.T_max) & (P > 0.0) & P.isfinite()
        valid = valid & (Y.amin(dim=1) >= -self.negative_tolerance)
        valid = valid & ((Y.sum(dim=1) - 1.0).abs() <= self.sum_tolerance)
        sums = torch.cat([h.unsqueeze(1), Y], dim=1) @ self.directions.t()
        inside = ((states >= self.low) & (states <= self.high)).all(dim=1)
        inside = inside & ((sums >= self.bounds[:, 0]) & (sums <= self.bounds[:, 1])).all(dim=1)
        status = torch.where(inside, self.ok, self.outside)
        status = torch.where(given < self.cold_limit, self.slow, status)
        return torch.where(valid, status, self.invalid)

    def enthalpy_and_cp(self, T: torch.Tensor, Y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Enthalpy [J/kg] and heat capacity [J/kg/K] (n,)."""
        ranges = (T.unsqueeze(1).unsqueeze(2) > self.breaks).sum(dim=1)
        a = (Y * (ranges == 0)) @ self.coefficients[0]
        for r in range(1, self.coefficients.shape[0]):
            a = a + (Y * (ranges == r)) @ self.coefficients[r]
        c, d = a[:, 6], a[:, 7]
        h = a[:, 5] + T * (a[:, 0] + T * (a[:, 1] / 2 + T * (a[:, 2] / 3 + T * (a[:, 3] / 4 + T * a[:, 4] / 5))))
        cp = a[:, 0] + T * (a[:, 1] + T * (a[:, 2] + T * (a[:, 3] + T * a[:, 4])))
        return h + d * torch.log(T) - c / T, cp + (c / T + d) / T

    def temperature(self, h: torch.Tensor, Y: torch.Tensor, T: torch.Tensor) -> torch.Tensor:
        """Temperature [K] of enthalpy h, by Newton's method from T; nan where there is none."""
        change = torch.full_like(T, float("inf"))
        for _ in range(self.max_newton):
            value, cp = self.enthalpy_and_cp(T, Y)
            change = (h - value) / cp
            T = T + change
            if not bool((change.abs() > 1e-8 * T).any()):
                break
        return torch.where(change.abs() < self.max_gap, T, float("nan"))

    def close(self, old: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
        """Mass fractions (n, m) near `raw` with the elements of `old`, none below zero."""
        floor = old.clamp(max=0.0)
        new = self.project(old, torch.maximum(raw, floor))
        again = self.project(old, torch.maximum(new, floor))
        below = again < floor
        back = torch.where(below, (old - floor) / torch.where(below, old - again, 1.0), 1.0).amin(dim=1, keepdim=True)
        again = torch.where(back < 1.0, torch.maximum(old + back * (again - old), floor), again)
        return torch.where((new < floor).any(dim=1, keepdim=True), again, new)

    def project(self, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """The least change, weighted with 1/Y^1.75, that restores the elements, refined where more than round-off is
        missing."""
        root = new.clamp(min=0.0).sqrt()
        weights = new * root * root.sqrt()
        for _ in range(2):
            lost = (old - new) @ self.elements.t()
            rows, missing = self.combined(weights, lost)
            change = weights * (rows * self.solve(rows, weights, missing).unsqueeze(2)).sum(dim=1)
            new = new + torch.where((lost.abs() > self.round_off).any(dim=1, keepdim=True), change, 0.0)
        return new

    def combined(self, weights: torch.Tensor, missing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Element rows (n, E, m), each without the heaviest species of those before it, and what they miss (n, E)."""
        n, (E, m) = weights.shape[0], self.elements.shape
        rows, missing = self.elements.unsqueeze(0).repeat(n, 1, 1), missing.clone()
        every = torch.arange(n, device=weights.device)
        for p in range(E):
            size = (rows[:, p:] ** 2 * weights.unsqueeze(1)).reshape(n, (E - p) * m)
            largest, place = size.max(dim=1)
            row, column = p + torch.div(place, m, rounding_mode="floor"), place % m
            there = largest > 0.0
            chosen, missed = rows[every, row].clone(), missing[every, row].clone()
            rows[every, row], missing[every, row] = rows[:, p].clone(), missing[:, p].clone()
            rows[:, p], missing[:, p] = chosen * there.unsqueeze(1), missed * there
            pivot = torch.where(there, rows[every, torch.full_like(row, p), column], 1.0)
            for e in range(p + 1, E):
                at = torch.full_like(row, e)
                factor = torch.where(there, rows[every, at, column] / pivot, 0.0)
                rows[:, e] = rows[:, e] - factor.unsqueeze(1) * rows[:, p]
                missing[:, e] = missing[:, e] - factor * missing[:, p]
                rows[every, at, column] = torch.where(there, 0.0, rows[every, at, column])
        return rows, missing

    def solve(self, rows: torch.Tensor, weights: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Solution (n, E) of (rows W rows^T) x = right by Cholesky's L L^T; 0 for rows without species."""
        matrix = (rows * weights.unsqueeze(1)) @ rows.transpose(1, 2)
        E = right.shape[1]
        L, inverse, x = torch.zeros_like(matrix), torch.zeros_like(right), right.clone()
        for e in range(E):
            for f in range(e):
                L[:, e, f] = (matrix[:, e, f] - (L[:, e, :f] * L[:, f, :f]).sum(dim=1)) * inverse[:, f]
            square = matrix[:, e, e] - (L[:, e, :e] ** 2).sum(dim=1)
            inverse[:, e] = torch.where(matrix[:, e, e] > 0.0, 1.0 / square.sqrt(), 0.0)
            x[:, e] = (x[:, e] - (L[:, e, :e] * x[:, :e]).sum(dim=1)) * inverse[:, e]
        for i in range(E):
            e = E - 1 - i
            x[:, e] = (x[:, e] - (L[:, e + 1 :, e] * x[:, e + 1 :]).sum(dim=1)) * inverse[:, e]
        return x
