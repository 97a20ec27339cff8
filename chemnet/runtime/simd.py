"""A SIMD value for numba: `W` doubles that one instruction treats at once, one lane per cell.

Plain loops over cells do not vectorise reliably (every pair of arrays might alias). Kernels of integrators and of flow
are therefore written for one cell, on values of this type, and W cells run through them side by side. LLVM maps the
vector onto what the processor has: one or more registers of AVX-512, AVX2, SSE2 or NEON.

In compiled code: `load(array, i)` and `store(array, i, value)` treat a flat float64 array as consecutive vectors;
`load_at(array, i)` and `store_at(array, i, value)` begin at element i, of float64 or float32, and `prefetch_at` asks
for it ahead of time; `+ - * /`, comparisons and `&` act lane by lane and take plain numbers too;
`select(mask, a, b)`, `fma(a, b, c)` = a b + c, `exp`, `log`. NaN propagates through all of them.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model
from numpy.typing import NDArray

W = 16
_LINE = 64  # bytes of a line of the cache


def aligned(n: int) -> NDArray[np.float64]:
    """n vectors of zeros that begin where a line of the cache does: a vector that straddles two lines costs double."""
    space = np.zeros(n * W + 8)
    start = (-space.ctypes.data // 8) % 8
    return space[start : start + n * W]


_DOUBLES = ir.VectorType(ir.DoubleType(), W)
_SINGLES = ir.VectorType(ir.FloatType(), W)
_BITS = ir.VectorType(ir.IntType(64), W)
_FLAGS = ir.VectorType(ir.IntType(1), W)


class _VectorType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"vector_{W}")


class _MaskType(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"mask_{W}")


vector, mask = _VectorType(), _MaskType()


@register_model(_VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _DOUBLES)


@register_model(_MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _FLAGS)


def _splat(builder, number):
    """All lanes equal to a scalar."""
    one = builder.insert_element(ir.Constant(_DOUBLES, ir.Undefined), number, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), W), [0] * W)
    return builder.shuffle_vector(one, ir.Constant(_DOUBLES, ir.Undefined), lanes)


def _as_vector(context, builder, value, kind):
    if kind is vector:
        return value
    return _splat(builder, context.cast(builder, value, kind, types.float64))


def _register(function, instruction, result):
    """Make a Python operator act on vectors, and on a vector and a number in either order."""

    @infer_global(function)
    class _Operator(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and vector in args and all(a is vector or isinstance(a, types.Number) for a in args):
                return signature(result, *args)
            return None

    def lower(context, builder, sig, args):
        a, b = (_as_vector(context, builder, value, kind) for value, kind in zip(args, sig.args, strict=True))
        return instruction(builder, a, b)

    for left, right in ((vector, vector), (vector, types.Number), (types.Number, vector)):
        lower_builtin(function, left, right)(lower)


_register(operator.add, lambda builder, a, b: builder.fadd(a, b), vector)
_register(operator.sub, lambda builder, a, b: builder.fsub(a, b), vector)
_register(operator.mul, lambda builder, a, b: builder.fmul(a, b), vector)
_register(operator.truediv, lambda builder, a, b: builder.fdiv(a, b), vector)
_register(operator.lt, lambda builder, a, b: builder.fcmp_ordered("<", a, b), mask)
_register(operator.le, lambda builder, a, b: builder.fcmp_ordered("<=", a, b), mask)
_register(operator.gt, lambda builder, a, b: builder.fcmp_ordered(">", a, b), mask)
_register(operator.ge, lambda builder, a, b: builder.fcmp_ordered(">=", a, b), mask)


@infer_global(operator.and_)
class _And(AbstractTemplate):
    def generic(self, args, kws):
        return signature(mask, mask, mask) if args == (mask, mask) else None


@lower_builtin(operator.and_, mask, mask)
def _and(context, builder, sig, args):
    return builder.and_(*args)


@infer_global(operator.neg)
class _Negative(AbstractTemplate):
    def generic(self, args, kws):
        return signature(vector, vector) if args == (vector,) else None


@lower_builtin(operator.neg, vector)
def _negative(context, builder, sig, args):
    return builder.fneg(args[0])


def _pointer(context, builder, array_type, array, index, lanes):
    """Pointer to the vector of type `lanes` that begins at element `index` of a flat array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), lanes.as_pointer())


def _load(context, builder, array_type, array, index):
    if array_type.dtype == types.float32:
        value = builder.load(_pointer(context, builder, array_type, array, index, _SINGLES))
        value.align = 4
        return builder.fpext(value, _DOUBLES)
    value = builder.load(_pointer(context, builder, array_type, array, index, _DOUBLES))
    value.align = 8
    return value


