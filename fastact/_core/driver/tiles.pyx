"""Kernels on arrays of two dimensions or more, processed by tiles.

Design
------
A tile is a part of a matrix that two of the dimensions span. The columns of the matrix are
the innermost dimension. An operand that is contiguous within a tile is used where it is. A tile
of any other operand is copied to a block in the L1 cache, and a tile of the output is copied
back. Rows that are long enough skip the blocks: each goes to the kernel as it is.

The rows of a tile are the next dimension, unless the elements of an operand lie closer together
along another dimension, as in a matrix in column-major order. The rows are taken from that dimension
then. If such an operand were processed by rows, each element would require another cache line.
"""

from libc.string cimport memset

from fastact._core.driver.blocks cimport BLOCK, STACK, aligned, copy_rows, gather, move
from fastact._core.driver.engine cimport UNALIGNED, run, run_aligned, run_alone
from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel, call, call_rows
from fastact._core.runtime.flags cimport flags_t, restore_flags, save_flags
from fastact._core.runtime.threads cimport split

cdef enum:
    TILE_ROWS = 32                # two cache lines per column for float32, four for float64
    # Size in bytes from which rows go to the kernel without a block. Below it, the calls cost more
    # than the blocks. The second size is for calls in which no rows have to be copied.
    DIRECT = 128
    DIRECT_UNCOPIED = 320
    # Number of elements of a tile of such rows, the unit in which they are split over threads.
    UNIT = 16384

cdef struct Work:
    const Kernel *kernel
    const Layout *layout
    void *loop
    bint shared                   # whether the loop takes a single value as the last input
    bint direct                   # whether rows go to the kernel without a block
    int down                      # the dimension along the rows
    Py_ssize_t tall               # rows of a tile
    Py_ssize_t wide               # columns of a tile
    Py_ssize_t bands              # tiles that a column of the matrix is divided into
    Py_ssize_t strips             # tiles that a row of the matrix is divided into

cdef struct Blocks:
    # The blocks of all inputs, and what they hold.
    char *data[MAX_INPUTS + 1]
    char *packed                  # elements before their conversion
    char *source[MAX_INPUTS]      # address of a row that fills the block; NULL for anything else
    Py_ssize_t rows[MAX_INPUTS]


cdef inline bint by_columns(Py_ssize_t row_step, Py_ssize_t column_step) noexcept nogil:
    """Whether the stride along a column is the smaller one, as in column-major order.

    Absolute values are compared, because squares of large strides would overflow.
    """
    return (row_step if row_step > 0 else -row_step) < (column_step if column_step > 0 else -column_step)


