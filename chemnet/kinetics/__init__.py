"""Exact chemistry at SIMD speed, for any ideal-gas mechanism of Cantera."""

from chemnet.kinetics.reactor import RosenbrockReactor

__all__ = ["RosenbrockReactor"]
