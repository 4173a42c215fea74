"""The formulas, one .pxd per activation, which the kernels are compiled from.

Each file begins with the same three lines, before it derives anything. ``Method:`` says how the
result is computed. ``Error:`` has the largest errors measured, in ULP: those of gradients are for
any `grad`, in 16 bits for a `grad` of 1, and docs/accuracy.md has the commands. ``Range:`` has that
of the results, and the special values.

They are private and not installed. Compiled code outside of fastact calls `fastact.cy`, which keeps
the bits of the ufuncs whatever the compiler flags of the caller.
"""
