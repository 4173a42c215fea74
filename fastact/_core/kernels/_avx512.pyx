"""The kernels, compiled for the row `avx512` of `fastact._core.targets`."""

include "kernels.pxi"
