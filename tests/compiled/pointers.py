"""Calls of the compiled functions through their addresses, from a table of what is expected.

Run as a program, it compares every function with its ufunc on the instruction set in FASTACT_ISA.
"""

import ctypes

import numpy as np

import fastact
import fastact.cy
from fastact._core.operations import BY_NAME

REALS = {"f32": ctypes.c_float, "f64": ctypes.c_double}
PARAMETERS = ("negative_slope",)
# The ends of vectors, and where the engine starts to align (1,024).
LENGTHS = [*range(1, 35), 63, 64, 65, 1000, 1023, 1024, 1025, 1100, 5003]

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_name = ctypes.pythonapi.PyCapsule_GetName
_name.restype, _name.argtypes = ctypes.c_char_p, [ctypes.py_object]


def operands_of(name):
    """Return the operands that are arrays, and whether a number follows."""
    operation = BY_NAME[name]
    number = operation.parameter is not None
    return operation.operands[: -1 if number else None], number


def function(name, kind):
    """Return a compiled function as one of ctypes; `kind` is "f32", "f64" or "scalar"."""
    arrays, number = operands_of(name)
    if kind == "scalar":
        types = [ctypes.c_double] * (len(arrays) + number + 1)
    else:
        real = REALS[kind]
        types = [None, *[ctypes.c_void_p] * len(arrays), *[real] * number]
        types += [ctypes.c_void_p, ctypes.c_ssize_t]
    capsule = fastact.cy.__pyx_capi__[f"{name}_{kind}"]
    return ctypes.CFUNCTYPE(*types)(_pointer(capsule, _name(capsule)))


def signature(name):
    """Return the C type of a compiled function, as Cython writes it."""
    return _name(fastact.cy.__pyx_capi__[name]).decode()


def inputs(dtype, n, seed):
    """Numbers of all sizes, and special ones."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 4, n) * 10.0 ** rng.integers(-40, 3, n)
    x[rng.random(n) < 0.1] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-310, -800, 90])
    return x.astype(dtype)


def same_bits(a, b):
    """Whether two arrays or numbers have the same bytes, but for the payload of a NaN."""
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and np.array_equal(
        np.where(np.isnan(a), np.nan, a).tobytes(), np.where(np.isnan(b), np.nan, b).tobytes()
    )


def compare(name, kind):
    """Compare a function over arrays with its ufunc: lengths, alignments and in place."""
    ufunc, call = getattr(fastact, name), function(name, kind)
    arrays, number = operands_of(name)
    dtype = np.dtype(kind.replace("f32", "f4").replace("f64", "f8"))
    for n in LENGTHS:
        for shift in (0, 1, 7):
            with np.errstate(all="ignore"):
                operands = [inputs(dtype, n + shift, i)[shift:] for i in range(len(arrays))]
            numbers = [dtype.type(-0.3)] * number
            expected = ufunc(*operands, *numbers)
            out = np.full(n + 2, 77, dtype)
            addresses = [x.ctypes.data for x in operands]
            call(*addresses, *map(float, numbers), out[1:].ctypes.data, n)
            assert same_bits(out[1:-1], expected), f"{name}_{kind}: {n} elements, shift {shift}"
            assert out[0] == out[-1] == 77, f"{name}_{kind} writes beyond {n} elements"
            for address, operand in zip(addresses, operands, strict=True):
                kept = operand.copy()
                call(*addresses, *map(float, numbers), address, n)
                assert same_bits(operand, expected), f"{name}_{kind}: {n} elements in place"
                operand[...] = kept


def compare_scalar(name):
    """Compare a function over numbers with its ufunc."""
    ufunc, call = getattr(fastact, name), function(name, "scalar")
    arrays, number = operands_of(name)
    columns = [inputs("f8", 300, i) for i in range(len(arrays))]
    for row in zip(*columns, strict=True):
        numbers = [*map(float, row), *[-0.3] * number]
        assert same_bits(np.float64(call(*numbers)), ufunc(*map(np.float64, numbers)))


if __name__ == "__main__":
    from fastact._core import ufuncs

    for ufunc in ufuncs.ufuncs:
        for kind in REALS:
            compare(ufunc, kind)
        compare_scalar(ufunc)
    print(ufuncs.isa)
