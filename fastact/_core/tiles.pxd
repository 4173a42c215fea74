"""What the tiles module offers to the modules above it."""

from fastact._core.kernel cimport Kernel

cdef inline bint by_columns(Py_ssize_t row_step, Py_ssize_t column_step) noexcept nogil:
    """Whether a matrix lies closer along its columns. No squares: strides may be huge."""
    return (row_step if row_step > 0 else -row_step) < (column_step if column_step > 0 else -column_step)

cdef void run_tiles(
    const Kernel *kernel, char **args, Py_ssize_t rows, Py_ssize_t columns,
    const Py_ssize_t *row_steps, const Py_ssize_t *column_steps
) noexcept nogil
