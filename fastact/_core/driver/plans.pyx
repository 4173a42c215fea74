"""Calls on arrays of one type, of any shapes that broadcast together and any strides.

Design
------
As in NumPy's own iterator, the shapes are broadcast, the dimensions are ordered by stride, and
adjacent dimensions that are contiguous in every operand are merged. So most calls have one or two
dimensions when they reach the engine. A new result gets the layout of ``order="K"``: that of the
operands, without gaps and without negative strides.

What this module cannot do, it leaves to NumPy's call, before anything is written: operands of which
one overlaps the output, results without dimensions, and shapes that do not fit.
"""

cimport numpy as cnp

from fastact._core.driver.blocks cimport magnitude
from fastact._core.driver.engine cimport MAX_DIMS, Plan, run, run_matrices
from fastact._core.driver.kernel cimport Kernel
from fastact._core.runtime.arrays cimport (
    PyArray_BYTES, PyArray_DIMS, PyArray_NDIM, PyArray_STRIDES, PyArray_TYPE, PyArrayObject,
)
from fastact._core.runtime.memory cimport new_array
from fastact._core.runtime.threads cimport RELEASE

cnp.import_array()

cdef bint broadcast(PyArrayObject **operands, int count, PyArrayObject *out, Plan *plan) noexcept:
    """Fill in the dimensions and steps, the last dimension first. False if the shapes do not fit.

    The first `count` operands are inputs. NULL stands for a single value. `out` may be NULL.
    """
    cdef int i, k, ndim
    cdef Py_ssize_t length
    plan.ndim = 0
    plan.n = 1
    for i in range(count):
        if operands[i] != NULL:
            plan.ndim = max(plan.ndim, PyArray_NDIM(operands[i]))
    if plan.ndim == 0 or (out != NULL and PyArray_NDIM(out) != plan.ndim):
        return False
    for k in range(plan.ndim):
        plan.dims[k] = 1
        for i in range(count):
            ndim = PyArray_NDIM(operands[i]) if operands[i] != NULL else 0
            length = PyArray_DIMS(operands[i])[ndim - 1 - k] if k < ndim else 1
            plan.steps[k][i] = PyArray_STRIDES(operands[i])[ndim - 1 - k] if length != 1 else 0
            if length != 1:
                if plan.dims[k] != 1 and plan.dims[k] != length:
                    return False
                plan.dims[k] = length
        plan.steps[k][count] = 0
        if out != NULL:
            if PyArray_DIMS(out)[plan.ndim - 1 - k] != plan.dims[k]:
                return False
            if plan.dims[k] != 1:
                plan.steps[k][count] = PyArray_STRIDES(out)[plan.ndim - 1 - k]
        plan.n *= plan.dims[k]
    return plan.n > 0


cdef int order(const Plan *plan, int operands, int a, int b) noexcept nogil:
    """How dimensions a and b compare: 1 if a lies within b, -1 if b lies within a, 0 if unknown.

    If operands disagree, b lies within a; `a` comes first in C order then.
    """
    cdef int i, found = 0
    for i in range(operands):
        if plan.steps[a][i] and plan.steps[b][i]:
            if magnitude(plan.steps[b][i]) <= magnitude(plan.steps[a][i]):
                found = -1
            elif found == 0:
                found = 1
    return found


cdef void sort(const Plan *plan, int operands, int *axes) noexcept nogil:
    """Order the dimensions from the innermost to the outermost, as NumPy's iterator does.

    This is its insertion sort (`npyiter_find_best_axis_ordering`), because the comparison is no
    total order, and because the strides of a new result follow from it.
    """
    cdef int i, j, place, axis, found
    for i in range(plan.ndim):
        axes[i] = i
    for i in range(1, plan.ndim):
        axis, place = axes[i], i
        for j in range(i - 1, -1, -1):
            found = order(plan, operands, axis, axes[j])
            if found > 0:
                place = j
            elif found < 0:
                break
        for j in range(i, place, -1):
            axes[j] = axes[j - 1]
        axes[place] = axis


cdef object new_result(Plan *plan, int nin, const int *axes, int type_number, Py_ssize_t item):
    """A new array in which the dimensions lie in the order of `axes`."""
    cdef cnp.npy_intp dims[MAX_DIMS]
    cdef cnp.npy_intp strides[MAX_DIMS]
    cdef Py_ssize_t step = item
    cdef int i
    for i in range(plan.ndim):
        strides[plan.ndim - 1 - axes[i]] = step
        if plan.dims[axes[i]] != 1:
            plan.steps[axes[i]][nin] = step
        step *= plan.dims[axes[i]]
    for i in range(plan.ndim):
        dims[i] = plan.dims[plan.ndim - 1 - i]
    return new_array(plan.ndim, dims, strides, False, type_number, step)


cdef void merge(const Plan *source, int operands, const int *axes, Plan *plan) noexcept nogil:
    """Write the dimensions in the order of `axes`, and merge adjacent ones that are contiguous.

    The steps of the output become positive: `plan.data`, which is given, moves to the element of the
    lowest address of the output.
    """
    cdef int i, j, k
    cdef bint one
    plan.ndim, plan.n = 0, source.n
    for j in range(source.ndim):
        k = axes[j]
        if source.dims[k] == 1 and (plan.ndim or j < source.ndim - 1):
            continue
        one = plan.ndim > 0
        for i in range(operands):
            plan.steps[plan.ndim][i] = source.steps[k][i]
            if source.steps[k][operands - 1] < 0:
                plan.data[i] += (source.dims[k] - 1) * source.steps[k][i]
                plan.steps[plan.ndim][i] = -source.steps[k][i]
            if one and plan.steps[plan.ndim][i] != (
                    plan.steps[plan.ndim - 1][i] * plan.dims[plan.ndim - 1]):
                one = False
        if one:
            plan.dims[plan.ndim - 1] *= source.dims[k]
        else:
            plan.dims[plan.ndim] = source.dims[k]
            plan.ndim += 1