def _store(context, builder, array_type, array, index, value):
    if array_type.dtype == types.float32:
        pointer = _pointer(context, builder, array_type, array, index, _SINGLES)
        builder.store(builder.fptrunc(value, _SINGLES), pointer).align = 4
    else:
        builder.store(value, _pointer(context, builder, array_type, array, index, _DOUBLES)).align = 8


def _lines(context, builder, index, index_type):
    """The element at which the index-th vector begins."""
    return builder.mul(context.cast(builder, index, index_type, types.int64), ir.IntType(64)(W))


def _is_flat(array):
    """Whether a type is that of a contiguous array of one dimension: an index of another means something else."""
    return isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C"


@intrinsic
def load(typing, array, i):
    """The i-th vector of a flat array."""

    def generate(context, builder, sig, args):
        return _load(context, builder, sig.args[0], args[0], _lines(context, builder, args[1], sig.args[1]))

    return (vector(array, i), generate) if _is_flat(array) else None


@intrinsic
def store(typing, array, i, value):
    """Write the i-th vector of a flat array."""

    def generate(context, builder, sig, args):
        value = _as_vector(context, builder, args[2], sig.args[2])
        _store(context, builder, sig.args[0], args[0], _lines(context, builder, args[1], sig.args[1]), value)
        return context.get_dummy_value()

    return (types.void(array, i, value), generate) if _is_flat(array) else None


@intrinsic
def load_at(typing, array, i):
    """The vector that begins at element i of a flat array of float64 or float32."""

    def generate(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.int64)
        return _load(context, builder, sig.args[0], args[0], index)

    return (vector(array, i), generate) if _is_flat(array) else None


@intrinsic
def store_at(typing, array, i, value):
    """Write the vector that begins at element i of a flat array of float64, or of float32 to its precision."""

    def generate(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.int64)
        _store(context, builder, sig.args[0], args[0], index, _as_vector(context, builder, args[2], sig.args[2]))
        return context.get_dummy_value()

    return (types.void(array, i, value), generate) if _is_flat(array) else None


@intrinsic
def prefetch_at(typing, array, i):
    """Ask for the vector that begins at element i ahead of time; one beyond the array does no harm."""
    per_line = _LINE // (array.dtype.bitwidth // 8)

    def generate(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.int64)
        number = ir.IntType(32)
        for first in range(0, W, per_line):
            element = builder.add(index, ir.IntType(64)(first))
            place = _pointer(context, builder, sig.args[0], args[0], element, ir.IntType(8))
            kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
            builder.call(function, [place, number(0), number(2), number(1)])  # to read, into the second level, data
        return context.get_dummy_value()

    return (types.void(array, i), generate) if _is_flat(array) else None


@intrinsic
def shifted(typing, before, here):
    """Lanes of `here` moved up by one place; the last lane of `before` comes first."""

    def generate(context, builder, sig, args):
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), W), [W - 1 + lane for lane in range(W)])
        return builder.shuffle_vector(args[0], args[1], lanes)

    return (vector(before, here), generate) if before is vector and here is vector else None


@intrinsic
def splat(typing, number):
    """All lanes equal to a number."""

    def generate(context, builder, sig, args):
        return _as_vector(context, builder, args[0], sig.args[0])

    return vector(number), generate


@intrinsic
def fma(typing, a, b, c):
    """a b + c, fused where the processor can; vectors or numbers."""

    def generate(context, builder, sig, args):
        values = [_as_vector(context, builder, value, kind) for value, kind in zip(args, sig.args, strict=True)]
        kind = ir.FunctionType(_DOUBLES, [_DOUBLES] * 3)
        # not llvm.fma, which is a library call per lane on processors without the instruction
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{W}f64"), values)

    return vector(a, b, c), generate


@intrinsic
def select(typing, condition, a, b):
    """Per lane a where the condition holds, else b; vectors or numbers."""

    def generate(context, builder, sig, args):
        a, b = (_as_vector(context, builder, args[i], sig.args[i]) for i in (1, 2))
        return builder.select(args[0], a, b)

    return vector(condition, a, b), generate


@intrinsic
def everywhere(typing, condition):
    """True if the condition holds in every lane: to skip what changes no lane, and for nothing that changes one."""

    def generate(context, builder, sig, args):
        bits = builder.bitcast(args[0], ir.IntType(W))
        return builder.icmp_unsigned("==", bits, ir.Constant(ir.IntType(W), (1 << W) - 1))

    return (types.boolean(condition), generate) if condition is mask else None


@intrinsic
def take_number(typing, counter):
    """The number in counter[0] (int64), which goes up by one; threads that share it never get the same."""

    def generate(context, builder, sig, args):
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, ir.IntType(64)(1), "monotonic")

    return types.int64(counter), generate


def _unary(name, text):
    @intrinsic
    def function(typing, a):
        def generate(context, builder, sig, args):
            kind = ir.FunctionType(_DOUBLES, [_DOUBLES])
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"{name}.v{W}f64"), args)

        return vector(a), generate

    function.__doc__ = text
    return function


