"""Registration of the loops for bfloat16, a type that NumPy does not have."""

import os
import sys
import threading

cimport numpy as cnp

from fastact._core.calls.ufunc_data cimport PyUFuncObject, UfuncData, data_of
from fastact._core.driver.kernel cimport MAX_INPUTS
from fastact._core.runtime.locks cimport load, store

import numpy as np

cnp.import_array()
cnp.import_ufunc()

cdef extern from "numpy/ufuncobject.h":
    int PyUFunc_RegisterLoopForType(
        PyUFuncObject *ufunc, int usertype, cnp.PyUFuncGenericFunction function,
        const int *arg_types, void *data) except -1

_made = []                        # all ufuncs; never freed
cdef dict _modules = sys.modules
cdef object _registration = threading.RLock()    # held where they are registered
bfloat16_type = -1


cdef int add_ufunc(object ufunc) except -1:
    """Give a new ufunc its bfloat16 loop, now or once there are bfloat16 arrays."""
    with _registration:
        if bfloat16_type >= 0:
            add_bfloat16(ufunc, bfloat16_type)
        _made.append(ufunc)
    return 0


cdef int add_bfloat16(object ufunc, int type_number) except -1:
    """Register the bfloat16 loop of a ufunc."""
    cdef UfuncData *data = data_of(ufunc)
    cdef int[MAX_INPUTS + 1] types
    cdef int i
    for i in range(data.nin + 1):
        types[i] = type_number
    return PyUFunc_RegisterLoopForType(
        <PyUFuncObject *> ufunc, type_number, data.loop, types, &data.bfloat16)


cdef int look_for_bfloat16() except -1:
    """Do what `find_bfloat16` does, once there may be bfloat16 arrays."""
    if load(&bfloat16_type) < 0 and "ml_dtypes" in _modules:
        find_bfloat16()
    return 0


cdef int find_bfloat16() except -1:
    """Register the bfloat16 loops of all ufuncs once ml_dtypes has been imported.

    bfloat16 arrays do not exist before that. Without these loops, NumPy would cast them to
    float32, as ml_dtypes allows.
    """
    # The attribute is missing during the import of ml_dtypes. The module may also be a mock.
    try:
        bfloat16 = _modules["ml_dtypes"].bfloat16
        dtype = np.dtype(bfloat16 if issubclass(bfloat16, np.generic) else None)
    except Exception:
        return 0
    if dtype.isbuiltin != 2 or dtype.name != "bfloat16":     # 2: a user-defined dtype
        return 0
    with _registration:
        if bfloat16_type < 0:
            for ufunc in _made:
                add_bfloat16(ufunc, dtype.num)
            store(&bfloat16_type, dtype.num)     # last: a thread that reads it finds the loops
    return 0


def _renew_registration():
    """In a forked child, a lock that another thread held would be held for ever."""
    global _registration
    _registration = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_registration)
if "ml_dtypes" in _modules:                          # else the first call finds it; methods do not look
    find_bfloat16()
