"""The order of elimination: no needless entries, each in a place of its own; small mechanisms stay whole."""

import numpy as np
import pytest
from burning_gas import dodecane

from chemnet.gas.mechanism import load_mechanism
from chemnet.kinetics.elimination import Places, eliminate, places
from chemnet.kinetics.mechanism_tables import tables_of


def random_couplings(m, share, seed=1):
    return np.random.default_rng(seed).random((m, m)) < share


def test_what_reacts_only_with_one_species_is_eliminated_without_new_entries():
    m = 30
    arrow = np.zeros((m, m), bool)
    arrow[0] = arrow[:, 0] = True
    order, layout = eliminate(arrow, block=0)
    assert list(order).index(0) >= m - 2
    by_T_and_total = 4 * m + 4
    assert places(layout) == 2 * (m - 1) + m + by_T_and_total
    assert places(eliminate(arrow)[1]) < m**2


@pytest.mark.parametrize("block", [0, 7, 12, None])
def test_every_entry_has_a_place_of_its_own(block):
    coupled = random_couplings(60, 0.05)
    order, layout = eliminate(coupled, block)
    assert sorted(order) == list(range(60))
    assert layout.order % 2 == 0
    whole = np.ones((62, 62), bool)
    whole[:60, :60] = coupled[np.ix_(order, order)] | np.eye(60, dtype=bool)
    place = Places(layout)
    found = [place(i, j) for i, j in zip(*np.nonzero(whole), strict=True)]
    assert len(set(found)) == len(found)
    assert max(found) < places(layout)
    np.testing.assert_array_equal(layout.diagonal, [place(i, i) for i in range(62)])


def test_a_matrix_that_is_full_or_small_stays_whole_and_its_species_in_order():
    for coupled in (np.ones((40, 40), bool), random_couplings(20, 0.8)):
        order, layout = eliminate(coupled)
        assert (layout.sparse, layout.total) == (0, 0)
        np.testing.assert_array_equal(order, np.arange(len(coupled)))
    tables = tables_of(load_mechanism("drm19"))
    assert tables.layout.sparse == 0
    assert np.all(np.diff(tables.reactive) > 0)


def test_a_large_mechanism_needs_less_than_a_third_of_the_dense_matrix(tmp_path):
    tables = tables_of(dodecane(tmp_path))
    assert places(tables.layout) < len(tables.species) ** 2 / 3