cdef void gather_tile(
    const Kernel *kernel, char *array, Py_ssize_t row_step, Py_ssize_t column_step,
    char *block, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Copy a tile to a contiguous block, reading it in memory order."""
    cdef Py_ssize_t i, item = kernel.item
    if column_step == item:
        copy_rows(array, row_step, block, columns * item, columns * item, rows)
    elif row_step == item and kernel.transpose != NULL:
        kernel.transpose(array, column_step, block, columns * item, columns, rows)
    elif row_step and by_columns(row_step, column_step):
        for i in range(columns):
            move(array + i * column_step, row_step, block + i * item, columns * item, item, rows)
    else:
        for i in range(rows):
            gather(kernel, array + i * row_step, column_step, block + i * columns * item, columns)


cdef void scatter_tile(
    const Kernel *kernel, char *block, char *array, Py_ssize_t row_step, Py_ssize_t column_step,
    Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Copy a contiguous block to a tile, the inverse of `gather_tile`."""
    cdef Py_ssize_t i, item = kernel.item
    if column_step == item:
        copy_rows(block, columns * item, array, row_step, columns * item, rows)
    elif row_step == item and kernel.transpose != NULL:
        kernel.transpose(block, columns * item, array, column_step, rows, columns)
    elif by_columns(row_step, column_step):
        for i in range(columns):
            move(block + i * item, columns * item, array + i * column_step, row_step, item, rows)
    else:
        for i in range(rows):
            move(block + i * columns * item, item, array + i * row_step, column_step, item, columns)


cdef void run_rows(const Work *work, char **args, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Pass each row of a tile to the kernel. This moves the addresses in `args`."""
    cdef Py_ssize_t steps[MAX_INPUTS + 1]
    cdef Py_ssize_t row_steps[MAX_INPUTS + 1]
    cdef int i, nin = work.kernel.nin
    memset(row_steps, 0, sizeof(row_steps))          # gcc 12 does not see that nin is 1 at least
    for i in range(nin + 1):
        steps[i], row_steps[i] = work.layout.steps[i][0], work.layout.steps[i][work.down]
    if columns < UNALIGNED:
        call_rows(work.loop, nin, args, rows, row_steps, columns)
        return
    for _ in range(rows):
        run_aligned(work.kernel, work.loop, args, columns, steps, False)
        for i in range(nin + 1):
            args[i] += row_steps[i]


cdef void run_tile(
    const Work *work, Blocks *blocks, char **args, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Run the kernel on a tile, through blocks where the operands are not contiguous."""
    cdef const Kernel *kernel = work.kernel
    cdef char *now[MAX_INPUTS + 1]
    cdef char *from_here
    cdef int i, nin = kernel.nin
    cdef Py_ssize_t row_step = 0, column_step = 0, n = rows * columns
    cdef bint flat = False
    for i in range(nin + 1):
        row_step, column_step = work.layout.steps[i][work.down], work.layout.steps[i][0]
        flat = column_step == kernel.item and (rows == 1 or row_step == columns * kernel.item)
        if kernel.load == NULL and (flat or (work.shared and i == nin - 1)):
            now[i] = args[i]
            continue
        now[i] = blocks.data[i]
        if i == nin or (blocks.source[i] == args[i] and blocks.rows[i] >= rows):
            continue                                 # the output, or rows copied earlier
        if row_step == 0 and work.strips == 1:
            blocks.source[i] = args[i]
            blocks.rows[i] = rows
        if work.shared and i == nin - 1:
            kernel.load(args[i], now[i], 1)
        elif kernel.load == NULL:
            gather_tile(kernel, args[i], row_step, column_step, now[i], rows, columns)
        else:
            from_here = args[i]
            if not flat:
                from_here = blocks.packed
                gather_tile(kernel, args[i], row_step, column_step, from_here, rows, columns)
            kernel.load(from_here, now[i], n)
    call(work.loop, nin, now, n)
    if now[nin] == args[nin]:
        return
    if kernel.store == NULL:
        scatter_tile(kernel, now[nin], args[nin], row_step, column_step, rows, columns)
    elif flat:
        kernel.store(now[nin], args[nin], n)
    else:
        kernel.store(now[nin], blocks.packed, n)
        scatter_tile(kernel, blocks.packed, args[nin], row_step, column_step, rows, columns)


cdef void run_share(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Process the tiles from `start` to `stop`, the share of one thread."""
    cdef const Work *work = <const Work *> context
    cdef const Layout *layout = work.layout
    cdef char stack[STACK]
    cdef Blocks blocks
    cdef char *matrix[MAX_INPUTS + 1]
    cdef char *args[MAX_INPUTS + 1]
    cdef Py_ssize_t tile, index, band, strip, row, column, rows, columns, left
    cdef int i, k, operands = work.kernel.nin + 1
    cdef flags_t flags = save_flags()
    for i in range(operands):
        blocks.data[i] = aligned(stack) + i * BLOCK
    for i in range(operands - 1):
        blocks.source[i] = NULL
    blocks.packed = aligned(stack) + (MAX_INPUTS + 1) * BLOCK
    for tile in range(start, stop):
        strip, index = tile % work.strips, tile // work.strips
        band, left = index % work.bands, index // work.bands
        if tile == start or (band == 0 and strip == 0):
            # The first tile of a matrix: its place follows from the other dimensions.
            for i in range(operands):
                matrix[i] = layout.data[i]
            for k in range(1, layout.ndim):
                if k != work.down:
                    for i in range(operands):
                        matrix[i] += left % layout.dims[k] * layout.steps[i][k]
                    left //= layout.dims[k]
        row, column = band * work.tall, strip * work.wide
        rows = min(work.tall, layout.dims[work.down] - row)
        columns = min(work.wide, layout.dims[0] - column)
        for i in range(operands):
            args[i] = matrix[i] + row * layout.steps[i][work.down] + column * layout.steps[i][0]
        if work.direct:
            run_rows(work, args, rows, columns)
        else:
            run_tile(work, &blocks, args, rows, columns)
    restore_flags(flags)


cdef int closest(const Layout *layout, int i) noexcept nogil:
    """The dimension along which the elements of operand i are the closest."""
    cdef int k, found = 0
    if layout.steps[i][0] == 0:
        return 0
    for k in range(1, layout.ndim):
        if layout.steps[i][k] and by_columns(layout.steps[i][k], layout.steps[i][found]):
            found = k
    return found


cdef void run_layout(const Kernel *kernel, Layout *layout, bint alone) noexcept nogil:
    """Apply a kernel to all elements of a layout; on the calling thread only, if `alone`.

    An input may be the output. It must not overlap the output otherwise.
    """
    cdef Work work
    cdef Py_ssize_t steps[MAX_INPUTS + 1]
    cdef Py_ssize_t size = BLOCK // kernel.block_item, columns = layout.dims[0], tiles
    cdef int i, last = kernel.nin - 1
    cdef bint copied = False
    if layout.ndim == 1:
        for i in range(kernel.nin + 1):
            steps[i] = layout.steps[i][0]
        if alone:
            run_alone(kernel, layout.data, layout.n, steps)
        else:
            run(kernel, layout.data, layout.n, steps)
        return
    work.kernel, work.layout = kernel, layout
    work.down = 0
    for i in range(kernel.nin + 1):
        copied = copied or layout.steps[i][1] not in (0, columns * kernel.item)
    work.direct = kernel.load == NULL and (
        columns * kernel.item >= (DIRECT if copied else DIRECT_UNCOPIED))
    for i in range(kernel.nin + 1):
        work.down = max(work.down, closest(layout, i))
        if layout.steps[i][0] != kernel.item and not (
                i == last and layout.steps[i][0] == 0 and kernel.shared_loop != NULL):
            work.direct = False
    if work.down:
        work.direct = False
        work.tall = min(TILE_ROWS, layout.dims[work.down])
        work.wide = min(columns, size // work.tall)
    else:
        work.down = 1
        work.wide = min(columns, UNIT if work.direct else size)
        work.tall = max(1, (UNIT if work.direct else size) // work.wide)
    work.shared = kernel.shared_loop != NULL and layout.steps[last][0] == 0 and (
        work.direct or layout.steps[last][work.down] == 0)
    work.loop = kernel.shared_loop if work.shared else kernel.loop
    work.bands = (layout.dims[work.down] + work.tall - 1) // work.tall
    work.strips = (columns + work.wide - 1) // work.wide
    tiles = layout.n // (columns * layout.dims[work.down]) * work.bands * work.strips
    if alone:
        run_share(&work, 0, tiles)
    else:
        split(run_share, &work, tiles, 1, layout.n)
