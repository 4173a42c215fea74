from contextlib import AbstractContextManager
from typing import Any, Literal, SupportsIndex, TypeAlias

from numpy import ufunc
from numpy.typing import ArrayLike, DTypeLike, NDArray

__all__ = [
    "get_num_threads",
    "leaky_relu",
    "leaky_relu_backward",
    "num_threads",
    "release_buffers",
    "relu",
    "relu_backward",
    "set_buffer_limit",
    "set_num_threads",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_backward_from_output",
]
__version__: str

_Out: TypeAlias = NDArray[Any] | tuple[NDArray[Any]] | None
_Casting: TypeAlias = Literal["no", "equiv", "safe", "same_kind", "unsafe"]
_Order: TypeAlias = Literal["K", "A", "C", "F"]

# `ufunc` is final to type checkers; NumPy's stubs derive from it in this way, too.
# The results are Any, as in NumPy's own stubs: an array, a scalar, or what the
# __array_ufunc__ of an operand makes of the call.

class _Unary(ufunc):  # type: ignore[misc]
    def __call__(
        self,
        x: ArrayLike,
        /,
        out: _Out = None,
        *,
        where: ArrayLike = True,
        casting: _Casting = "same_kind",
        order: _Order = "K",
        dtype: DTypeLike | None = None,
        subok: bool = True,
        signature: Any = None,
    ) -> Any: ...

class _UnaryWithSlope(ufunc):  # type: ignore[misc]
    def __call__(
        self,
        x: ArrayLike,
        /,
        negative_slope: ArrayLike = 0.01,
        out: _Out = None,
        *,
        where: ArrayLike = True,
        casting: _Casting = "same_kind",
        order: _Order = "K",
        dtype: DTypeLike | None = None,
        subok: bool = True,
        signature: Any = None,
    ) -> Any: ...

class _Backward(ufunc):  # type: ignore[misc]
    def __call__(
        self,
        grad: ArrayLike,
        x: ArrayLike,
        /,
        out: _Out = None,
        *,
        where: ArrayLike = True,
        casting: _Casting = "same_kind",
        order: _Order = "K",
        dtype: DTypeLike | None = None,
        subok: bool = True,
        signature: Any = None,
    ) -> Any: ...

class _BackwardWithSlope(ufunc):  # type: ignore[misc]
    def __call__(
        self,
        grad: ArrayLike,
        x: ArrayLike,
        /,
        negative_slope: ArrayLike = 0.01,
        out: _Out = None,
        *,
        where: ArrayLike = True,
        casting: _Casting = "same_kind",
        order: _Order = "K",
        dtype: DTypeLike | None = None,
        subok: bool = True,
        signature: Any = None,
    ) -> Any: ...

relu: _Unary
leaky_relu: _UnaryWithSlope
sigmoid: _Unary
relu_backward: _Backward
leaky_relu_backward: _BackwardWithSlope
sigmoid_backward: _Backward
sigmoid_backward_from_output: _Backward

def get_num_threads() -> int: ...
def set_num_threads(n: SupportsIndex) -> int: ...
def num_threads(n: SupportsIndex) -> AbstractContextManager[None]: ...
def set_buffer_limit(n: int) -> int: ...
def release_buffers() -> int: ...
