"""The kernels, compiled for the row `baseline` of `fastact._core.targets`."""

include "kernels.pxi"
