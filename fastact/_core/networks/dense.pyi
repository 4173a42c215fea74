from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from fastact._core.networks.pools import Pool

@disjoint_base
class Dense:
    weight: NDArray[Any]
    bias: NDArray[Any]
    weight_gradient: NDArray[Any]
    bias_gradient: NDArray[Any]
    pool: Pool
    columns: int
    inputs: int
    x: Any
    kept: Any
    shape: Any
    x_shape: Any
    def __init__(
        self,
        weight: NDArray[Any],
        bias: NDArray[Any],
        function: np.ufunc | None = None,
        gradient: np.ufunc | None = None,
        operand: float | None = None,
        keeps_input: bool = False,
        table: dict[str, Any] | None = None,
    ) -> None: ...
    def __call__(self, x: NDArray[Any]) -> NDArray[Any]: ...
    @property
    def fused(self) -> bool: ...
    def takes(self, x: Any) -> bool: ...
    def takes_gradient(self, grad: Any) -> bool: ...
    def overwrites(self, array: NDArray[Any]) -> bool: ...
    def forget(self) -> None: ...
    def forward(self, x: NDArray[Any]) -> NDArray[Any]: ...
    def start(self, x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]: ...
    def keep(self, x_matrix: Any, x_shape: Any, shape: Any, kept: Any) -> None: ...
    def saved(self, grad: NDArray[Any]) -> tuple[Any, ...]: ...
    def backward(
        self,
        grad: NDArray[Any],
        input_gradient: bool,
        saved: tuple[Any, ...] | None = None,
    ) -> NDArray[Any] | None: ...
