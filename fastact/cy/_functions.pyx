"""The functions of the compiled API, over the kernels of the instruction set chosen at import.

Design
------
Each function hands its operands to the engine, on the calling thread. Cython finds the functions by
their names in `__pyx_capi__`, C and C++ by their positions in the table behind the capsule
`_C_API`, and numba through `run_arrays`, which knows an operation by the position of its `_f32`
function. The positions never change, because the code that uses them was compiled earlier, with an
earlier version of fastact.
"""

cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport intptr_t

from fastact._core.calls.ufunc_data cimport TYPES
from fastact._core.driver.engine cimport MAX_DIMS, UNALIGNED, run
from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel, call
from fastact._core.driver.plans cimport run_alone_on
from fastact._core.runtime.flags cimport flags_t, restore_flags, save_flags
from fastact._core.ufuncs cimport kernel_of

from fastact._core import operations, ufuncs

cdef extern from "fastact.h":
    cdef enum:
        FASTACT_COUNT

cdef struct Member:
    # What a function of the table runs.
    const Kernel *kernel
    void *loop
    Py_ssize_t steps[MAX_INPUTS + 1]
    const Kernel *by_type[TYPES]       # of an _f32 function: the kernels of all types

cdef Member members[FASTACT_COUNT]


cdef inline void apply(int index, int nin, char **operands, Py_ssize_t n) noexcept nogil:
    cdef flags_t flags
    if n <= 0:
        return
    if n < UNALIGNED:                                # the engine would do no more, 10 ns later
        flags = save_flags()
        call(members[index].loop, nin, operands, n)
        restore_flags(flags)
    else:
        run(members[index].kernel, operands, n, members[index].steps, True)


ctypedef double (*scalar_t)(double x) noexcept nogil


cdef int activated_sum(double *window, intptr_t n, double *result, void *activation) noexcept nogil:
    """Apply a function such as `sigmoid_scalar` to the sum of a window: for scipy.ndimage."""
    cdef double total = 0
    cdef intptr_t i
    for i in range(n):
        total += window[i]
    result[0] = (<scalar_t> activation)(total)
    return 1


include "_functions.pxi"           # written by setup.py, from the table of operations


# ------------------------------------------------------------------------- numba

cdef enum:
    # What `run_arrays` returns.
    DONE = 0
    OVERLAP = 1
    UNKNOWN = 2


cdef int run_arrays(
    int position, int type_number, int ndim, const Py_ssize_t *shape,
    char **operands, const Py_ssize_t *strides
) noexcept nogil:
    """Apply an operation to arrays of any strides.

    Parameters
    ----------
    position : position of the `_f32` function of the operation in the table
    type_number : NumPy's number of the type of all operands
    ndim, shape : those of the result
    operands : addresses, which must be aligned; the output is last
    strides : `ndim` strides in bytes for each operand

    Returns
    -------
    DONE, or else nothing was done: OVERLAP if the output shares memory with an input without being
    identical to it, UNKNOWN if there is no such operation, or not for this type.
    """
    cdef const Kernel *kernel = NULL
    cdef int dim
    if 0 <= position < TABLE.count and 0 <= type_number < TYPES and ndim <= MAX_DIMS:
        kernel = members[position].by_type[type_number]
    if kernel == NULL:
        return UNKNOWN
    for dim in range(ndim):
        if shape[dim] <= 0:
            return DONE
    return DONE if run_alone_on(kernel, ndim, shape, operands, strides) else OVERLAP


# ------------------------------------------------------------------------- table

cdef int fill() except -1:
    cdef int i, type_number, nin
    cdef bint parameter
    for i, (name, kind) in enumerate(MEMBERS):
        if name is None:
            continue
        operation, ufunc = operations.BY_NAME[name], ufuncs.ufuncs[name]
        nin, parameter = len(operation.operands), operation.parameter is not None
        members[i].kernel = kernel_of(ufunc, cnp.NPY_FLOAT if kind == "f32" else cnp.NPY_DOUBLE, nin)
        if members[i].kernel == NULL:
            raise SystemError(f"{name} has no kernel for {kind}")
        for k in range(nin + 1):
            members[i].steps[k] = members[i].kernel.item
        members[i].loop = members[i].kernel.loop
        if parameter:
            members[i].loop = members[i].kernel.shared_loop
            members[i].steps[nin - 1] = 0
        if kind == "f32":
            for type_number in range(TYPES):
                members[i].by_type[type_number] = kernel_of(ufunc, type_number, nin)
    return 0


fill()
TABLE.abi, TABLE.count, TABLE.version = FASTACT_ABI, FASTACT_COUNT, FASTACT_VERSION
_C_API = PyCapsule_New(&TABLE, "fastact.cy._C_API", NULL)
# The number in the name is raised with the parameters: cached code of numba calls what it knows.
RUN_ARRAYS = PyCapsule_New(<void *> run_arrays, "fastact_run_arrays_1", NULL)
NO_OPERATION = UNKNOWN
POSITIONS = {name: i for i, (name, kind) in enumerate(MEMBERS) if kind == "f32"}
