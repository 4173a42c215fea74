"""Sizes that the kernels and their callers share."""

cdef enum:
    LANES = 16                       # parts of a sum, so that its order is that of all instruction sets
    WIDTH = 32                       # rows side by side in a call, at most
