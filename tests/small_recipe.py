"""A recipe that is sampled in seconds, of every kind of states."""

from chemnet.recipe import load_recipe

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
    "integrator.audit=0.05",
)


def small_recipe(*changes):
    return load_recipe(changes=(*SMALL, *changes))
