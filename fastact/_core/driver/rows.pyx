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
from fastact._core.driver.kernel cimport Kernel
from fastact._core.driver.tiles cimport gather_tile, scatter_tile
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
    WIDTH = 32                    # rows side by side, at most: WIDTH in kernels/columns.pxi
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


cdef struct Work:
    # The operands of a call. The steps are in bytes.
    const Kernel *kernel
    char **args
    const Py_ssize_t *row_steps   # from row to row
    const Py_ssize_t *steps       # from element to element of a row
    Py_ssize_t n                  # elements of a row
    bint across                   # whether the kernel uses the rows side by side, where they are
    Py_ssize_t row_room           # bytes that the copies of a row take
    char *rooms                   # where a row takes more than ROOM, else NULL:
    Py_ssize_t room               # of so many bytes each,
    Py_ssize_t unit               # for so many rows each


cdef inline bint all_steps(const Work *work, const Py_ssize_t *steps, Py_ssize_t step) noexcept nogil:
    cdef int i
    for i in range(work.kernel.nin + 1):
        if steps[i] != step:
            return False
    return True


cdef inline bint contiguous(const Work *work) noexcept nogil:
    """Whether the kernel can use each row where it is."""
    return work.kernel.load == NULL and (work.n == 1 or all_steps(work, work.steps, work.kernel.item))


cdef inline bint side_by_side(const Work *work) noexcept nogil:
    """Whether the kernel can use the rows where they are, side by side."""
    cdef int i
    if work.kernel.load != NULL or not all_steps(work, work.row_steps, work.kernel.item):
        return False
    for i in range(work.kernel.nin + 1):
        if work.steps[i] % work.kernel.item:
            return False
    return True


@cython.cdivision(True)
cdef void run_part(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Process the rows from `start` to `stop`, as one thread does."""
    cdef const Work *work = <const Work *> context
    cdef const Kernel *kernel = work.kernel
    cdef Py_ssize_t n = work.n, row = start, count, fitting = max(<Py_ssize_t> 1, ROOM // work.row_room)
    cdef Py_ssize_t elements[OPERANDS]
    cdef char *now[OPERANDS]
    cdef int i
    cdef bint short_rows = n <= SHORT and kernel.nin == 1 and stop - start >= FEW
    now[1] = NULL
    if work.across:
        for i in range(kernel.nin + 1):
            elements[i] = work.steps[i] // kernel.item
        while row < stop:
            count = min(<Py_ssize_t> WIDTH, stop - row)
            find_rows(work, row, now)
            kernel.columns(now[0], now[1], now[kernel.nin], elements, n, count)
            row += count
    elif contiguous(work) and not short_rows:
        count = stop - row if all_steps(work, work.row_steps, n * kernel.item) else 1
        while row < stop:
            find_rows(work, row, now)
            kernel.rows(now[0], now[1], now[kernel.nin], count, n)
            row += count
    else:
        while row < stop:
            count = min(<Py_ssize_t> WIDTH if short_rows else fitting, stop - row)
            run_copies(work, row, count, short_rows)
            row += count


cdef inline void find_rows(const Work *work, Py_ssize_t row, char **now) noexcept nogil:
    cdef int i
    for i in range(work.kernel.nin + 1):
        now[i] = work.args[i] + row * work.row_steps[i]


cdef inline Py_ssize_t whole_lines(Py_ssize_t size) noexcept nogil:
    """A size rounded up to a multiple of 64 bytes, the size of a cache line."""
    return (size + 63) & ~<Py_ssize_t> 63


@cython.cdivision(True)
cdef void run_copies(const Work *work, Py_ssize_t row, Py_ssize_t count, bint across) noexcept nogil:
    """Run a kernel on copies of some rows, and copy the results to the output.

    If `across` is True, the copies are side by side.
    """
    cdef char stack[ROOM + (OPERANDS + 1) * 64]
    cdef const Kernel *kernel = work.kernel
    cdef Py_ssize_t n = work.n, size = whole_lines(count * n * kernel.block_item)
    cdef char *room = (
        aligned(stack) if work.rooms == NULL else work.rooms + row // work.unit * work.room)
    cdef char *packed = room + kernel.nin * size     # elements of the type of the arrays, if converted
    cdef char *now[OPERANDS]
    cdef char *block
    cdef Py_ssize_t elements[OPERANDS]
    # The block is a matrix of rows, or of columns if they are side by side.
    cdef const Py_ssize_t *down = work.steps if across else work.row_steps
    cdef const Py_ssize_t *along = work.row_steps if across else work.steps
    cdef Py_ssize_t tall = n if across else count, wide = count if across else n
    cdef int i
    now[1] = NULL
    for i in range(kernel.nin):
        now[i] = room + i * size
        block = now[i] if kernel.load == NULL else packed
        gather_tile(kernel, work.args[i] + row * work.row_steps[i], down[i], along[i], block, tall, wide)
        if kernel.load != NULL:
            kernel.load(packed, now[i], count * n)
    if across:
        for i in range(kernel.nin + 1):
            elements[i] = count
        kernel.columns(now[0], now[1], now[0], elements, n, count)
    else:
        kernel.rows(now[0], now[1], now[0], count, n)
    block = now[0]
    if kernel.store != NULL:
        kernel.store(now[0], packed, count * n)
        block = packed
    i = kernel.nin
    scatter_tile(kernel, block, work.args[i] + row * work.row_steps[i], down[i], along[i], tall, wide)


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
    cdef Work work
    cdef Py_ssize_t unit = 1
    if rows == 0 or n == 0:
        return
    work.kernel, work.args, work.row_steps, work.steps, work.n = kernel, args, row_steps, steps, n
    work.row_room = n * kernel.block_item * kernel.nin + (n * kernel.item if kernel.load != NULL else 0)
    work.rooms = NULL
    # Of the whole call, for a part of it may have few rows, and no room for copies.
    work.across = rows >= FEW and side_by_side(&work)
    if work.across or n < WHOLE // WIDTH:
        unit = WIDTH              # fewer rows side by side would share cache lines with another thread
    if work.row_room > ROOM and not contiguous(&work) and not work.across:
        # Each thread has one part of the call, and a room.
        open_room()
        work.room = whole_lines(work.row_room) + OPERANDS * 64
        unit = min(rows, <Py_ssize_t> threads_for(rows * n), max(<Py_ssize_t> 1, ROOMS // work.room))
        work.unit = unit = (rows + unit - 1) // unit
        work.rooms = allocated((rows + unit - 1) // unit * work.room + 63)
        if work.rooms == NULL:
            close_room()
            return
        work.rooms = aligned(work.rooms)
    flags = save_flags()
    split(run_part, &work, rows, unit, rows * n)
    restore_flags(flags)
    if work.rooms != NULL:
        close_room()


cdef void rows_loop(
    char **args, const cnp.npy_intp *dimensions, const cnp.npy_intp *steps, void *data
) noexcept nogil:
    """The inner loop of a generalized ufunc with the signature (n)->(n) or (n),(n)->(n)."""
    cdef const Kernel *kernel = <const Kernel *> data
    run_rows(
        kernel, args, dimensions[0], <const Py_ssize_t *> steps, dimensions[1],
        <const Py_ssize_t *> steps + kernel.nin + 1)
