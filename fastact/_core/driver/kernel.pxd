"""Definition of a kernel, how it is called, and how it is looked up in a kernel table."""

from cpython.pycapsule cimport PyCapsule_GetPointer

ctypedef void (*convert_t)(void *source, void *target, Py_ssize_t n) noexcept nogil

ctypedef void (*transpose_t)(
    void *source, Py_ssize_t source_step, void *target, Py_ssize_t target_step,
    Py_ssize_t rows, Py_ssize_t columns) noexcept nogil

ctypedef void (*unary_t)(void *a, void *out, Py_ssize_t n) noexcept nogil
ctypedef void (*binary_t)(void *a, void *b, void *out, Py_ssize_t n) noexcept nogil
ctypedef void (*ternary_t)(void *a, void *b, void *c, void *out, Py_ssize_t n) noexcept nogil

# Kernels over rows; `b` is NULL for an operation of one operand. Steps are in elements.
ctypedef void (*rows_t)(void *a, void *b, void *out, Py_ssize_t rows, Py_ssize_t n) noexcept nogil
ctypedef void (*columns_t)(
    void *a, void *b, void *out, const Py_ssize_t *steps, Py_ssize_t n, Py_ssize_t width) noexcept nogil

cdef enum:
    MAX_INPUTS = 3

cdef struct Kernel:
    # One operation on one type.
    void *loop                # loop over contiguous operands of the computation type
    void *shared_loop         # the same, but the last input is a single value; or NULL
    rows_t rows               # in place of `loop`, for an operation on rows: over contiguous rows,
    columns_t columns         # and over rows side by side
    convert_t load            # converts from the type of the arrays to the computation type,
    convert_t store           # and back; NULL if the two types are the same
    convert_t every_second    # copies every second element; NULL if not available
    transpose_t transpose     # copies rows to columns; NULL if not available
    convert_t stream          # copies bytes, bypassing the cache; for 0 bytes, waits for the stores
    int nin
    Py_ssize_t item           # size of an array element in bytes
    Py_ssize_t block_item     # size of an element of the computation type in bytes
    Py_ssize_t fit            # elements of that type that fit into a block


cdef inline void call(void *loop, int nin, char **args, Py_ssize_t n) noexcept nogil:
    if nin == 1:
        (<unary_t> loop)(args[0], args[1], n)
    elif nin == 2:
        (<binary_t> loop)(args[0], args[1], args[2], n)
    else:
        (<ternary_t> loop)(args[0], args[1], args[2], args[3], n)


cdef inline void call_rows(
    void *loop, int nin, char **args, Py_ssize_t rows, const Py_ssize_t *row_steps, Py_ssize_t n
) noexcept nogil:
    """Call a loop on each row of n elements, given the distances of the rows in bytes."""
    cdef char *a = args[0]
    cdef char *b = args[1]
    cdef char *c = args[2] if nin > 1 else NULL
    cdef char *d = args[3] if nin > 2 else NULL
    # The addresses stay in registers: that saves a tenth of the time of rows of 64 float32.
    for _ in range(rows):
        if nin == 1:
            (<unary_t> loop)(a, b, n)
        elif nin == 2:
            (<binary_t> loop)(a, b, c, n)
        else:
            (<ternary_t> loop)(a, b, c, d, n)
        a += row_steps[0]
        b += row_steps[1]
        if nin > 1:
            c += row_steps[2]
        if nin > 2:
            d += row_steps[3]


cdef inline void call_on_rows(
    const Kernel *kernel, char **args, Py_ssize_t rows, Py_ssize_t n
) noexcept nogil:
    """Call a kernel over rows of n elements that lie behind each other."""
    kernel.rows(args[0], args[1] if kernel.nin > 1 else NULL, args[kernel.nin], rows, n)


cdef inline bint all_steps(const Kernel *kernel, const Py_ssize_t *steps, Py_ssize_t step) noexcept nogil:
    """Whether the steps of all operands are the same."""
    cdef int i
    for i in range(kernel.nin + 1):
        if steps[i] != step:
            return False
    return True


cdef inline void *loop_of(dict table, str name) except NULL:
    """The address of a loop in a kernel table; raises a KeyError if the table has no such loop."""
    return PyCapsule_GetPointer(table[name], "fastact.kernel")


cdef inline void *loop_or_null(dict table, str name) except? NULL:
    """The address of a loop in a kernel table, or NULL."""
    return loop_of(table, name) if name in table else NULL
