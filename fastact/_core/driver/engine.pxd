"""C interface of the engine."""

cimport numpy as cnp

from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel

cdef enum:
    # Elements below which operands are taken as they lie: see `run_aligned`.
    UNALIGNED = 1024
    # Elements of a tile whose rows go to the kernel where they are, the unit that threads share.
    DIRECT_TILE = 16384
    MAX_DIMS = cnp.NPY_MAXDIMS

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
    Py_ssize_t steps[MAX_DIMS][MAX_INPUTS + 1]       # in bytes; 0 where an operand is broadcast
    char *data[MAX_INPUTS + 1]

cdef struct Grid:
    # A matrix that is divided into tiles, or many that differ in their place only. To be filled in:
    const Kernel *kernel
    shape_t shape
    bint direct                   # whether the kernel gets each row of a tile where it is
    bint ahead                    # whether inputs have to be read before the output is written
    char **data                   # where the first matrix of each operand starts
    const Py_ssize_t *down        # bytes from row to row of each operand,
    const Py_ssize_t *along       # and from column to column
    Py_ssize_t rows
    Py_ssize_t columns
    Py_ssize_t tall               # rows of a tile
    Py_ssize_t wide               # columns of a tile,
    Py_ssize_t skip               # of which the first one of a row has so many less
    const Plan *plan              # has the dimensions that tell the matrices apart. NULL: there is one
    int dim                       # that of the rows, in the plan
    char *rooms                   # memory for the blocks, or NULL if they fit on the stack:
    Py_ssize_t room               # of so many bytes,
    Py_ssize_t unit               # for every so many tiles
    # `run_grid` fills in what follows from that:
    void *loop                    # for ELEMENTS
    bint shared                   # whether the loop takes a single last value
    unsigned int flat             # bit i: all tiles of operand i are contiguous
    unsigned int here             # bit i: the kernel takes operand i where it is
    Py_ssize_t block              # bytes of a block
    int own                       # the block of the output
    Py_ssize_t packed             # where elements are before or after their conversion

cdef void run_grid(Grid *grid, Py_ssize_t matrices, bint alone) noexcept nogil

cdef void run(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps, bint alone
) noexcept nogil

cdef void run_one(const Kernel *kernel, char **args) noexcept nogil

cdef void run_matrices(Plan *plan, bint alone) noexcept nogil

cdef void store_number(const Kernel *kernel, double value, void *target) noexcept nogil

cdef void ufunc_loop(
    char **args, const cnp.npy_intp *dimensions, const cnp.npy_intp *steps, void *data
) noexcept nogil
