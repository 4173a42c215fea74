"""The kernels: one extension module per instruction set, all from `kernels.pxi`."""
