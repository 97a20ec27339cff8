"""A recipe that is sampled in seconds, of every kind of states."""

import numpy as np

from chemnet.data import dataset
from chemnet.data.recipe import load_recipe

SMALL = (  # hydrogen: its flame is solved in a second
    "mechanism=h2o2.yaml",
    "fuel={H2: 1}",
    "rows=240",
    "ignition.trajectories=4",
    "kernel.trajectories=3",
    "kernel.T0=[2000, 2600]",
    "burnt.states=30",
    "flames.phi=[1.0, 1.1]",
    "flames.at=[[101325, 300]]",
    "validation_share=0.2",
    "transported.steps=3",
    "flow.runs=2",
    "flow.rows_per_run=60",
    "flow.set={grid: {nx: 16, ny: 16, length_x: 1e-3, length_y: 1e-3}, end_time: 6e-6, output.snapshot_every: 2}",
    "flow.between={initial.kernel_temperature: [1200, 1600]}",
    "flow.choose={initial.kernel_radius: [3e-4, 4e-4]}",
    "integrator.audit=0.05",
)


def small_recipe(*changes):
    return load_recipe(changes=(*SMALL, *changes))


def assert_same_content(path, other):
    """Rows, audit, and every attribute but the date."""
    first, second = dataset.read(path), dataset.read(other)
    for name in ("states", "next_states", "split", "group", "kind"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(dataset.read_audit(path).difference, dataset.read_audit(other).difference)
    facts, others = dataset.read_attributes(path), dataset.read_attributes(other)
    assert {name for name in {*facts, *others} if str(facts[name]) != str(others[name])} <= {"date"}
