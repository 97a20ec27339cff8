"""Rows of every kind, drawn from source states: plain, perturbed, mixed or transported, some evolved for a while."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chemnet.data.dataset import Pairs
from chemnet.data.recipe import CHANGING, KINDS, PLAIN, Mixing, Perturbation, Range, Recipe, Transport
from chemnet.gas import canonical
from chemnet.gas.mechanism import Mechanism, load_mechanism
from chemnet.gas.state import T_MAX, T_MIN, Array, enthalpy
from chemnet.gas.thermo import temperature_from_enthalpy
from chemnet.kinetics.step import ChemistryStep
from chemnet.runtime.errors import NumericalError

_HOTTEST = T_MAX - 50.0  # [K] of a state to learn from; its next state must be valid too
_DURATIONS = 4  # that the evolved rows of one call share, so that many are integrated at once


class Drawer:
    """Draws rows of each kind of a recipe from its source rows, always from those of one side of the split.

    `step` evolves the rows that are to be evolved.
    """

    def __init__(self, recipe: Recipe, rows: Pairs, step: ChemistryStep) -> None:
        self.recipe, self.rows, self.step = recipe, rows, step
        self.mechanism = load_mechanism(recipe.mechanism)
        self._candidates: dict[tuple[tuple[str, ...], int], NDArray[np.intp]] = {}

    def pick(self, n: int, kinds: tuple[str, ...], split: int, rng: np.random.Generator) -> Pairs:
        """n random source rows of the given kinds."""
        candidates = self._candidates.get((kinds, split))
        if candidates is None:  # looked up once: there may be half a million rows
            wanted = np.isin(self.rows.kind, [KINDS.index(kind) for kind in kinds])
            candidates = np.flatnonzero(wanted & (self.rows.split == split) & (self.rows.states[:, 0] < _HOTTEST))
            self._candidates[kinds, split] = candidates
        if n > 0 and candidates.size == 0:
            raise NumericalError(f"no usable source states of {', '.join(kinds)} (all above {_HOTTEST:.0f} K?)")
        return self.rows.where(rng.choice(candidates, n))

    def draw(self, kind: str, n: int, split: int, rng: np.random.Generator) -> Pairs:
        """n states of one kind; those to be evolved have been."""
        if kind in PLAIN:
            return self.pick(n, (kind,), split, rng)
        settings: Perturbation | Mixing | Transport = getattr(self.recipe, kind)
        if isinstance(settings, Transport):
            picked = self.pick(n, ("flames",), split, rng)
            states = self._transport(picked.states, settings, rng)
        elif isinstance(settings, Mixing):
            picked = self.pick(n, CHANGING, split, rng)
            states = mix(self._partners(picked, split, rng), self._partners(picked, split, rng), self.mechanism, rng)
            states = self._evolve(states, settings, rng)
        else:
            picked = self.pick(n, CHANGING, split, rng)
            states = self._evolve(perturb(picked.states, settings, rng), settings, rng)
        return Pairs(states, states, picked.split, picked.group, np.full(n, KINDS.index(kind), np.int8))

    def _partners(self, picked: Pairs, split: int, rng: np.random.Generator) -> Array:
        """States to mix (n, 2 + K), one for each picked row and at its pressure, in the roles of `Mixing`."""
        n, mixing = len(picked), self.recipe.mixed
        role = rng.random(n)
        states = self.pick(n, CHANGING, split, rng).states
        states[role < mixing.burnt] = self.pick(n, ("burnt",), split, rng).states[role < mixing.burnt]
        coldest, hottest = mixing.T_unburnt
        heated = coldest + (hottest - coldest) * rng.random(n) ** mixing.heated_power
        for i in np.flatnonzero(role > 1.0 - mixing.cold - mixing.heated):
            states[i, 2:] = premixed(self.recipe, rng)
            states[i, 0] = coldest if role[i] < 1.0 - mixing.heated else heated[i]
        states[:, 1] = picked.states[:, 1]
        return states

    def _transport(self, states: Array, settings: Transport, rng: np.random.Generator) -> Array:
        """States of a flame that transport has just changed, as a flow solver hands them to the chemistry.

        In a steady flame transport undoes what chemistry does, at every point and with no change of enthalpy. Here it
        does so in time steps, each followed by the exact chemistry, a factor too strongly or too weakly, as in a flame
        that is strained or curved. After a few steps the states are those that the splitting of a flow solver settles
        on: fast species are far from where they are in the flame, by as much as transport moves them in a step.
        """
        if len(states) == 0:
            return states
        gas, dt = self.mechanism.gas(), self.recipe.dt
        change = (
            -dt * _log_uniform(settings.factor, len(states), rng)[:, None] * canonical.production_rates(gas, states)
        )
        steps = rng.integers(1, settings.steps, size=len(states), endpoint=True)
        states = states.copy()
        for step in range(settings.steps):
            rows = np.flatnonzero(steps > step)
            reacted = states[rows] if step == 0 else self.step.advance(states[rows], dt)[0]
            h = enthalpy(reacted, self.mechanism)
            reacted[:, 2:] = np.maximum(reacted[:, 2:] + change[rows], 0.0)
            reacted[:, 2:] /= reacted[:, 2:].sum(axis=1, keepdims=True)
            set_temperatures(reacted, h, self.mechanism)
            moved = reacted[:, 0] < _HOTTEST
            states[rows[moved]] = reacted[moved]
        return states

    def _evolve(self, states: Array, settings: Perturbation | Mixing, rng: np.random.Generator) -> Array:
        """Let the chemistry run for a while in some of the rows; rows that fail or get too hot stay as they were."""
        evolved = rng.random(len(states)) < settings.evolved_share
        durations = _log_uniform(settings.evolution, _DURATIONS, rng)
        choice = rng.integers(_DURATIONS, size=len(states))
        for i, duration in enumerate(durations):
            rows = np.flatnonzero(evolved & (choice == i))
            next_states, _ = self.step.advance(states[rows], duration)
            cool = next_states[:, 0] < _HOTTEST
            states[rows[cool]] = next_states[cool]
        return states


def premixed(recipe: Recipe, rng: np.random.Generator) -> Array:
    """Mass fractions (K,) of a random equivalence ratio and oxidizer of a recipe."""
    phi, oxidizer = rng.uniform(*recipe.phi), recipe.draw_oxidizer(rng)
    return canonical.premixed(load_mechanism(recipe.mechanism), phi, recipe.fuel, oxidizer)


def mix(first: Array, second: Array, mechanism: Mechanism, rng: np.random.Generator) -> Array:
    """Mixtures (n, 2 + K) of random shares of two states at equal pressure: mass fractions and enthalpies add up."""
    share = rng.random((len(first), 1))
    mixed = share * first + (1.0 - share) * second
    h = share[:, 0] * enthalpy(first, mechanism) + (1.0 - share[:, 0]) * enthalpy(second, mechanism)
    set_temperatures(mixed, h, mechanism)
    return mixed


def set_temperatures(states: Array, h: Array, mechanism: Mechanism) -> None:
    """Give states (n, 2 + K) the temperatures in place that their enthalpies h (n,) [J/kg] ask for."""
    for row, h_row in zip(states, h, strict=True):
        row[0] = temperature_from_enthalpy(h_row, row[2:], row[0], mechanism.nasa)


def perturb(states: Array, settings: Perturbation, rng: np.random.Generator) -> Array:
    """States with T, P and every Y multiplied by the random factors of `Perturbation`; (n, 2 + K).

    Y is normalised, T kept in range.
    """
    a = _log_uniform(settings.amplitude, len(states), rng)[:, None]
    noise = rng.standard_normal(states.shape)
    noise[:, :2] = np.clip(settings.TP_factor * noise[:, :2], -settings.TP_limit, settings.TP_limit)
    result = states * np.exp(a * noise)
    result[:, 2:] /= result[:, 2:].sum(axis=1, keepdims=True)
    result[:, 0] = np.clip(result[:, 0], T_MIN + 90.0, _HOTTEST)
    return result


def _log_uniform(limits: Range, n: int, rng: np.random.Generator) -> Array:
    low, high = limits
    return np.exp(rng.uniform(np.log(low), np.log(high), n))
