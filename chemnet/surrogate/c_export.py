"""A model as C99: one source and header that are the same for every model, and one binary file that holds the model.

The file, not the source, carries the weights: a network of 27 MB would be 80 MB of source, a program may hold several
models, and sources that never change can be read, tested and kept once. `c/file.c` reads what `model_bytes` writes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import ArrayLike

from chemnet.gas.closure import Closure
from chemnet.gas.state import NEGATIVE_TOLERANCE, SUM_TOLERANCE, T_MIN, Array
from chemnet.gas.status import Status
from chemnet.kinetics.heating import LEAST, SHARE
from chemnet.surrogate.hybrid import checks_heating, order_of
from chemnet.surrogate.model import Surrogate
from chemnet.surrogate.network import describe
from chemnet.surrogate.network_alone import remarks_alone
from chemnet.surrogate.transform import LAMBDA
from chemnet.version import __version__

SOURCES = Path(__file__).parent / "c"
_PARTS = ("lanes", "sha256", "model", "file", "network", "thermo", "closure", "group", "step")  # of the one source
_COPIED = ("chemnet_step.h", "chemnet_step.f90", "check.c", "example.cpp", "example.f90", "Makefile")
FILES = ("chemnet_step.c", "model.bin", "check.txt", "README.md", *_COPIED)
_PROGRAMS = ("run_check", "example_cpp", "example_fortran")
BUILT = ("chemnet_step.o", "libchemnet_step.a", "libchemnet_step.so", "chemnet.mod", *_PROGRAMS)  # by the Makefile
_CHECKED = 24  # states that a build elsewhere is compared on
_MAGIC, _FORMAT, _DIGEST = b"chemnetC", 1, 32
_ACTIVATIONS = ("relu", "gelu", "silu", "tanh")  # in the order of `enum activation`
_ORDERS = ("never", "usual", "widest")  # in the order of `enum chemnet_order`


def source() -> str:
    """The one C source."""
    return "".join((SOURCES / f"{part}.c").read_text(encoding="utf-8") for part in _PARTS)


def model_bytes(model: Surrogate) -> bytes:
    """The file of a model for C, little-endian; its layout is told by `c/file.c`."""
    content = b"".join([*_facts(model), *_limits(model), *_gas(model), *_network(model)])
    head = _MAGIC + struct.pack("<IQ", _FORMAT, len(_MAGIC) + 12 + len(content) + _DIGEST)
    return head + content + digest(head + content)


def digest(content: bytes) -> bytes:
    """What the file of this content ends with."""
    return hashlib.sha256(content).digest()


def _facts(model: Surrogate) -> Iterable[bytes]:
    mechanism = model.mechanism
    for text in (__version__, mechanism.name, mechanism.sha256):
        yield _text(text)
    yield _counts(mechanism.n_species)
    yield from map(_text, mechanism.species_names)
    yield _numbers(model.dt)


def _limits(model: Surrogate) -> Iterable[bytes]:
    domain, calm_answer = model.domain, model.calm_limit ** (1.0 / model.transform.power)
    yield _numbers(model.cold_limit, model.calm_limit, calm_answer)
    yield _numbers(T_MIN, model.mechanism.T_max, -NEGATIVE_TOLERANCE, SUM_TOLERANCE)
    yield _numbers(domain.low, domain.high)
    yield _counts(len(domain.bounds))
    yield _numbers(domain.directions, domain.bounds)
    yield _counts(_ORDERS.index(order_of(model)), int(checks_heating(model)))
    yield _numbers(SHARE, LEAST)


def _gas(model: Surrogate) -> Iterable[bytes]:
    closure, nasa = Closure(model.mechanism), model.mechanism.nasa
    yield _counts(len(closure.reactive), *closure.reactive.tolist(), len(closure.elements))
    yield _numbers(closure.elements)
    yield _counts(nasa.shape[1])
    yield _numbers(nasa)


def _network(model: Surrogate) -> Iterable[bytes]:
    transform, config = model.transform, describe(model.network)
    scale = np.hstack([transform.output_scale[:2], LAMBDA * transform.output_scale[2:] ** transform.power])
    yield _numbers(transform.input_mean, transform.input_gain, scale)
    yield _counts(transform.power, _ACTIVATIONS.index(config.activation), len(config.widths) - 1, config.widths[0])
    for linear in model.network[::2]:
        if linear is not model.network[-1]:
            yield _counts(linear.out_features)
        for values in (linear.weight, linear.bias):
            yield values.detach().cpu().float().numpy().astype("<f4").tobytes()


def _text(text: str) -> bytes:
    content = text.encode()
    return _counts(len(content)) + content


def _counts(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def _numbers(*values: ArrayLike) -> bytes:
    return b"".join(np.asarray(value, "<f8").tobytes() for value in values)


def write_folder(model: Surrogate, folder: Path) -> None:
    """Write the FILES of a model for C into a folder: source, header, model, check, examples and a README."""
    content = model_bytes(model)
    texts = {"chemnet_step.c": source(), **{file: _read(file) for file in _COPIED}}
    texts |= {"check.txt": check_text(model), "README.md": _readme(model, content)}
    (folder / "model.bin").write_bytes(content)
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")


def check_text(model: Surrogate) -> str:
    """States and what becomes of them, for a build elsewhere to compare with; see `c/check.c`."""
    states = check_states(model)
    next_states, status = model.with_engine("fp32").advance(states)
    lines = [f"{len(states)} {model.mechanism.n_species}"]
    for code, before, after in zip(status, states, next_states, strict=True):
        numbers = [*before, after[0], *after[2:]]
        lines.append(" ".join([str(code), *(f"{number:.17g}" for number in numbers)]))
    return "\n".join(lines) + "\n"


def check_states(model: Surrogate) -> Array:
    """Random states of a model's domain (n, 2 + K), and at the end one that is not finite, one too hot, one too cold,
    and one outside. Without those whose closure fails: of so odd a mixture, round-off decides that."""
    drawn = model.domain.draw(_CHECKED, model.mechanism, np.random.default_rng(0), model.cold_limit)
    drawn = drawn[model.advance(drawn).status != Status.FAILED]
    others = np.repeat(drawn[:1], 4, axis=0)
    others[:3, 0] = np.nan, model.mechanism.T_max + 1.0, 0.5 * (T_MIN + max(model.cold_limit, T_MIN))
    others[3, 1] = 2.0 * model.domain.high[1]
    return np.concatenate([drawn, others])


def _readme(model: Surrogate, content: bytes) -> str:
    mechanism, domain = model.mechanism, model.domain
    (low_T, high_T), (low_p, high_p) = domain.limits["T"], domain.limits["P"]
    return Template(_read("README.md")).substitute(
        mechanism=mechanism.name,
        mechanism_sha256=mechanism.sha256,
        n_species=mechanism.n_species,
        species=" ".join(mechanism.species_names),
        dt=f"{model.dt:g}",
        bytes=len(content),
        sha256=content[-_DIGEST:].hex(),
        T_min=f"{T_MIN:g}",
        T_max=f"{mechanism.T_max:g}",
        low_T=f"{low_T:.0f}",
        high_T=f"{high_T:.0f}",
        low_p=f"{low_p:.3g}",
        high_p=f"{high_p:.3g}",
        cold_limit=f"{model.cold_limit:g}",
        calm_limit=f"{model.calm_limit:g}",
        advice=_advice(model),
        version=__version__,
    )


def _advice(model: Surrogate) -> str:
    """What is missing without chemnet's own integrator, and how a solver makes up for the check of heating."""
    remarks = "\n".join(f"* {remark}" for remark in remarks_alone(model))
    return f"{remarks}\n{_HEATING if checks_heating(model) else ''}"


_HEATING = """
That check is `chemnet_heating_agrees`: with dT/dt by your own rates before and after the step it says whether a cell's
answer is to be taken; keep a copy of T and Y until then, and integrate the others.
"""


def _read(file: str) -> str:
    return (SOURCES / file).read_text(encoding="utf-8")
