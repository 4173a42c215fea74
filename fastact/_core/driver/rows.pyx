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

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc

from fastact._core.driver.blocks cimport aligned
from fastact._core.driver.engine cimport COLUMNS, ROWS, Blocks, Tiles, run_tile
from fastact._core.driver.kernel cimport Kernel
from fastact._core.kernels.sizes cimport WIDTH
from fastact._core.runtime.flags cimport flags_t, restore_flags, save_flags
from fastact._core.runtime.threads cimport split, threads_for

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
    # Bytes of the room on the stack, for the copies of the inputs and their elements before they are
    # converted. The stack of a thread may be small: with the kernels, a call takes 32 KiB at most.
    ROOM = 12288
    # Elements of WIDTH rows from which a thread may get fewer rows.
    WHOLE = 16384
    # Bytes up to which a call allocates rooms for several threads.
    ROOMS = 1 << 25
    # Elements up to which rows are transposed, if there are FEW of them or more. Float32 rows of 10
    # take a fifth less time then, and those of 24 a tenth more. With two operands nothing is saved.
    SHORT = 15
    FEW = 4


cdef struct Batch:
    # The rows of a call. The steps are in bytes.
    const Kernel *kernel
    char **args
    const Py_ssize_t *row_steps   # from row to row
    const Py_ssize_t *steps       # from element to element of a row
    Py_ssize_t n                  # elements of a row
    bint across                   # whether the kernel gets the rows side by side
    Py_ssize_t row_room           # bytes that the copies of a row take
    char *rooms                   # where a row takes more than ROOM, else NULL:
    Py_ssize_t room               # of so many bytes each,
    Py_ssize_t unit               # for so many rows each


cdef inline bint all_steps(const Batch *batch, const Py_ssize_t *steps, Py_ssize_t step) noexcept nogil:
    cdef int i
    for i in range(batch.kernel.nin + 1):
        if steps[i] != step:
            return False
    return True


cdef inline bint contiguous(const Batch *batch) noexcept nogil:
    """Whether the kernel can use each row where it is."""
    return batch.kernel.load == NULL and (
        batch.n == 1 or all_steps(batch, batch.steps, batch.kernel.item))


@cython.cdivision(True)
cdef inline bint side_by_side(const Batch *batch) noexcept nogil:
    """Whether the kernel can use the rows where they are, side by side."""
    cdef int i
    if batch.kernel.load != NULL or not all_steps(batch, batch.row_steps, batch.kernel.item):
        return False
    for i in range(batch.kernel.nin + 1):
        if batch.steps[i] % batch.kernel.item:
            return False
    return True


cdef inline Py_ssize_t whole_lines(Py_ssize_t size) noexcept nogil:
    """A size rounded up to a multiple of 64 bytes, the size of a cache line."""
    return (size + 63) & ~<Py_ssize_t> 63


cdef void run_direct_rows(void *context, Py_ssize_t row, Py_ssize_t stop) noexcept nogil:
    """Process the rows from `row` to `stop`, as one thread does, where each is contiguous.

    `run_row_tiles` would give the same, 150 instructions later.
    """
    cdef const Batch *batch = <const Batch *> context
    cdef const Kernel *kernel = batch.kernel
    cdef Py_ssize_t count = 1
    cdef char *now[OPERANDS]
    if all_steps(batch, batch.row_steps, batch.n * kernel.item):
        count = stop - row
    now[1] = NULL
    while row < stop:
        find_rows(batch, row, now)
        kernel.rows(now[0], now[1], now[kernel.nin], count, batch.n)
        row += count


@cython.cdivision(True)
cdef void run_row_tiles(void *context, Py_ssize_t row, Py_ssize_t stop) noexcept nogil:
    """Process the rows from `row` to `stop`, as one thread does, in tiles of whole rows.

    They are the rows of a tile, or its columns if the kernel gets them side by side: where they are,
    or in the blocks.
    """
    cdef char stack[ROOM + (OPERANDS + 1) * 64]
    cdef const Batch *batch = <const Batch *> context
    cdef const Kernel *kernel = batch.kernel
    cdef char *room = aligned(stack) if batch.rooms == NULL else batch.rooms + row // batch.unit * batch.room
    cdef Py_ssize_t n = batch.n, count, size
    cdef char *here[OPERANDS]
    cdef Tiles tiles
    cdef Blocks blocks
    cdef bint across = batch.across
    tiles.kernel, tiles.shape, tiles.shared, tiles.ahead = kernel, COLUMNS if across else ROWS, False, 0
    tiles.down = batch.steps if across else batch.row_steps
    tiles.along = batch.row_steps if across else batch.steps
    count = min(stop - row, WIDTH if across else max(<Py_ssize_t> 1, ROOM // batch.row_room))
    size = whole_lines(count * n * kernel.block_item)
    blocks.source[0] = blocks.source[1] = NULL
    blocks.data[0], blocks.data[1] = room, room + size
    blocks.data[kernel.nin] = room                   # over the copy of the first input
    blocks.packed = room + kernel.nin * size         # elements of the type of the arrays, if converted
    while row < stop:
        count = min(count, stop - row)
        find_rows(batch, row, here)
        if across:
            run_tile(&tiles, &blocks, here, n, count)
        else:
            run_tile(&tiles, &blocks, here, count, n)
        row += count


cdef inline void find_rows(const Batch *batch, Py_ssize_t row, char **now) noexcept nogil:
    cdef int i
    for i in range(batch.kernel.nin + 1):
        now[i] = batch.args[i] + row * batch.row_steps[i]


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


@cython.cdivision(True)
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
    cdef flags_t flags
    cdef Batch batch
    cdef Py_ssize_t unit = 1
    cdef bint direct
    if rows == 0 or n == 0:
        return
    batch.kernel, batch.args, batch.row_steps, batch.steps, batch.n = kernel, args, row_steps, steps, n
    batch.row_room = n * kernel.block_item * kernel.nin + (n * kernel.item if kernel.load != NULL else 0)
    batch.rooms = NULL
    # Of the whole call, for a part of it may have few rows, and no room for copies.
    batch.across = rows >= FEW and ((n <= SHORT and kernel.nin == 1) or side_by_side(&batch))
    direct = not batch.across and contiguous(&batch)
    if batch.across or n < WHOLE // WIDTH:
        unit = WIDTH              # fewer rows side by side would share cache lines with another thread
    if batch.row_room > ROOM and not direct and not batch.across:
        # Each thread has one part of the call, and a room.
        open_room()
        batch.room = whole_lines(batch.row_room) + OPERANDS * 64
        unit = min(rows, <Py_ssize_t> threads_for(rows * n), max(<Py_ssize_t> 1, ROOMS // batch.room))
        batch.unit = unit = (rows + unit - 1) // unit
        batch.rooms = allocated((rows + unit - 1) // unit * batch.room + 63)
        if batch.rooms == NULL:
            close_room()
            return
        batch.rooms = aligned(batch.rooms)
    flags = save_flags()
    split(run_direct_rows if direct else run_row_tiles, &batch, rows, unit, rows * n)
    restore_flags(flags)
    if batch.rooms != NULL:
        close_room()


cdef void rows_loop(
    char **args, const cnp.npy_intp *dimensions, const cnp.npy_intp *steps, void *data
) noexcept nogil:
    """The inner loop of a generalized ufunc with the signature (n)->(n) or (n),(n)->(n)."""
    cdef const Kernel *kernel = <const Kernel *> data
    run_rows(
        kernel, args, dimensions[0], <const Py_ssize_t *> steps, dimensions[1],
        <const Py_ssize_t *> steps + kernel.nin + 1)
