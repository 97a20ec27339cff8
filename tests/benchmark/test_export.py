"""The benchmark of an exported model: it builds with what is there, and tells costs and answers of each build."""

import numpy as np
import pytest

from chemnet.benchmark import export
from chemnet.benchmark.export import Answers, CompiledStep, ExportTask, built, found_compilers, judge, measure
from chemnet.kinetics import StepResult
from chemnet.runtime.errors import ChemnetError, UsageError
from chemnet.surrogate import export as exporting
from chemnet.surrogate.model import Surrogate

COMPILERS = found_compilers()


class Off:
    """A step whose answers are off by a little in T and in one species, and has one status of its own."""

    def __init__(self, model):
        self.model, self.mechanism = model, model.mechanism

    def advance(self, states, dt=None):
        found, status = self.model.advance(states)
        found[:, 0] += 1e-3 * np.abs(found - states)[:, 0].max()
        found[:, 2 + self.mechanism.index("OH")] += (
            1e-2 * np.abs(found - states)[:, 2 + self.mechanism.index("OH")].max()
        )
        status[0] = 4
        return StepResult(found, status)


def test_differences_are_told_in_shares_of_the_largest_change_and_what_is_not_conserved_is_seen():
    model = Surrogate.load("h2", engine="fp32")
    states = model.domain.draw(12, model.mechanism, np.random.default_rng(0), 1000.0)
    same = judge(model, model, states)
    assert (same.statuses, same.T, same.Y) == (0, 0.0, 0.0) and same.in_double < 1e-4
    assert max(same.elements, same.enthalpy) < 1e-14
    found = judge(Off(model), model, states)
    assert isinstance(found, Answers) and found.statuses == 1 and found.species == "OH"
    np.testing.assert_allclose([found.T, found.Y], [1e-3, 1e-2], rtol=0.5, atol=0)
    assert min(found.elements, found.enthalpy) > 1e-9


@pytest.mark.skipif(not COMPILERS, reason="needs make, and gcc or clang")
def test_every_compiler_there_is_takes_its_turns(monkeypatch):
    monkeypatch.setattr(export, "cells_of", lambda model, flame, n: {"drawn": draw(model, n)})
    ((timing, judged),) = measure(ExportTask("h2", cells=20, turns=1)).values()
    assert list(judged) == ["Python", *(f"C by {name}" for name in COMPILERS)] == list(timing.seconds)
    assert all(one.statuses == 0 and one.elements < 1e-12 for one in judged.values())


def draw(model, n):
    return model.domain.draw(n, model.mechanism, np.random.default_rng(0), 1000.0)


@pytest.mark.skipif(not COMPILERS, reason="needs make, and gcc or clang")
def test_a_build_that_fails_and_another_time_step_are_named(tmp_path):
    model = Surrogate.load("h2")
    exporting.export(model, "c", tmp_path / "h2")
    step = CompiledStep(model.mechanism, built(tmp_path / "h2", COMPILERS[0]), tmp_path / "h2" / "model.bin")
    with pytest.raises(UsageError, match="advances by dt = 1e-06 s, not by 2e-06 s"):
        step.advance(draw(model, 1), 2e-6)
    (tmp_path / "h2" / "chemnet_step.c").write_text("no C\n")
    with pytest.raises(ChemnetError, match="failed:\n"):
        built(tmp_path / "h2", COMPILERS[0])
    with pytest.raises(ChemnetError, match="needs make and nocc: install them"):
        built(tmp_path / "h2", "nocc")
