"""A model as a case folder for DeepFlame, an OpenFOAM solver that asks a Python module for its reaction rates."""
