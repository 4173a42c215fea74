"""The kernels, compiled for the row `baseline` of `fastact._targets`."""

include "kernels.pxi"
