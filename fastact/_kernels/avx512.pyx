"""The kernels, compiled for the row `avx512` of `fastact._targets`."""

include "kernels.pxi"
