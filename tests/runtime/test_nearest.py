"""What was meant by an unknown name: the nearest that is known, in capitals or not, or all of them."""

import pytest

from chemnet.runtime.nearest import hint, nearest


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("quik", ["quick", "paper"], "quick"),
        ("ch4", ["H2", "CH4", "CH3"], "CH4"),
        ("DRM19-Small", ["drm19-small", "drm19-stage3"], "drm19-small"),
        ("mine", ["quick", "paper"], None),
        ("x", [], None),
    ],
)
def test_the_nearest_name_is_found_in_capitals_or_not(name, known, expected):
    assert nearest(name, known) == expected


def test_a_hint_names_the_nearest_or_lists_what_there_is():
    assert hint("quik", ["quick", "paper"]) == "; did you mean quick?"
    assert hint("mine", ["quick", "paper"]) == "; there are quick, paper"
    assert hint("mine", [], "it has") == "; it has none"
    many = hint("zzz", [f"name{i}" for i in range(30)])
    assert many.count("name") == 12 and many.endswith(", ...")
