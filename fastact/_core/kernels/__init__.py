"""The kernels: one extension module per instruction set, all compiled from `kernels.pxi`."""
