# cython: cdivision=True
"""Kernels whose results depend on a row of each operand, as those of softmax.

Design
------
There are two kernels for an operation: one for contiguous rows, and one for rows side by side, whose
elements of one index are contiguous. Both give the same bits, so that they are chosen by speed. Rows
that the axis of the operation runs across, as in ``softmax(x, axis=0)``, are side by side where they
are. Short rows are transposed into a room on the stack, in the L1 cache. Rows of any other layout, and
of 16-bit types, are copied to such a room, too, or to one that is allocated if a row is longer than that.

NumPy calls the inner loop of a ufunc once or many times in a call. It must not run out of memory after
the first time, when results have been written. So a room that was allocated is kept until the call ends.

Rows are split over threads, a row is not. No order of additions depends on the number of threads.
"""

cimport numpy as cnp
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc

from fastact._core.driver.blocks cimport aligned, whole_lines
from fastact._core.driver.engine cimport COLUMNS, DIRECT_TILE, ROWS, Grid, run_grid
from fastact._core.driver.kernel cimport Kernel, all_steps, call_on_rows
from fastact._core.kernels.sizes cimport WIDTH
from fastact._core.runtime.flags cimport flags_t, restore_flags, save_flags
from fastact._core.runtime.threads cimport SHARE, threads_for

cdef extern from *:
    """
    #ifdef _MSC_VER
    #define FASTACT_OF_THREAD static __declspec(thread)
    #else
    #define FASTACT_OF_THREAD static __thread
    #endif
    /* The room of a thread, kept while `calls` is not 0: how many are under way. They may be nested,
       for NumPy calls methods of operands. */
    FASTACT_OF_THREAD struct { char *address; size_t size; int calls; } fastact_kept;
    """
    ctypedef struct room_t:
        char *address
        size_t size
        int calls
    room_t kept "fastact_kept"
    void *PyErr_NoMemory()
    void *PyErr_Occurred()

cdef enum:
    OPERANDS = 3                  # at most two inputs, and the output
    # Bytes for the copies of the inputs and their elements before they are converted, if on the stack,
    # which may be small in a thread: with the kernels, a call takes 32 KiB at most.
    ROOM = 12288
    # Bytes up to which a call allocates rooms for several threads.
    ROOMS = 1 << 25
    # Elements up to which rows are transposed, if there are FEW of them or more. Float32 rows of 10
    # take a fifth less time then, and those of 24 a tenth more. With two operands nothing is saved.
    SHORT = 15
    FEW = 4


cdef inline bint contiguous(const Kernel *kernel, Py_ssize_t n, const Py_ssize_t *steps) noexcept nogil:
    """Whether the kernel can use each row where it is."""
    return kernel.load == NULL and (n == 1 or all_steps(kernel, steps, kernel.item))


cdef inline bint side_by_side(
    const Kernel *kernel, const Py_ssize_t *row_steps, const Py_ssize_t *steps
) noexcept nogil:
    """Whether the kernel can use the rows where they are, side by side."""
    cdef int i
    if kernel.load != NULL or not all_steps(kernel, row_steps, kernel.item):
        return False
    for i in range(kernel.nin + 1):
        if steps[i] & (kernel.item - 1):
            return False
    return True


cdef char *allocated(size_t size) noexcept nogil:
    """The room of the thread, of so many bytes at least. NULL with an exception if there is no memory."""
    cdef char *room
    if kept.size >= size:
        return kept.address
    if kept.calls:
        with gil:
            if PyErr_Occurred() != NULL:             # refused earlier in this call: nothing is written
                return NULL
    room = <char *> PyMem_RawMalloc(size)
    if room == NULL:
        with gil:
            PyErr_NoMemory()
        return NULL
    PyMem_RawFree(kept.address)
    kept.address, kept.size = room, size
    return room


cdef void open_room() noexcept nogil:
    """From here to `close_room`, what the thread has allocated is kept."""
    kept.calls += 1


cdef void close_room() noexcept nogil:
    kept.calls -= 1
    if not kept.calls:
        PyMem_RawFree(kept.address)
        kept.address, kept.size = NULL, 0


cdef void run_rows(
    const Kernel *kernel, char **args, Py_ssize_t rows, const Py_ssize_t *row_steps,
    Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil:
    """Apply a kernel to rows of each operand.

    Parameters
    ----------
    kernel : pointer to Kernel
    args : addresses of the operands, which must be aligned; the output is last. It may be an input;
        it must not overlap one otherwise
    rows : number of rows
    row_steps : distance of consecutive rows in bytes, for each operand
    n : number of elements of a row
    steps : distance of consecutive elements of a row in bytes, for each operand

    If memory for copies is lacking, a Python exception is set, and nothing is written.
    """
    cdef Grid grid
    cdef flags_t flags
    cdef Py_ssize_t threads, size = n * kernel.block_item * kernel.nin      # what the copies of a row take
    cdef bint across, direct
    if rows == 0 or n == 0:
        return
    if kernel.load != NULL:
        size += n * kernel.item
    # Of the whole call, for a tile may have few rows, and no room for copies.
    across = rows >= FEW and ((n <= SHORT and kernel.nin == 1) or side_by_side(kernel, row_steps, steps))
    direct = not across and contiguous(kernel, n, steps)
    if direct and rows * n < 2 * SHARE and all_steps(kernel, row_steps, n * kernel.item):
        flags = save_flags()                         # a grid would do no more, 150 instructions later
        call_on_rows(kernel, args, rows, n)
        restore_flags(flags)
        return
    grid.kernel, grid.direct, grid.ahead, grid.data, grid.plan = kernel, direct, False, args, NULL
    grid.rooms, grid.unit, grid.skip = NULL, 1, 0
    if across:
        grid.shape, grid.down, grid.along = COLUMNS, steps, row_steps
        grid.rows, grid.columns, grid.tall, grid.wide = n, rows, n, WIDTH
    else:
        grid.shape, grid.down, grid.along = ROWS, row_steps, steps
        grid.rows, grid.columns, grid.wide = rows, n, n
        grid.tall = max(1, DIRECT_TILE // n if direct else ROOM // size)
    if size > ROOM and not direct and not across:
        # Each thread has one part of the call, and a room.
        open_room()
        grid.room = whole_lines(size) + OPERANDS * 64
        threads = min(rows, <Py_ssize_t> threads_for(rows * n), max(<Py_ssize_t> 1, ROOMS // grid.room))
        grid.unit = (rows + threads - 1) // threads
        grid.rooms = allocated((rows + grid.unit - 1) // grid.unit * grid.room + 63)
        if grid.rooms == NULL:
            close_room()
            return
        grid.rooms = aligned(grid.rooms)
    run_grid(&grid, 1, False)
    if grid.rooms != NULL:
        close_room()


cdef void rows_loop(
    char **args, const cnp.npy_intp *dimensions, const cnp.npy_intp *steps, void *data
) noexcept nogil:
    """The inner loop of a generalized ufunc with the signature (n)->(n) or (n),(n)->(n)."""
    cdef const Kernel *kernel = <const Kernel *> data
    run_rows(
        kernel, args, dimensions[0], <const Py_ssize_t *> steps, dimensions[1],
        <const Py_ssize_t *> steps + kernel.nin + 1)
