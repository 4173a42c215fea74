"""C interface of the tiles module."""

from fastact._core.kernel cimport Kernel

cdef inline bint by_columns(Py_ssize_t row_step, Py_ssize_t column_step) noexcept nogil:
    """Whether the stride along a column is the smaller one, as in column-major order.

    Absolute values are compared, because squares of large strides would overflow.
    """
    return (row_step if row_step > 0 else -row_step) < (column_step if column_step > 0 else -column_step)

cdef void run_tiles(
    const Kernel *kernel, char **args, Py_ssize_t rows, Py_ssize_t columns,
    const Py_ssize_t *row_steps, const Py_ssize_t *column_steps
) noexcept nogil
