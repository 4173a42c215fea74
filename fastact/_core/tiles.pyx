"""Kernels on matrices in a mix of row-major and column-major order, processed by tiles.

If such matrices were processed by rows, each element of a column-major matrix would require
another cache line. The tiles of all operands fit in the cache together.
"""

from fastact._core.blocks cimport BLOCK, STACK, aligned, move
from fastact._core.kernel cimport MAX_INPUTS, Kernel, call
from fastact._core.threads cimport split

cdef enum:
    TILE_ROWS = 32                # two cache lines per column for float32, four for float64


cdef void gather_tile(
    const Kernel *kernel, char *array, Py_ssize_t row_step, Py_ssize_t column_step,
    char *block, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Copy a tile to a contiguous block, reading it in memory order."""
    cdef Py_ssize_t i, item = kernel.item
    if row_step == item and column_step != item and kernel.transpose != NULL:
        kernel.transpose(array, column_step, block, columns * item, columns, rows)
    elif by_columns(row_step, column_step):
        for i in range(columns):
            move(array + i * column_step, row_step, block + i * item, columns * item, item, rows)
    else:
        for i in range(rows):
            move(array + i * row_step, column_step, block + i * columns * item, item, item, columns)


cdef void scatter_tile(
    const Kernel *kernel, char *block, char *array, Py_ssize_t row_step, Py_ssize_t column_step,
    Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Copy a contiguous block to a tile, the inverse of `gather_tile`."""
    cdef Py_ssize_t i, item = kernel.item
    if row_step == item and column_step != item and kernel.transpose != NULL:
        kernel.transpose(block, columns * item, array, column_step, rows, columns)
    elif by_columns(row_step, column_step):
        for i in range(columns):
            move(block + i * item, columns * item, array + i * column_step, row_step, item, rows)
    else:
        for i in range(rows):
            move(block + i * columns * item, item, array + i * row_step, column_step, item, columns)


cdef void run_band(
    const Kernel *kernel, char **args, Py_ssize_t start, Py_ssize_t rows, Py_ssize_t columns,
    const Py_ssize_t *row_steps, const Py_ssize_t *column_steps
) noexcept nogil:
    """Process the tiles of one band, which consists of up to TILE_ROWS rows from `start`."""
    cdef char stack[STACK]
    cdef char *blocks = aligned(stack)
    cdef char *packed = blocks + (MAX_INPUTS + 1) * BLOCK
    cdef char *now[MAX_INPUTS + 1]
    cdef Py_ssize_t size = BLOCK // kernel.block_item // TILE_ROWS
    cdef Py_ssize_t column = 0, high = min(TILE_ROWS, rows), wide
    cdef int i, nin = kernel.nin
    cdef char *array
    cdef void *loop = kernel.loop
    cdef bint shared = kernel.shared_loop != NULL and not (row_steps[nin - 1] or column_steps[nin - 1])
    cdef Py_ssize_t tall, broad
    if shared:
        loop = kernel.shared_loop
    while column < columns:
        wide = min(size, columns - column)
        for i in range(nin):
            now[i] = blocks + i * BLOCK
            array = args[i] + start * row_steps[i] + column * column_steps[i]
            tall, broad = high, wide
            if shared and i == nin - 1:
                tall = broad = 1
            if kernel.load == NULL:
                gather_tile(kernel, array, row_steps[i], column_steps[i], now[i], tall, broad)
            else:
                gather_tile(kernel, array, row_steps[i], column_steps[i], packed, tall, broad)
                kernel.load(packed, now[i], tall * broad)
        now[nin] = blocks + nin * BLOCK
        call(loop, nin, now, high * wide)
        array = args[nin] + start * row_steps[nin] + column * column_steps[nin]
        if kernel.store == NULL:
            scatter_tile(kernel, now[nin], array, row_steps[nin], column_steps[nin], high, wide)
        else:
            kernel.store(now[nin], packed, high * wide)
            scatter_tile(kernel, packed, array, row_steps[nin], column_steps[nin], high, wide)
        column += size


cdef struct Work:
    const Kernel *kernel
    char **args
    Py_ssize_t rows
    Py_ssize_t columns
    const Py_ssize_t *row_steps
    const Py_ssize_t *column_steps


cdef void run_bands(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Process the bands from `start` to `stop`, the share of one thread."""
    cdef const Work *work = <const Work *> context
    cdef Py_ssize_t band, row
    for band in range(start, stop):
        row = band * TILE_ROWS
        run_band(
            work.kernel, work.args, row, work.rows - row, work.columns, work.row_steps,
            work.column_steps)


cdef void run_tiles(
    const Kernel *kernel, char **args, Py_ssize_t rows, Py_ssize_t columns,
    const Py_ssize_t *row_steps, const Py_ssize_t *column_steps
) noexcept nogil:
    """Two-dimensional version of `engine.run`; no input may overlap the output."""
    cdef Work work
    work.kernel, work.args, work.rows, work.columns = kernel, args, rows, columns
    work.row_steps, work.column_steps = row_steps, column_steps
    split(run_bands, &work, (rows + TILE_ROWS - 1) // TILE_ROWS, 1, rows * columns)