sqrt = _unary("llvm.sqrt", "Square root of each lane.")
absolute = _unary("llvm.fabs", "Absolute value of each lane.")


@intrinsic
def _add_shifted_bits(typing, a, b, shift):
    """The bits of a plus those of b shifted left: scales a by a power of two that sits in the low bits of b."""

    def generate(context, builder, sig, args):
        a, b = (builder.bitcast(value, _BITS) for value in args[:2])
        places = ir.Constant(_BITS, [sig.args[2].literal_value] * W)
        return builder.bitcast(builder.add(a, builder.shl(b, places)), _DOUBLES)

    return (vector(a, b, shift), generate) if isinstance(shift, types.IntegerLiteral) else None


_SPLIT = 0x3FE6A09E667F3BCD  # bits of sqrt(1/2)
_MAGIC = 6755399441055744.0  # 1.5 * 2**52: adding and subtracting it rounds to a whole number
_MAGIC_BITS = 0x4338000000000000


@intrinsic
def _exponent(typing, a):
    """k of a = m 2^k with sqrt(1/2) <= m < sqrt(2), as a double, without a conversion instruction."""

    def generate(context, builder, sig, args):
        bits = builder.sub(builder.bitcast(args[0], _BITS), ir.Constant(_BITS, [_SPLIT] * W))
        k = builder.ashr(bits, ir.Constant(_BITS, [52] * W))
        shifted = builder.bitcast(builder.add(k, ir.Constant(_BITS, [_MAGIC_BITS] * W)), _DOUBLES)
        return builder.fsub(shifted, ir.Constant(_DOUBLES, [_MAGIC] * W))

    return vector(a), generate


@intrinsic
def _mantissa(typing, a):
    """m of a = m 2^k with sqrt(1/2) <= m < sqrt(2)."""

    def generate(context, builder, sig, args):
        bits = builder.bitcast(args[0], _BITS)
        above = builder.sub(bits, ir.Constant(_BITS, [_SPLIT] * W))
        exponent = builder.and_(above, ir.Constant(_BITS, [-(1 << 52)] * W))
        return builder.bitcast(builder.sub(bits, exponent), _DOUBLES)

    return vector(a), generate


kernel = njit(error_model="numpy", _nrt=False, forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
# For what few mechanisms need: its code stays out of the loops of the others, which it would slow down.
rare_kernel = njit(error_model="numpy", _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)


@kernel
def minimum(a, b):
    """The smaller of a and b per lane; NaN in b stays."""
    return select(a < b, a, b)


@kernel
def maximum(a, b):
    """The larger of a and b per lane; NaN in b stays."""
    return select(a > b, a, b)


@kernel
def exp(x):
    """e^x of each lane to 1e-15 relative; arguments are limited to [-708, 709].

    x = k ln 2 + r, |r| <= ln(2)/2; e^r by the polynomial that interpolates it in the 12 Chebyshev points (2e-17).
    """
    x = maximum(-708.0, minimum(709.0, x))
    t = fma(x, 1.4426950408889634, _MAGIC)
    k = t - _MAGIC
    r = fma(k, -1.9082149292705877e-10, fma(k, -0.6931471803691238, x))
    r2 = r * r
    r4 = r2 * r2
    low = fma(r2, fma(r, 0.1666666666666668, 0.5000000000000019), r + 1.0)
    middle = fma(
        r2,
        fma(r, 0.00019841269890047113, 0.0013888888952314775),
        fma(r, 0.008333333333319601, 0.0416666666664881),
    )
    high = fma(
        r2,
        fma(r, 2.5110037605963777e-08, 2.763263963904103e-07),
        fma(r, 2.755724091857897e-06, 2.4801485482328494e-05),
    )
    return _add_shifted_bits(fma(r4, fma(r4, high, middle), low), t, 52)


@kernel
def log(x):
    """Natural logarithm of each lane, x > 0 and normal, to 2e-16 absolute plus relative; NaN stays.

    x = m 2^k; log m = 2 s + s^3 P(s^2), s = (m - 1)/(m + 1), P interpolated in 8 Chebyshev points (5e-19).
    """
    k, m = _exponent(x), _mantissa(x)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    z2 = z * z
    low = fma(z, 0.4000000000000088, 0.6666666666666666)
    middle = fma(
        z2,
        fma(z, 0.13086626147840102, 0.13268773138656886),
        fma(z, 0.15386239702814658, 0.18181795640132906),
    )
    polynomial = fma(z2, fma(z2, middle, fma(z, 0.22222222391713917, 0.28571428570803614)), low)
    small = fma(s * z, polynomial, s + s)
    result = fma(k, 0.6931471803691238, fma(k, 1.9082149292705877e-10, small))
    return result + (x - x)  # the bit tricks would turn NaN and infinity into numbers
