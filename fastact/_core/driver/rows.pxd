"""C interface of the rows module."""

cimport numpy as cnp

from fastact._core.driver.kernel cimport Kernel

cdef void rows_loop(
    char **args, const cnp.npy_intp *dimensions, const cnp.npy_intp *steps, void *data
) noexcept nogil

cdef void run_rows(
    const Kernel *kernel, char **args, Py_ssize_t rows, const Py_ssize_t *row_steps,
    Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil

cdef void open_room() noexcept nogil

cdef void close_room() noexcept nogil
