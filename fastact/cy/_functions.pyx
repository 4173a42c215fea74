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
from libc.stdlib cimport llabs

from fastact._core.engine cimport UNALIGNED, run_alone
from fastact._core.flags cimport flags_t, restore_flags, save_flags
from fastact._core.kernel cimport MAX_INPUTS, Kernel, call
from fastact._core.ufuncs cimport TYPES, kernel_of

from fastact._core import operations, ufuncs

cdef extern from "fastact.h":
    cdef enum:
        FASTACT_COUNT

cdef enum:
    MAX_DIMENSIONS = 64

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
        run_alone(members[index].kernel, operands, n, members[index].steps)


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
    cdef Py_ssize_t lengths[MAX_DIMENSIONS]
    cdef Py_ssize_t index[MAX_DIMENSIONS]
    cdef Py_ssize_t steps[MAX_DIMENSIONS][MAX_INPUTS + 1]
    cdef char *here[MAX_INPUTS + 1]
    cdef char *low
    cdef char *high
    cdef char *out_low = NULL
    cdef char *out_high = NULL
    cdef Py_ssize_t span
    cdef int i, k, dim, axis, nin, used
    cdef bint backwards, joined, identical
    if 0 <= position < TABLE.count and 0 <= type_number < TYPES and ndim <= MAX_DIMENSIONS:
        kernel = members[position].by_type[type_number]
    if kernel == NULL:
        return UNKNOWN
    nin = kernel.nin
    for dim in range(ndim):
        if shape[dim] <= 0:
            return DONE
    for k in range(nin, -1, -1):
        low = high = operands[k]
        identical = True
        for dim in range(ndim):
            span = (shape[dim] - 1) * strides[k * ndim + dim]
            low += min(0, span)
            high += max(0, span)
            if shape[dim] > 1 and strides[k * ndim + dim] != strides[nin * ndim + dim]:
                identical = False
        high += kernel.item
        if k == nin:
            out_low, out_high = low, high
        elif low < out_high and out_low < high and not (identical and operands[k] == operands[nin]):
            return OVERLAP
    # The innermost dimension first: that of the smallest stride of the output, the last or the
    # first one. Dimensions are joined where the elements of all operands are evenly spaced.
    backwards = ndim > 1 and llabs(strides[nin * ndim]) < llabs(strides[nin * ndim + ndim - 1])
    used, lengths[0] = 1, 1
    for k in range(nin + 1):
        steps[0][k] = kernel.item
    for i in range(ndim):
        dim = i if backwards else ndim - 1 - i
        if shape[dim] == 1:
            continue
        joined = True
        for k in range(nin + 1):
            if strides[k * ndim + dim] != steps[used - 1][k] * lengths[used - 1]:
                joined = False
        if lengths[used - 1] > 1:                    # or else there is no dimension to join yet
            if joined:
                lengths[used - 1] *= shape[dim]
                continue
            used += 1
        lengths[used - 1] = shape[dim]
        index[used - 1] = 0
        for k in range(nin + 1):
            steps[used - 1][k] = strides[k * ndim + dim]
    for k in range(nin + 1):
        here[k] = operands[k]
    while True:
        run_alone(kernel, here, lengths[0], steps[0])
        axis = 1
        while axis < used:
            index[axis] += 1
            for k in range(nin + 1):
                here[k] += steps[axis][k]
            if index[axis] < lengths[axis]:
                break
            for k in range(nin + 1):
                here[k] -= lengths[axis] * steps[axis][k]
            index[axis] = 0
            axis += 1
        if axis >= used:
            return DONE


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
POSITIONS = {name: i for i, (name, kind) in enumerate(MEMBERS) if kind == "f32"}
