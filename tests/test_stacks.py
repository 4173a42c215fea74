"""How much of a thread's stack a call takes: threads may have small ones.

A frame of more than a page can step over the guard page of a stack, into memory of others. A
program measures by how much each call takes more than NumPy's for the same operands: it gives the
pages below the frame of the caller back, and asks which of them are there after the call.
"""

import ctypes
import os
import sys
import threading
from mmap import PAGESIZE

import numpy as np
import pytest
from compiled.pointers import function
from programs import output

import fastact
from fastact.layers import GELU, Linear, Sequential, Softmax
from fastact.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss

LIMIT = 32 << 10
"""Bytes that a call may take."""


def measured(call):
    """Bytes from the end of a new thread's stack to the lowest page that is in use after a call."""
    libc = ctypes.CDLL(None)
    libc.pthread_self.restype = ctypes.c_void_p
    low, size, result = ctypes.c_void_p(), ctypes.c_size_t(), []

    def lowest(start, pages):
        there = (ctypes.c_ubyte * pages)()
        assert libc.mincore(ctypes.c_void_p(start), ctypes.c_size_t(pages * PAGESIZE), there) == 0
        return next(page for page in range(pages) if there[page] & 1)

    def work():
        attributes = (ctypes.c_byte * 256)()
        assert libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes) == 0
        libc.pthread_attr_getstack(attributes, ctypes.byref(low), ctypes.byref(size))
        start, pages = low.value + -low.value % PAGESIZE, size.value // PAGESIZE - 1
        unused = lowest(start, pages) * PAGESIZE
        assert libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(unused), 4) == 0  # DONTNEED
        call()
        result.append((pages - lowest(start, pages)) * PAGESIZE)

    call()  # what is done once in a process is done
    threading.stack_size(1 << 20)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return result[0]


def ufunc_calls(ufunc, x, y, numpy_call):
    """Calls of one ufunc on `x`, and of NumPy's on `y` in the same layouts, by name."""
    rows = ufunc.signature is not None
    for name, layout in {
        "contiguous": lambda x: x,
        "strided": lambda x: x[:, ::2],
        "transposed": lambda x: x.T,
        "short rows": lambda x: x.reshape(-1, 10),
        "short columns": lambda x: x.reshape(-1, 10)[:, ::-1],
        "long rows": lambda x: x.reshape(2, -1)[:, ::-2],
        "one row": lambda x: x.ravel()[::3],
        "swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    }.items():
        a, b = layout(x), layout(y)
        yield name, lambda a=a: ufunc(*[a] * ufunc.nin), lambda b=b: numpy_call(b, b)
        if rows:
            yield (
                f"{name} along the first axis",
                lambda a=a: ufunc(*[a] * ufunc.nin, axis=0),
                lambda b=b: numpy_call(b, b, axis=0),
            )


def other_calls(x):
    """Calls of layers, losses and the compiled API, and one of NumPy's to compare with."""
    nothing = lambda: np.matmul(x[:, :8], x[:8, :8])  # noqa: E731
    model = Sequential(Linear(x.shape[1], 8, GELU(), seed=1), Softmax())
    grad = np.ones((len(x), 8), np.float32)

    def train():
        model.forward(x)
        model.backward(grad)

    yield "layers", train, nothing
    yield "one element", lambda: function("gelu", "scalar")(1.0), nothing
    out = np.empty_like(x)
    yield (
        "compiled",
        lambda: function("gelu_tanh", "f32")(x.ctypes.data, out.ctypes.data, x.size),
        nothing,
    )
    labels = np.zeros(len(x), np.intp)
    for loss, target in (
        (MSELoss(), x),
        (BCEWithLogitsLoss(), np.ones_like(x)),
        (CrossEntropyLoss(), labels),
        (CrossEntropyLoss(), np.full_like(x, 1 / x.shape[1])),
    ):

        def compute(loss=loss, target=target, x=x):
            loss.forward(x, target)
            loss.backward()

        yield f"{loss} {target.ndim}", compute, nothing
        yield (
            f"{loss} {target.ndim} strided",
            lambda c=compute, t=target: c(x=x[:, ::2], target=t[:, ::2] if t.ndim > 1 else t),
            nothing,
        )


def report():
    """Print what takes more than it may, and the most that any call takes."""
    numbers = np.linspace(-1, 1, 64 * 300).reshape(64, 300)
    found = {}
    types = [np.float16, np.float32, np.float64]
    try:
        import ml_dtypes
    except ImportError:
        pass
    else:
        types.append(ml_dtypes.bfloat16)
    for dtype in types:
        x = numbers.astype(dtype)
        for name in fastact.__all__:
            ufunc = getattr(fastact, name)
            if not isinstance(ufunc, np.ufunc):
                continue
            # NumPy has no vecdot of bfloat16.
            same = x if dtype in types[:3] else numbers
            base = np.vecdot if ufunc.signature else np.add
            for kind, call, numpy_call in ufunc_calls(ufunc, x, same, base):
                found[f"{name} {np.dtype(dtype)} {kind}"] = measured(call) - measured(numpy_call)
    for name, call, numpy_call in other_calls(numbers.astype(np.float32)):
        found[name] = measured(call) - measured(numpy_call)
    for name, size in found.items():
        if size > LIMIT:
            print(name, size)
    print(len(found), "calls, at most", max(found.values()))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for pages")
@pytest.mark.skipif("ASAN_OPTIONS" in os.environ, reason="AddressSanitizer makes larger frames")
def test_no_call_takes_much_of_a_stack(isa):
    said = output("import test_stacks; test_stacks.report()", FASTACT_ISA=isa)
    *found, summary = said.splitlines()
    assert not found, f"{found}; {summary}"
