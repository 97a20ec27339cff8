"""The scripts of docs/examples: each runs as it stands, and its results are right by Cantera or by another oracle.

A script is flat, so that its results are its global names.
"""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from chemnet.surrogate.model import Surrogate

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a script with arguments in an empty folder; returns its global names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        return runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return run


def is_picture(path):
    return Path(path).read_bytes().startswith(b"\x89PNG")


def test_the_page_lists_every_script():
    page = (EXAMPLES / "README.md").read_text()
    assert all(f"[{path.name}]({path.name})" in page for path in EXAMPLES.glob("*.py"))


def test_ignition_delays_of_three_integrators_are_those_of_cantera(run):
    delays = run("ignition_delay.py")["delays"]
    assert set(delays) == {"Cantera", "exact", "drm19-small"}
    np.testing.assert_allclose(delays["exact"], delays["Cantera"], rtol=0.0, atol=1.01e-6)  # one step
    np.testing.assert_allclose(delays["drm19-small"], delays["Cantera"], rtol=0.003, atol=1.01e-6)
    assert (np.diff(delays["Cantera"]) < 0.0).all() and is_picture("runs/ignition_delay.png")


def test_stirred_reactors_burn_as_hot_as_those_of_cantera_and_blow_off_with_them(run):
    names = run("stirred_reactor.py")
    T = names["T"]
    burning = T["Cantera"] > 1000.0
    assert 0 < burning.sum() < len(burning)
    np.testing.assert_allclose(T["exact"], T["Cantera"], rtol=0.0, atol=5.0)  # the splitting, of first order in DT
    np.testing.assert_allclose(T["drm19-small"], T["exact"], rtol=0.0, atol=0.1)
    assert names["everywhere"] > 0.2 > names["usual"] and is_picture("runs/stirred_reactor.png")


def test_a_condensed_network_of_a_tenth_keeps_the_surface(run):
    names = run("condense_network.py")
    loss, size = names["loss"], names["size"]
    assert size(names["small"]) <= 0.1 * size(names["large"])
    assert loss(names["small"]) < 3.0 * loss(names["large"]) < 0.1 * loss(names["anew"])
    assert is_picture("runs/condense_network.png")


def test_an_operator_is_kept_at_half_by_its_weights_and_at_a_tenth_by_forward_selection(run):
    names = run("condense_operator.py")
    errors, before = names["errors"], names["error"](names["network"])
    ours, others = errors["forward selection"], [errors[name] for name in errors if name != "forward selection"]
    assert before < 3.0 and ours[0] < 2.0 * before
    assert min(errors["weights, refitted"][0], ours[0]) < 1.5 * before
    assert ours[-1] < 0.8 * min(values[-1] for values in others)
    assert is_picture("runs/condense_operator.png")


def test_a_flame_of_twenty_steps_burns_at_cantera_s_speed_and_its_snapshots_can_be_read_without_chemnet(run):
    names = run("flame_beside_cantera.py", "short")
    np.testing.assert_allclose(names["speed"], names["flame"].velocity[0], rtol=0.02, atol=0.0)
    read = run("read_snapshots.py", "runs/flame_beside_cantera")
    np.testing.assert_array_equal(read["fields"][-1], names["last"].arrays["T"])
    assert read["units"]["p0"] == "Pa" and is_picture("runs/read_snapshots.png")
    assert is_picture("runs/flame_beside_cantera.png")


@pytest.mark.slow
def test_the_profile_of_the_relaxed_flame_lies_on_cantera_s(run):
    """Half a minute: the whole case."""
    names = run("flame_beside_cantera.py")
    np.testing.assert_allclose(names["speed"], 0.3964, rtol=0.01, atol=0.0)  # cases/free_flame/reference.py
    x, flame = names["x_cantera"], names["flame"]
    inside = (x > -4e-4) & (x < 4e-4)
    T = np.interp(x[inside], names["x"], names["T"])
    np.testing.assert_allclose(T, flame.T[inside], rtol=0.0, atol=25.0)


@pytest.mark.slow
def test_a_model_of_one_s_own_mechanism_is_made_in_minutes_and_ignites_as_it_should(run):
    """Three minutes."""
    names = run("own_mechanism.py", "1")
    assert Surrogate.load("runs/my-hydrogen").mechanism.name == "h2o2.yaml"
    np.testing.assert_allclose(names["model"], names["exact"], rtol=0.2, atol=0.0)
    assert is_picture("runs/my-hydrogen/delays.png") and Path("runs/my-hydrogen/report.html").is_file()
