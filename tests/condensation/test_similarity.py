"""Cosine similarity and grouping: a partition around main neurons, exact widths, the same answer twice."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from chemnet.condensation.similarity import NO_GROUP, cosine_similarity, group, group_to_width, mains, n_groups


def condensed_neurons(rng, m, n_directions, noise, n=24):
    """m rows around a few directions, with random positive lengths."""
    directions = rng.normal(size=(n_directions, n))[rng.integers(0, n_directions, m)]
    return rng.uniform(0.1, 10.0, (m, 1)) * (directions + noise * rng.normal(size=(m, n)))


def test_similarity_is_the_normalised_inner_product_of_equations_8_and_9():
    vectors = np.random.default_rng(0).normal(size=(7, 4))
    a = vectors @ vectors.T
    d = np.diag(1.0 / np.sqrt(a.diagonal()))
    assert_allclose(cosine_similarity(vectors), d @ a @ d, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_similarity_does_not_depend_on_length(scale):
    vectors = np.random.default_rng(1).normal(size=(5, 3))
    scaled = vectors * np.array([1.0, scale, 1.0, scale, 1.0])[:, None]
    assert_allclose(cosine_similarity(scaled), cosine_similarity(vectors), rtol=1e-13, atol=1e-15)


def test_a_row_of_zeros_has_no_direction_and_no_group():
    vectors = np.array([[1.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
    similarity = cosine_similarity(vectors)
    assert similarity[1].tolist() == [0.0, 0.0, 0.0]
    assert group(similarity, 0.9).tolist() == [0, NO_GROUP, 0]
    assert group(similarity, -1.0).tolist() == [0, NO_GROUP, 0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.floats(-1.0, 1.0), st.integers(0, 2**32 - 1))
def test_grouping_is_a_partition_and_members_have_condensed_with_their_main_neuron(m, threshold, seed):
    rng = np.random.default_rng(seed)
    similarity = cosine_similarity(condensed_neurons(rng, m, 5, 0.3, n=4))
    main_of = group(similarity, threshold)
    assert (main_of[main_of] == main_of).all()
    assert (similarity[np.arange(m), main_of] >= threshold - 1e-6).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.floats(0.0, 1.0), st.integers(0, 2**32 - 1))
def test_main_neurons_are_those_with_most_ungrouped_neighbours(m, threshold, seed):
    similarity = cosine_similarity(condensed_neurons(np.random.default_rng(seed), m, 4, 0.4, n=3))
    ungrouped, expected = list(range(m)), np.empty(m, dtype=int)
    while ungrouped:
        members = {i: [j for j in ungrouped if similarity[i, j] >= threshold - 1e-6] for i in ungrouped}
        main = max(ungrouped, key=lambda i: (len(members[i]), -i))
        expected[members[main]] = main
        ungrouped = [i for i in ungrouped if i not in members[main]]
    assert group(similarity, threshold).tolist() == expected.tolist()


def test_exact_copies_condense_at_a_threshold_of_one():
    vectors = np.random.default_rng(2).normal(size=(6, 23)).astype(np.float32)
    copies = np.concatenate([vectors, np.float32(0.37) * vectors])
    assert group(cosine_similarity(copies), 1.0).tolist() == [*range(6), *range(6)]


def test_ties_go_to_the_lowest_index():
    square = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert group(cosine_similarity(square), 0.0).tolist() == [0, 0, 2, 0]
    simplex = np.full((5, 5), -0.25) + 1.25 * np.eye(5)
    assert group_to_width(simplex, 3)[0].tolist() == [0, 0, 0, 3, 4]


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.5])
def test_every_width_is_reached_exactly(noise):
    similarity = cosine_similarity(condensed_neurons(np.random.default_rng(3), 60, 12, noise))
    for width in range(1, 61):
        main_of, _ = group_to_width(similarity, width)
        assert n_groups(main_of) == width
        assert (main_of[main_of] == main_of).all()


def test_the_threshold_found_for_a_width_separates_it_from_the_next():
    similarity = cosine_similarity(condensed_neurons(np.random.default_rng(4), 80, 10, 0.2))
    expected = n_groups(group(similarity, 0.9))
    main_of, threshold = group_to_width(similarity, expected)
    assert n_groups(group(similarity, threshold)) == expected
    assert n_groups(main_of) == expected


def test_a_layer_with_fewer_directions_than_the_width_keeps_all_of_them():
    vectors = np.diag([1.0, 2.0, 3.0, 0.0])
    assert mains(group_to_width(cosine_similarity(vectors), 4)[0]).tolist() == [0, 1, 2]


def test_neurons_around_600_directions_form_about_as_many_groups():
    vectors = condensed_neurons(np.random.default_rng(5), 3200, 600, 0.2)
    assert 500 < n_groups(group(cosine_similarity(vectors), 0.9)) < 3200
