"""The compiled API: the functions of fastact for Cython, C, C++, numba and SciPy.

In Cython, ``from fastact.cy cimport sigmoid_f32``. In C and C++, include ``fastact.h``, which is in
the folder that `fastact.get_include` returns. docs/compiled.md describes them.
"""

from fastact.cy._functions import _C_API, __pyx_capi__

__all__ = ["_C_API", "__pyx_capi__"]
