"""What the engine offers to the modules above it."""

ctypedef void (*convert_t)(void *source, void *target, Py_ssize_t n) noexcept nogil

ctypedef void (*transpose_t)(
    void *source, Py_ssize_t source_step, void *target, Py_ssize_t target_step,
    Py_ssize_t rows, Py_ssize_t columns) noexcept nogil

cdef struct Kernel:
    # One operation on one type.
    void *loop                # over contiguous operands of the type computed in
    void *shared_loop         # the same with the last input a single value, or NULL
    convert_t load            # from the type of the arrays to the type computed in,
    convert_t store           # and back; NULL where these are the same
    convert_t every_second    # copies every second element; NULL where there is none,
    transpose_t transpose     # copies rows to columns; likewise
    convert_t stream          # copies bytes past the cache; none: waits for them
    int nin
    Py_ssize_t item           # bytes of an element of the arrays
    Py_ssize_t block_item     # bytes of an element of the type computed in

cdef enum:
    MAX_INPUTS = 3

cdef void run(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil

cdef inline bint by_columns(Py_ssize_t row_step, Py_ssize_t column_step) noexcept nogil:
    """Whether a matrix lies closer along its columns. No squares: strides may be huge."""
    return (row_step if row_step > 0 else -row_step) < (column_step if column_step > 0 else -column_step)

cdef void run_tiles(
    const Kernel *kernel, char **args, Py_ssize_t rows, Py_ssize_t columns,
    const Py_ssize_t *row_steps, const Py_ssize_t *column_steps
) noexcept nogil

cdef void store_number(const Kernel *kernel, double value, void *target) noexcept nogil

ctypedef void (*share_t)(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

cdef void split(
    share_t work, void *context, Py_ssize_t n, Py_ssize_t unit, Py_ssize_t elements
) noexcept nogil
