from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from typing_extensions import disjoint_base

@disjoint_base
class MeanLoss:
    def __init__(self, name: str, table: dict[str, Any] | None = None) -> None: ...
    def __call__(
        self, prediction: NDArray[Any], target: NDArray[Any], gradient: NDArray[Any]
    ) -> float: ...

@disjoint_base
class SoftmaxLoss:
    def __init__(self, table: dict[str, Any] | None = None) -> None: ...
    def __call__(
        self, prediction: NDArray[Any], target: NDArray[Any], gradient: NDArray[Any]
    ) -> float | None: ...

@disjoint_base
class Descent:
    parameters: list[NDArray[Any]]
    gradients: list[NDArray[Any]]
    velocities: list[NDArray[Any]]
    def __init__(
        self,
        parameters: Sequence[NDArray[Any]],
        gradients: Sequence[NDArray[Any]],
        momentum: bool,
        table: dict[str, Any] | None = None,
    ) -> None: ...
    def step(self, rate: float, momentum: float) -> None: ...
