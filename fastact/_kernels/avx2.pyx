"""The kernels, compiled for the row `avx2` of `fastact._targets`."""

include "kernels.pxi"