cdef bint distinct(const Plan *plan, int nin, Py_ssize_t item) noexcept nogil:
    """Whether no two elements of the output share memory: each dimension steps over all within it.

    Conservative: False for some layouts of which that is true.
    """
    cdef Py_ssize_t step, extent
    cdef int j, k
    for k in range(plan.ndim):
        step, extent = plan.steps[k][nin], item
        for j in range(plan.ndim):
            if j != k and plan.steps[j][nin] <= step:
                extent += (plan.dims[j] - 1) * plan.steps[j][nin]
        if step < extent and plan.dims[k] > 1:
            return False
    return True


cdef bint apart(const Plan *plan, int nin, Py_ssize_t item) noexcept nogil:
    """Whether each input is the output itself, or lies where the output does not extend.

    The answer may be False although they share no element, as for columns of one array.
    """
    cdef Py_ssize_t low, high, span
    cdef Py_ssize_t start = <Py_ssize_t> plan.data[nin], stop = start + item
    cdef int i, k
    cdef bint same
    for k in range(plan.ndim):
        stop += (plan.dims[k] - 1) * plan.steps[k][nin]
    for i in range(nin):
        same = plan.data[i] == plan.data[nin]
        low, high = <Py_ssize_t> plan.data[i], <Py_ssize_t> plan.data[i] + item
        for k in range(plan.ndim):
            span = (plan.dims[k] - 1) * plan.steps[k][i]
            low += min(0, span)
            high += max(0, span)
            same = same and plan.steps[k][i] == plan.steps[k][nin]
        if not same and low < stop and start < high:
            return False
    return True


cdef inline void run_merged(Plan *plan, bint alone) noexcept nogil:
    if plan.ndim == 1:
        run(plan.kernel, plan.data, plan.n, plan.steps[0], alone)
    else:
        run_matrices(plan, alone)


cdef bint run_alone_on(
    const Kernel *kernel, int ndim, const Py_ssize_t *shape, char **operands, const Py_ssize_t *strides
) noexcept nogil:
    """Apply a kernel to arrays on the calling thread: for the compiled API.

    Parameters
    ----------
    kernel : pointer to Kernel
    ndim, shape : those of the result; no dimension is 0
    operands : addresses, which must be aligned; the output is last
    strides : `ndim` strides in bytes for each operand

    Returns
    -------
    bool
        False if an input overlaps the output without being the output. Nothing has been written then.
    """
    cdef Plan given, plan
    cdef int axes[MAX_DIMS]
    cdef int i, k, count = kernel.nin + 1
    plan.kernel, given.ndim, given.n = kernel, ndim, 1
    for k in range(ndim):
        given.dims[k] = shape[ndim - 1 - k]
        given.n *= given.dims[k]
    if ndim == 0:                                    # as an array of one
        given.ndim = given.dims[0] = 1
    for i in range(count):
        plan.data[i] = operands[i]
        given.steps[0][i] = 0
        for k in range(ndim):
            given.steps[k][i] = strides[i * ndim + ndim - 1 - k] if given.dims[k] != 1 else 0
    sort(&given, count, axes)
    merge(&given, count, axes, &plan)
    if not apart(&plan, kernel.nin, kernel.item):
        return False
    run_merged(&plan, True)
    return True


cdef object run_arrays(const Kernel *kernel, void **operands, char **values, void *out):
    """Apply a kernel to arrays that are aligned, native and of one type.

    Parameters
    ----------
    kernel : pointer to Kernel
    operands : PyArrayObject pointers; NULL for a single value
    values : addresses of the single values
    out : PyArrayObject pointer, or NULL for a new array

    Returns
    -------
    ndarray or None
        None if NumPy has to make the call. Nothing has been written then.
    """
    cdef Plan given, plan
    cdef PyArrayObject **arrays = <PyArrayObject **> operands
    cdef int axes[MAX_DIMS]
    cdef int i, nin = kernel.nin, type_number = 0
    cdef object result
    if not broadcast(arrays, nin, <PyArrayObject *> out, &given):
        return None
    plan.kernel = kernel
    for i in range(nin):
        plan.data[i] = PyArray_BYTES(arrays[i]) if arrays[i] != NULL else values[i]
        if arrays[i] != NULL:
            type_number = PyArray_TYPE(arrays[i])
    if out != NULL:
        sort(&given, nin + 1, axes)
        result = <object> out
    else:
        sort(&given, nin, axes)
        result = new_result(&given, nin, axes, type_number, kernel.item)
    plan.data[nin] = PyArray_BYTES(<PyArrayObject *> result)
    merge(&given, nin + 1, axes, &plan)
    if out != NULL and not (
            distinct(&plan, nin, kernel.item) and apart(&plan, nin, kernel.item)):
        return None
    if plan.n < RELEASE:
        run_merged(&plan, False)
    else:
        with nogil:
            run_merged(&plan, False)
    return result
