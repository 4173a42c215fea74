"""The kernels, compiled for the row `avx2` of `fastact._core.targets`."""

include "kernels.pxi"
