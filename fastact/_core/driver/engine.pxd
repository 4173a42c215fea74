"""C interface of the engine."""

from numpy cimport NPY_MAXDIMS

from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel

cdef enum:
    # Elements below which operands are taken as they lie: see `run_aligned`.
    UNALIGNED = 1024
    MAX_DIMS = NPY_MAXDIMS

ctypedef enum shape_t:
    # What a kernel makes of a tile: single elements, its rows, or its columns, each a row of the
    # operation, which lie side by side.
    ELEMENTS, ROWS, COLUMNS

cdef struct Plan:
    # A kernel, and where the elements of all operands of a call are. The output is the last operand.
    const Kernel *kernel
    int ndim
    Py_ssize_t n                                     # number of elements
    Py_ssize_t dims[MAX_DIMS]                        # the innermost first
    Py_ssize_t steps[MAX_INPUTS + 1][MAX_DIMS]       # in bytes; 0 where an operand is broadcast
    char *data[MAX_INPUTS + 1]

cdef struct Tiles:
    # What all tiles of a matrix have in common. The steps are in bytes.
    const Kernel *kernel
    void *loop                                       # for ELEMENTS
    shape_t shape
    bint shared                                      # whether the loop takes a single last value
    unsigned int ahead                               # bit i: input i is read before the output is written
    const Py_ssize_t *down                           # from row to row, for each operand
    const Py_ssize_t *along                          # from column to column

cdef struct Blocks:
    # The blocks of a thread, and what those of the inputs hold.
    char *data[MAX_INPUTS + 1]                       # that of the output may be that of the first input
    char *packed                                     # elements before or after their conversion
    char *source[MAX_INPUTS]                         # the address that was copied; NULL for none
    Py_ssize_t rows[MAX_INPUTS]
    Py_ssize_t columns[MAX_INPUTS]

cdef void run_tile(
    const Tiles *tiles, Blocks *blocks, char **args, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil

cdef void run_any(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil

cdef void run(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps, bint alone
) noexcept nogil

cdef void run_one(const Kernel *kernel, char **args) noexcept nogil

cdef void run_plan(Plan *plan, bint alone) noexcept nogil

cdef void store_number(const Kernel *kernel, double value, void *target) noexcept nogil
