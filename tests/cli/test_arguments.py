"""Arguments that several commands share: mixtures and lists of names, with any name that Cantera takes."""

import argparse

import pytest

from chemnet.cli.arguments import mechanism_name, mixture, names
from chemnet.runtime.errors import UsageError


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("H2", {"H2": 1.0}),
        ("CH4:0.9, H2:0.1", {"CH4": 0.9, "H2": 0.1}),
        ("CH2(S):1", {"CH2(S)": 1.0}),
        ("CH2O,1:x:0.5,HCO(é):5e-1", {"CH2O,1:x": 0.5, "HCO(é)": 0.5}),
        ("Ν₂:3.76,O2:1", {"Ν₂": 3.76, "O2": 1.0}),
        ('"A:1,B":2,C6H5,1:1', {"A:1,B": 2.0, "C6H5,1": 1.0}),
        ('"A:b"', {"A:b": 1.0}),
    ],
)
def test_a_mixture_may_hold_any_name_that_cantera_takes(text, amounts):
    assert mixture(text) == amounts


@pytest.mark.parametrize("text", ["", "CH4:much", "CH4:1,H2", "CH4:1,,H2:1", ":1", "A:b", '"A:1', "CH4:0", "CH4:inf"])
def test_what_is_no_mixture_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"quote a name like|amounts are positive"):
        mixture(text)


def test_names_with_commas_are_quoted():
    assert names('T, "CH2O,1:x",OH,') == ("T", "CH2O,1:x", "OH")
    assert names("") == ()


def test_a_phase_belongs_to_a_mechanism():
    assert mechanism_name("a.yaml", "gas") == "a.yaml#gas"
    assert mechanism_name("a.yaml", None) == "a.yaml"
    with pytest.raises(UsageError, match="--phase needs --mechanism"):
        mechanism_name(None, "gas")
