"""The formulas, one .pxd per activation, which the kernels are compiled from.

They are private and not installed. Compiled code outside of fastact calls `fastact.cy`, which keeps
the bits of the ufuncs whatever the compiler flags of the caller.
"""
