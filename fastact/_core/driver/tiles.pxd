"""C interface of the tiles module."""

from numpy cimport NPY_MAXDIMS

from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel

cdef enum:
    MAX_DIMS = NPY_MAXDIMS

cdef struct Layout:
    # Where the elements of all operands of a call are. The output is the last operand.
    int ndim
    Py_ssize_t n                                     # number of elements
    Py_ssize_t dims[MAX_DIMS]                        # the innermost first
    Py_ssize_t steps[MAX_INPUTS + 1][MAX_DIMS]       # in bytes; 0 where an operand is broadcast
    char *data[MAX_INPUTS + 1]

cdef void gather_tile(
    const Kernel *kernel, char *array, Py_ssize_t row_step, Py_ssize_t column_step,
    char *block, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil

cdef void scatter_tile(
    const Kernel *kernel, char *block, char *array, Py_ssize_t row_step, Py_ssize_t column_step,
    Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil

cdef void run_layout(const Kernel *kernel, Layout *layout, bint alone) noexcept nogil
