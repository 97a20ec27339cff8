"""Forward that is run again and again while a network is cut from its beginning on, without what stays the same.

A value is *final* if it is made of the inputs and of weights that no later cut touches. Every call of a torch function
is followed as the model's own code makes it: a call whose result is final is not made a second time. Its result is a
stand-in without numbers, which the calls that are final, too, do not need. Only the final values that other calls read
are kept, by block of inputs: those at the front of what has been cut.

That a call is the same is seen by its function and its arguments: values that are the same, weights that are still the
same tensors and have not been changed, and equal plain values. Whatever cannot be followed so raises `Unfollowed`, and
the forward has to be run as a whole, as it is: where its control flow goes another way, a stand-in gets to where calls
are not seen, or stays in the model, an input, a weight or a tensor that shares its memory is changed in place, or a
type has no versions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from chemnet.condensation.inputs import Inputs, leaves, mapped

Key: TypeAlias = tuple[Any, ...]

_INPUT = "input"


class Unfollowed(BaseException):
    """A forward cannot be resumed. No Exception, which the model's own code might handle."""


class _State(NamedTuple):
    """What a tensor holds: a final value by its key, None for any other; and the tensors it lies together with."""

    key: Key | None
    group: Key


class _Made(NamedTuple):
    """A tensor that a call has made, without its numbers."""

    state: _State
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class _Given(NamedTuple):
    """The argument of a call that it gives back."""

    number: int


class _Kept(NamedTuple):
    """The numbers of a final value, and the place of the last call that reads it; of one that was there where a forward
    was stopped, that place, as long as none has gone further."""

    numbers: torch.Tensor
    last: int


@dataclass(frozen=True)
class _Call:
    """A call that gives final values: what identifies it, the result with its tensors described, and the arguments
    that it changes; `outer` are the tensors by whose identity it is known."""

    function: Any
    signature: Any
    result: Any
    changed: Sequence[tuple[int, _State]]
    outer: Sequence[torch.Tensor]


@dataclass
class _Past:
    """Calls of a forward in their order, None for those that have to be made again, and the values that these read."""

    calls: list[_Call | None] = field(default_factory=list)
    kept: dict[Key, _Kept] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return sum(each.numbers.untyped_storage().nbytes() for each in self.kept.values())


class _StandIn(torch.Tensor):
    """A tensor without numbers."""

    @staticmethod
    def __new__(cls, made: _Made) -> _StandIn:
        return torch.Tensor._make_wrapper_subclass(
            cls, made.shape, strides=made.stride, dtype=made.dtype, device=made.device
        )

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise Unfollowed


class Resuming:
    """Forwards of a model on blocks of inputs, each from where the last cut has left it; what is kept of all blocks has
    at most `limit` bytes."""

    def __init__(self, limit: int = 2**30) -> None:
        self._limit = limit
        self._past: dict[int, _Past] = {}
        self._changing, self._moving = frozenset[int](), frozenset[int]()
        self._is_kept = True
        self._run: _Run | None = None

    def begin(self, changing: Iterable[torch.Tensor], moving: Iterable[torch.Tensor]) -> None:
        """Begin with a run of all blocks: weights `changing` are touched by later cuts, statistics `moving` are set
        anew from the values before them whenever these are computed."""
        self._changing, self._moving = frozenset(map(id, changing)), frozenset(map(id, moving))

    def __call__(self, model: nn.Module, inputs: Inputs, number: int, count: int) -> Any:
        """Outputs of a model for block `number` of `count`. Unfollowed if it cannot be resumed."""
        past = self._past.get(number, _Past())
        self._is_kept |= number == 0
        run = self._run = _Run(past, self._changing, self._moving, inputs.tensors, is_kept=self._is_kept)
        try:
            with run:
                return inputs(model)
        finally:
            if self._is_kept:
                made = run.made()
                if number == 0:  # for all blocks alike: of each, all normalisations are met or none
                    self._is_kept = made.size * count <= self._limit
                if self._is_kept:
                    self._past[number] = made

    def end(self) -> None:
        """Unfollowed if the model still holds a stand-in from the last block, whose outputs are not needed any more."""
        if self._run is not None and self._run.has_stand_ins():
            raise Unfollowed


