"""What the build writes from the table of operations: the loops of the kernels, and the stub.

`setup.py` calls this before it compiles. A loop does nothing but apply a formula to consecutive
elements, and a stub nothing but name the operands, so that there is nothing about them to be
decided anew for each operation. It runs before anything is built, and so imports nothing of
fastact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastact._core.operations import Operation

# Bits of infinity: what a formula over the bits of a 16-bit type is told of the type.
INFINITIES = {"f16": 0x7C00, "bf16": 0x7F80}
INTEGERS = tuple(f"{sign}{bits}" for sign in "iu" for bits in (8, 16, 32, 64))


# ------------------------------------------------------------------------- loops


def loops(operations: Sequence[Operation]) -> str:
    """Write Cython: a loop over each formula, and its entries in the kernel table.

    Parameters
    ----------
    operations : sequence of Operation

    Returns
    -------
    str
        To be included by `kernels.pxi`.
    """
    parts = ["# Written by setup.py from the table of operations. Do not edit.\n"]
    entries = []
    for operation in operations:
        name, operands = operation.name, operation.operands
        array = "number_array" if operation.integers else "real_array"
        parts.append(_loop(name, operands, array))
        kinds = ("f32", "f64", *(INTEGERS if operation.integers else ()))
        entries += [(f"{name}_{kind}", f"{name}[{kind}]") for kind in kinds]
        if operation.default is not None:
            parts.append(_loop(f"{name}_shared", operands, array, formula=name, shared=True))
            entries += [(f"{name}_shared_{kind}", f"{name}_shared[{kind}]") for kind in kinds]
        if operation.narrow == "own":
            parts.append(_loop(f"{name}_narrow", operands, "f32"))
            entries.append((f"{name}_narrow",) * 2)
        elif operation.narrow == "bits":
            for kind, infinity in INFINITIES.items():
                loop = f"{name}_{kind}"
                parts.append(
                    _loop(loop, operands, "u16", formula=f"{name}_half", last=f"{infinity:#x}")
                )
                entries.append((loop, loop))
    table = "".join(f'    "{entry}": entry(<void *> {loop}),\n' for entry, loop in entries)
    parts.append(f"TABLE.update({{\n{table}}})\n")
    return "\n\n".join(parts)


def _loop(
    name: str,
    operands: Sequence[str],
    array: str,
    formula: str | None = None,
    shared: bool = False,
    last: str | None = None,
) -> str:
    """Write one loop.

    Parameters
    ----------
    name : str
    operands : sequence of str
    array : str
        The type of the arrays.
    formula : str, optional
        `name` by default.
    shared : bool
        Whether the last operand is a single value.
    last : str, optional
        A last argument of the formula that is a constant.
    """
    arrays = ", ".join(f"{array} {operand}" for operand in (*operands, "out"))
    values = [f"{operand}[i]" for operand in operands]
    lines = [
        f"cdef void {name}(",
        f"    {arrays}, Py_ssize_t n",
        ") noexcept nogil:",
        "    cdef Py_ssize_t i",
    ]
    if shared:
        lines.append(f"    shared = {operands[-1]}[0]")
        values[-1] = "shared"
    if last is not None:
        values.append(last)
    lines += [
        "    for i in range(n):",
        f"        out[i] = formula.{formula or name}({', '.join(values)})",
        "",
    ]
    return "\n".join(lines)


# -------------------------------------------------------------------------- stub

_HEAD = '''\
"""The public names and their types. Written by setup.py from the table of operations."""

from contextlib import AbstractContextManager
from typing import Any, Literal, SupportsIndex, TypeAlias, TypedDict, Unpack

from numpy import ufunc
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
{names}]
__version__: str

def get_num_threads() -> int: ...
def set_num_threads(n: SupportsIndex) -> int: ...
def num_threads(n: SupportsIndex) -> AbstractContextManager[None]: ...
def set_buffer_limit(n: SupportsIndex) -> int: ...
def release_buffers() -> int: ...

_Out: TypeAlias = NDArray[Any] | tuple[NDArray[Any]] | None

class _Options(TypedDict, total=False):
    where: ArrayLike
    casting: Literal["no", "equiv", "safe", "same_kind", "unsafe"]
    order: Literal["K", "A", "C", "F"]
    dtype: DTypeLike | None
    subok: bool
    signature: Any

# `ufunc` is final to type checkers; NumPy's own stubs derive from it in this way, too. The
# results are Any, as in NumPy's stubs: an array, a scalar, or what the __array_ufunc__ of an
# operand makes of the call.
'''
_UFUNC = """
class _{name}(ufunc):  # type: ignore[misc]
    def __call__(
        self, {operands}, out: _Out = None, **options: Unpack[_Options]
    ) -> Any: ...

{name}: _{name}
"""
_OTHERS = (
    "get_num_threads",
    "num_threads",
    "release_buffers",
    "set_buffer_limit",
    "set_num_threads",
)


def stub(operations: Sequence[Operation]) -> str:
    """Write `fastact/__init__.pyi`.

    Parameters
    ----------
    operations : sequence of Operation

    Returns
    -------
    str
    """
    names = sorted([*_OTHERS, *(operation.name for operation in operations)])
    text = _HEAD.replace("{names}", "".join(f'    "{name}",\n' for name in names))
    for operation in operations:
        # By position, but that the last one can be named if it has a default.
        operands = [f"{operand}: ArrayLike" for operand in operation.operands]
        if operation.default is None:
            operands.append("/")
        else:
            operands[-1:] = ["/", f"{operands[-1]} = {operation.default}"]
        text += _UFUNC.format(name=operation.name, operands=", ".join(operands))
    return text
