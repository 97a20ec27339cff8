"""Plots of results that are thin: where nothing is known there is still a picture."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from chemnet.runtime import plots


@pytest.mark.parametrize("found", [np.nan, 100.0])
def test_delays_are_drawn_where_a_model_or_nothing_ignites(tmp_path, found):
    cases = {
        "T0": np.array([1400.0, 1600.0]),
        "phi": np.ones(2),
        "P": np.ones(2),
        "reference": np.full(2, found),
        "model": np.full(2, np.nan),
        "error": np.full(2, np.nan),
    }
    plots.ignition_delays(tmp_path / "delays.png", {"model": cases})
    assert (tmp_path / "delays.png").read_bytes().startswith(b"\x89PNG")