class _Run(TorchFunctionMode):
    """One forward on one block."""

    def __init__(
        self,
        past: _Past,
        changing: frozenset[int],
        moving: frozenset[int],
        inputs: Sequence[torch.Tensor],
        *,
        is_kept: bool,
    ) -> None:
        super().__init__()
        self._past, self._changing, self._moving, self._is_kept = past, changing, moving, is_kept
        self._calls: list[_Call | None] = []
        self._kept: dict[Key, _Kept] = {}
        self._states = WeakTensorKeyDictionary()  # of tensors that have come by
        self._real = WeakTensorKeyDictionary()  # of stand-ins whose numbers have been needed
        for number, x in enumerate(inputs):
            self._states[x] = _State((_INPUT, number), (_INPUT, number))

    def made(self) -> _Past:
        """The calls and values of this forward, and of the one before where that has gone further."""
        here = len(self._calls)
        later = {key: each for key, each in self._past.kept.items() if each.last >= here}
        kept = {key: _Kept(each.numbers, max(each.last, later.get(key, each).last)) for key, each in self._kept.items()}
        return _Past(self._calls + self._past.calls[here:], later | kept)

    def has_stand_ins(self) -> bool:
        """Whether there still are any."""
        return any(isinstance(x, _StandIn) for x in self._states)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """A call of the forward, or its result from before."""
        kwargs, place = kwargs or {}, len(self._calls)
        call = self._past.calls[place] if place < len(self._past.calls) else None
        given = leaves((args, kwargs))
        if call is None:
            return self._make(func, args, kwargs, given)
        with torch._C.DisableTorchFunction():
            if func != call.function or not _is_same(self._signature((args, kwargs)), call.signature):
                raise Unfollowed
            self._calls.append(call)
            for number, state in call.changed:
                self._states[given[number]] = state
            return self._repeated(call.result, given)

    # -- calls that are made

    def _make(self, func: Any, args: Any, kwargs: Any, given: list[torch.Tensor]) -> Any:
        place = len(self._calls)
        with torch._C.DisableTorchFunction():
            states = [self._states.get(x) for x in given]
            is_final = not any(self._is_changing(x, state) for x, state in zip(given, states, strict=True))
            signature = self._signature((args, kwargs)) if is_final and self._is_kept else None
            if not is_final and self._is_kept:
                for x, state in zip(given, states, strict=True):
                    self._keep(x, state, place)
            if any(isinstance(x, _StandIn) for x in given):
                args, kwargs = mapped(self._numbers, args), mapped(self._numbers, kwargs)
            real = leaves((args, kwargs))
            versions = [_version(x) for x in real]
        try:
            result = func(*args, **kwargs)
        except BaseException:
            self._stop()
            raise
        with torch._C.DisableTorchFunction():
            changed = [n for n, x in enumerate(real) if _version(x) != versions[n] and id(x) not in self._moving]
            new = {n: self._changed(n, given, real, changed, is_final=is_final) for n in changed}
            described = self._described(result, real, is_final=is_final)
        if signature is None or not (given or leaves(result)):
            self._calls.append(None)
        else:
            outer = [x for x, state in zip(given, states, strict=True) if state is None]
            self._calls.append(_Call(func, signature, described, tuple(new.items()), outer))
        return result

    def _is_changing(self, x: torch.Tensor, state: _State | None) -> bool:
        """Whether later cuts change a tensor."""
        return id(x) in self._changing if state is None else state.key is None

    def _changed(
        self,
        number: int,
        given: Sequence[torch.Tensor],
        real: Sequence[torch.Tensor],
        changed: Sequence[int],
        *,
        is_final: bool,
    ) -> _State:
        """The state of an argument that a call has changed in place."""
        old = self._states.get(given[number])
        if old is None or old.group[0] == _INPUT:
            raise Unfollowed
        mine = {id(x) for n in changed for x in (given[n], real[n])}
        if any(state.group == old.group and id(x) not in mine for x, state in self._states.items()):
            raise Unfollowed
        state = _State((len(self._calls), "changed", number) if is_final else None, old.group)
        self._states[given[number]] = self._states[real[number]] = state
        return state

    def _described(self, result: Any, real: Sequence[torch.Tensor], *, is_final: bool) -> Any:
        """A result with its tensors, which are noted, described."""
        groups = {_storage(x): self._group(x) for x in real}
        numbers = itertools.count()

        def described(x: torch.Tensor) -> _Made | _Given:
            for number, each in enumerate(real):
                if each is x:
                    return _Given(number)
            key = len(self._calls), next(numbers)
            state = self._states[x] = _State(key if is_final else None, groups.get(_storage(x), key))
            return _Made(state, x.shape, x.stride(), x.dtype, x.device)

        if is_final:
            return _mapped(described, result)
        for x in leaves(result):
            described(x)
        return None

    def _group(self, x: torch.Tensor) -> Key:
        state = self._states.get(x)
        return ("outer", id(x)) if state is None else state.group

    # -- calls that are not

    def _repeated(self, result: Any, given: Sequence[torch.Tensor]) -> Any:
        def stand_in(described: _Made | _Given) -> torch.Tensor:
            if isinstance(described, _Given):
                return given[described.number]
            x = _StandIn(described)
            self._states[x] = described.state
            return x

        return _mapped(stand_in, result)

    def _signature(self, value: Any) -> Any:
        """A value with its tensors replaced by what they hold."""
        if isinstance(value, torch.Tensor):
            state = self._states.get(value)
            if state is not None:
                return state.key
            return "outer", id(value), None if id(value) in self._moving else _version(value)
        if isinstance(value, tuple | list):
            return type(value), tuple(map(self._signature, value))
        if isinstance(value, Mapping):
            return type(value), tuple((key, self._signature(each)) for key, each in value.items())
        return type(value), value

    # -- values

    def _numbers(self, x: torch.Tensor) -> torch.Tensor:
        """A tensor itself; of a stand-in one with its numbers, which may be changed."""
        if not isinstance(x, _StandIn):
            return x
        if x not in self._real:
            state = self._states[x]
            if state.key not in self._past.kept:
                raise Unfollowed
            self._real[x] = made = self._past.kept[state.key].numbers.clone()
            self._states[made] = state
        real: torch.Tensor = self._real[x]
        return real

    def _keep(self, x: torch.Tensor, state: _State | None, last: int) -> None:
        """Keep a final value for the calls that read it, the last of them at a place."""
        if state is None or state.key is None or state.key[0] == _INPUT:
            return
        known = self._kept.get(state.key) or self._past.kept.get(state.key)
        if known is not None:
            self._kept[state.key] = _Kept(known.numbers, last)
        elif not isinstance(x, _StandIn):
            self._kept[state.key] = _Kept(x.detach().clone(), last)

    def _stop(self) -> None:
        """Keep what is there, which later calls may read, where a forward is stopped."""
        if self._is_kept:
            with torch._C.DisableTorchFunction():
                for x, state in list(self._states.items()):
                    self._keep(x, state, len(self._calls))


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """A result of a torch function with a function of its tensors, or of their descriptions. Unfollowed for one that
    other code might change."""
    if isinstance(value, torch.Tensor | _Made | _Given):
        return function(value)
    if isinstance(value, torch.Size | str | int | float | complex | torch.dtype | torch.device | torch.layout | None):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(function, each) for each in value))
    if isinstance(value, tuple | list):
        return type(value)([_mapped(function, each) for each in value])
    raise Unfollowed


def _is_same(one: Any, other: Any) -> bool:
    """Whether two signatures are equal, as far as that can be said."""
    try:
        return bool(one == other)
    except Exception:  # of whatever the arguments are
        return False


def _version(x: torch.Tensor) -> int:
    """How often a tensor has been changed in place."""
    if x.is_inference() or x.layout != torch.strided:
        raise Unfollowed
    return x._version


def _storage(x: torch.Tensor) -> int:
    """Where the numbers of a tensor lie."""
    return x.untyped_storage()._cdata
