# cython: cdivision=True
"""The loop of all kernels: tiles, conversions and threads, independent of the activations.

Design
------
A kernel requires contiguous operands of the type in which it computes. Operands of one dimension that
meet this requirement go straight to it, or are converted block by block if only their type is another one.
All others are a grid of tiles, the parts of a matrix that two of the dimensions span, and `run_tile` is
the only function that knows how to process one: an operand that is contiguous within the tile is used
where it is; a tile of any other input is gathered into a block in the L1 cache (and converted) before the
kernel runs, and the output is scattered afterwards. What is the same for all tiles is found out once, by
`run_grid`. A grid is filled in by `run_blocks`, from one dimension, which is a matrix of one row; by
`run_matrices`, from more; and by `rows.pyx`, for the rows of softmax, whose tiles have whole rows or
columns.

The columns of the matrix are the innermost dimension. Its rows are the next one, unless the elements of
an operand lie closer together along another dimension, as in a matrix in column-major order. The rows
are taken from that dimension then. If such an operand were processed by rows, each element would
require another cache line. Rows that are long enough skip the blocks: each goes to the kernel as it is.

A large call is split over threads, each of which processes a contiguous share of it.

That no input overlaps the output is for the callers to see to. `ufunc_loop` does so itself: NumPy may
call it with any operands.
"""

cimport numpy as cnp

from fastact._core.driver.blocks cimport BLOCK, STACK, aligned, copy_line, copy_tile, magnitude, whole_lines
from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel, all_steps, call, call_on_rows, call_rows
from fastact._core.runtime.flags cimport flags_t, restore_flags, save_flags
from fastact._core.runtime.threads cimport SHARE, split
from fastact.activations.arithmetic cimport to_odd_float

cdef extern from *:
    """
    /* The compiler does not model the status flags. volatile prevents it from moving the
       conversion out of the code between saving and restoring them. */
    static inline float fastact_narrow(double value)
    {
        volatile double wide = value;
        volatile float narrow = (float) wide;
        return narrow;
    }
    """
    float narrow "fastact_narrow"(double value) noexcept nogil

cdef enum:
    # Results of at least this size in bytes are written with stores that bypass the cache. With
    # one thread, this changes the time of float32 relu per element from 0.56 to 0.45 ns for
    # 64 MiB, but from 0.29 to 0.43 ns for 16 MiB.
    STREAM = 1 << 25
    TILE_ROWS = 32                # two cache lines per column for float32, four for float64
    # Size in bytes from which rows go to the kernel without a block. Below it, the calls cost more
    # than the blocks. The second size is for calls in which no rows have to be copied.
    DIRECT = 128
    DIRECT_UNCOPIED = 320


cdef void store_number(const Kernel *kernel, double value, void *target) noexcept nogil:
    """Store a double in the element type of a kernel's arrays, without raising a status flag."""
    cdef flags_t flags = save_flags()
    cdef float narrowed
    if kernel.item == 8:
        (<double *> target)[0] = value
    elif kernel.item == 4:
        (<float *> target)[0] = narrow(value)
    else:
        narrowed = narrow(to_odd_float(value))
        kernel.store(&narrowed, target, 1)
    restore_flags(flags)


# ----------------------------------------------------------------------- tiles

cdef struct Blocks:
    # The blocks of a thread, and what those of the inputs hold.
    char *room
    char *source[MAX_INPUTS]                         # the address that was copied; NULL for none
    Py_ssize_t rows[MAX_INPUTS]
    Py_ssize_t columns[MAX_INPUTS]


cdef void run_tile(
    const Grid *grid, Blocks *blocks, char **line, Py_ssize_t column, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Run the kernel on a tile that starts at a column, through blocks where operands are not contiguous."""
    cdef const Kernel *kernel = grid.kernel
    cdef char *now[MAX_INPUTS + 1]
    cdef Py_ssize_t elements[MAX_INPUTS + 1]         # from row to row of what the kernel gets
    cdef Py_ssize_t item = kernel.item, n = rows * columns
    cdef char *array
    cdef char *packed
    cdef unsigned int here = grid.here
    cdef int i, shift, nin = kernel.nin
    for i in range(nin):
        array = line[i] + column * grid.along[i]
        if here >> i & 1:
            now[i] = array
            continue
        now[i] = blocks.room + i * grid.block
        if blocks.source[i] == array and blocks.rows[i] == rows and blocks.columns[i] == columns:
            continue                                 # what the last tile had, too
        blocks.source[i], blocks.rows[i], blocks.columns[i] = array, rows, columns
        packed = array
        if not grid.flat >> i & 1:
            packed = now[i] if kernel.load == NULL else blocks.room + grid.packed
            if rows == 1:
                copy_line(kernel, array, grid.along[i], packed, item, columns)
            else:
                copy_tile(
                    kernel, array, grid.down[i], grid.along[i], packed, columns * item, item, rows, columns)
        if kernel.load != NULL:
            kernel.load(packed, now[i], 1 if grid.shared and i == nin - 1 else n)
    array = line[nin] + column * grid.along[nin]
    now[nin] = array if here >> nin & 1 else blocks.room + grid.own * grid.block
    if grid.shape == ELEMENTS:
        call(grid.loop, nin, now, n)
    elif grid.shape == ROWS:
        call_on_rows(kernel, now, rows, columns)
    else:
        shift = 3 if item == 8 else 2                # a division takes as long as the kernel of some rows
        for i in range(nin + 1):
            elements[i] = grid.down[i] >> shift if here >> i & 1 else columns
        kernel.columns(now[0], now[1] if nin > 1 else NULL, now[nin], elements, rows, columns)
    if here >> nin & 1:
        return
    if grid.own == 0:
        blocks.source[0] = NULL
    packed = now[nin]
    if kernel.store != NULL:
        packed = array if grid.flat >> nin & 1 else blocks.room + grid.packed
        kernel.store(now[nin], packed, n)
    if packed == array:
        return
    if rows == 1:
        copy_line(kernel, packed, item, array, grid.along[nin], columns)
    else:
        copy_tile(
            kernel, packed, columns * item, item, array, grid.down[nin], grid.along[nin], rows, columns)


cdef inline void run_direct(
    const Grid *grid, char **line, Py_ssize_t column, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Pass each row of a tile that starts at a column to the kernel where it is."""
    cdef int i
    cdef Py_ssize_t row
    cdef char *args[MAX_INPUTS + 1]
    cdef char *here[MAX_INPUTS + 1]
    moved(grid, line, column, grid.along, args)
    if grid.shape == ROWS and all_steps(grid.kernel, grid.down, columns * grid.kernel.item):
        call_on_rows(grid.kernel, args, rows, columns)
    elif grid.shape == ELEMENTS and columns < UNALIGNED:
        call_rows(grid.loop, grid.kernel.nin, args, rows, grid.down, columns)
    else:
        for row in range(rows):
            for i in range(grid.kernel.nin + 1):
                here[i] = args[i] + row * grid.down[i]
            if grid.shape == ROWS:
                call_on_rows(grid.kernel, here, 1, columns)
            else:
                run_aligned(grid.kernel, grid.loop, here, columns, grid.along, False)


cdef inline char **moved(
    const Grid *grid, char **start, Py_ssize_t count, const Py_ssize_t *steps, char **args
) noexcept nogil:
    """Write where the operands are after so many steps; returns `args`."""
    cdef int i
    for i in range(grid.kernel.nin + 1):
        args[i] = start[i] + count * steps[i]
    return args


cdef char **find_matrix(const Grid *grid, Py_ssize_t index, char **matrix) noexcept nogil:
    """Where the matrix of an index starts, for each operand; written to `matrix` if it is not the first."""
    cdef const Plan *plan = grid.plan
    cdef int i, k, operands = grid.kernel.nin + 1
    if index == 0:
        return grid.data
    for i in range(operands):
        matrix[i] = grid.data[i]
    for k in range(1, plan.ndim):
        if k != grid.dim:
            for i in range(operands):
                matrix[i] += index % plan.dims[k] * plan.steps[k][i]
            index //= plan.dims[k]
    return matrix


cdef void run_tiles(void *context, Py_ssize_t tile, Py_ssize_t stop) noexcept nogil:
    """Process the tiles from `tile` to `stop`, the share of one thread."""
    cdef const Grid *grid = <const Grid *> context
    cdef char stack[STACK + 63]
    cdef Blocks blocks
    cdef char *other[MAX_INPUTS + 1]
    cdef char *here[MAX_INPUTS + 1]
    cdef char **matrix = grid.data
    cdef char **line = grid.data                     # the row in which a tile starts
    cdef Py_ssize_t index = tile, row = 0, column = -grid.skip, start, rows, columns, strips
    blocks.room = aligned(stack)
    if grid.rooms != NULL:
        blocks.room = grid.rooms + tile // grid.unit * grid.room
    # Not in a loop, which gcc would make a call of memset.
    blocks.source[0] = blocks.source[1] = blocks.source[2] = NULL
    if tile:
        strips = parts(grid.columns + grid.skip, grid.wide)
        index, column = index // strips, index % strips * grid.wide - grid.skip
        strips = parts(grid.rows, grid.tall)
        index, row = index // strips, index % strips * grid.tall
        matrix = find_matrix(grid, index, other)
        line = moved(grid, matrix, row, grid.down, here)
    while True:
        start = max(column, 0)
        rows, columns = min(grid.tall, grid.rows - row), min(column + grid.wide, grid.columns) - start
        if grid.direct:
            run_direct(grid, line, start, rows, columns)
        else:
            run_tile(grid, &blocks, line, start, rows, columns)
        tile += 1
        if tile == stop:
            return
        column += grid.wide
        if column >= grid.columns:
            column, row = -grid.skip, row + grid.tall
            if row >= grid.rows:
                row, index = 0, index + 1
                matrix = find_matrix(grid, index, other)
            line = moved(grid, matrix, row, grid.down, here)


cdef inline Py_ssize_t parts(Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    return 1 if n <= size else (n + size - 1) // size


cdef void run_grid(Grid *grid, Py_ssize_t matrices, bint alone) noexcept nogil:
    """Run the kernel on all tiles of a grid."""
    cdef const Kernel *kernel = grid.kernel
    cdef Py_ssize_t item = kernel.item, count
    cdef unsigned int flat = 0, here = 0
    cdef int i, nin = kernel.nin
    cdef flags_t flags = save_flags()
    grid.tall, grid.wide = min(grid.tall, grid.rows), min(grid.wide, grid.columns)
    if not grid.direct:
        grid.shared = (
            kernel.shared_loop != NULL and grid.along[nin - 1] == 0 and grid.down[nin - 1] == 0)
        grid.loop = kernel.shared_loop if grid.shared else kernel.loop
        for i in range(nin + 1):
            if (grid.along[i] == item or grid.columns == 1) and (grid.tall == 1 or (
                    grid.down[i] == grid.columns * item and grid.wide == grid.columns)):
                flat |= <unsigned int> 1 << i
        if grid.ahead:
            flat &= <unsigned int> 1 << nin
        if grid.shared:
            flat |= <unsigned int> 1 << (nin - 1)
        if kernel.load == NULL:
            here = flat
            for i in range(nin + 1 if grid.shape == COLUMNS else 0):
                if grid.along[i] == item and grid.down[i] & (item - 1) == 0:
                    here |= <unsigned int> 1 << i
        grid.flat, grid.here = flat, here
        # The copies of rows are large, so that their output is made over the copy of the first input.
        # Otherwise it has a block of its own: that of an input may be used again by the next tile.
        grid.own = nin if grid.shape == ELEMENTS else 0
        grid.block = whole_lines(grid.tall * grid.wide * kernel.block_item)
        grid.packed = max(nin, grid.own + 1) * grid.block
    count = matrices * parts(grid.rows, grid.tall) * parts(grid.columns + grid.skip, grid.wide)
    if alone or count == 1:
        run_tiles(grid, 0, count)
    else:
        split(run_tiles, grid, count, grid.unit, matrices * grid.rows * grid.columns)
    restore_flags(flags)


# --------------------------------------------------------------- one dimension

cdef inline bint is_streamed(const Kernel *kernel, Py_ssize_t n) noexcept nogil:
    return n * kernel.item >= STREAM and kernel.stream != NULL


cdef void run_aligned(
    const Kernel *kernel, void *loop, char **args, Py_ssize_t n, const Py_ssize_t *steps, bint streamed
) noexcept nogil:
    """Run `loop` on the elements up to the next cache line, and then on the rest.

    All large arrays of NumPy start 16 bytes after the start of a cache line. Without this
    step, each 64-byte vector would straddle two lines. For relu in the cache, this takes
    a fifth to a third of the time.
    """
    cdef char *rest[MAX_INPUTS + 1]
    cdef Py_ssize_t lead = (-<Py_ssize_t> args[kernel.nin]) & 63
    cdef int i
    if n < UNALIGNED:
        call(loop, kernel.nin, args, n)
        return
    for i in range(kernel.nin):
        if args[i] == args[kernel.nin]:
            streamed = False                # in place: reading the input caches the lines anyway
    if lead % kernel.item != 0 or (lead == 0 and not streamed):
        call(loop, kernel.nin, args, n)
        return
    lead = lead // kernel.item
    for i in range(kernel.nin + 1):
        rest[i] = args[i] + lead * steps[i]
    call(loop, kernel.nin, args, lead)
    if streamed:
        run_streamed(kernel, loop, rest, n - lead, steps)
    else:
        call(loop, kernel.nin, rest, n - lead)


cdef void run_streamed(
    const Kernel *kernel, void *loop, char **args, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil:
    """Run `loop` into a block, and copy the block to the output, bypassing the cache.

    The output must be aligned to a cache line. An ordinary store to a line that is not in
    the cache would read that line first.
    """
    cdef char stack[BLOCK + 63]
    cdef char *block = aligned(stack)
    cdef char *now[MAX_INPUTS + 1]
    cdef Py_ssize_t start = 0, size = BLOCK // kernel.item, count
    cdef int i, nin = kernel.nin
    while start < n:
        count = min(size, n - start)
        for i in range(nin):
            now[i] = args[i] + start * steps[i]
        now[nin] = block
        call(loop, nin, now, count)
        kernel.stream(block, args[nin] + start * kernel.item, count * kernel.item)
        start += count
    kernel.stream(block, args[nin], 0)


cdef inline void *contiguous_loop(
    const Kernel *kernel, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil:
    """The loop that takes n elements of each operand as they lie, but for their type; NULL if none does."""
    cdef int i, last = kernel.nin - 1
    # The shared loop reads only one value of the last input.
    cdef bint shared = kernel.shared_loop != NULL and steps[last] == 0
    if n != 1:
        for i in range(kernel.nin + 1):
            if steps[i] != kernel.item and not (shared and i == last):
                return NULL
    return kernel.shared_loop if shared else kernel.loop


cdef void run_converted(const Kernel *kernel, void *loop, char **args, Py_ssize_t n) noexcept nogil:
    """Run `loop` on n contiguous elements that have to be converted, block by block.

    `run_tile` would do the same, 130 instructions later in a call and 80 in each block.
    """
    cdef char stack[STACK + 63]
    cdef char *now[MAX_INPUTS + 1]
    cdef char *room = aligned(stack)
    cdef Py_ssize_t start = 0, size = min(n, kernel.fit), count
    cdef Py_ssize_t block = whole_lines(size * kernel.block_item)
    cdef int i, nin = kernel.nin, inputs = nin
    for i in range(nin + 1):
        now[i] = room + i * block
    if loop == kernel.shared_loop:
        inputs -= 1
        kernel.load(args[inputs], now[inputs], 1)
    while start < n:
        count = min(size, n - start)
        for i in range(inputs):
            kernel.load(args[i] + start * kernel.item, now[i], count)
        call(loop, nin, now, count)
        kernel.store(now[nin], args[nin] + start * kernel.item, count)
        start += count


cdef inline void run_contiguous(
    const Kernel *kernel, void *loop, char **args, Py_ssize_t n, const Py_ssize_t *steps, bint streamed
) noexcept nogil:
    """The work of one thread on contiguous elements."""
    if kernel.load != NULL:
        run_converted(kernel, loop, args, n)
    else:
        run_aligned(kernel, loop, args, n, steps, streamed)


cdef void run_span(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Process the elements from `start` to `stop` of one row, the share of one thread."""
    cdef const Grid *grid = <const Grid *> context
    cdef char *here[MAX_INPUTS + 1]
    cdef int i
    for i in range(grid.kernel.nin + 1):
        here[i] = grid.data[i] + start * grid.along[i]
    run_contiguous(
        grid.kernel, grid.loop, here, stop - start, grid.along, is_streamed(grid.kernel, grid.columns))


cdef void run_blocks(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps, bint ahead, bint alone
) noexcept nogil:
    """Run a kernel on n elements as on a matrix of one row; `ahead`: see `Grid`."""
    cdef Grid grid
    cdef Py_ssize_t *down = [0, 0, 0, 0]
    grid.kernel, grid.shape, grid.direct, grid.ahead = kernel, ELEMENTS, False, ahead
    grid.data, grid.down, grid.along, grid.plan, grid.rooms = args, down, steps, NULL, NULL
    grid.rows, grid.columns, grid.tall, grid.wide, grid.unit = 1, n, 1, kernel.fit, 1
    grid.skip = 0
    if n > kernel.fit and steps[kernel.nin] == kernel.item:
        # The tiles behind the first one start with a cache line of the output: see `run_aligned`.
        grid.skip = (<Py_ssize_t> args[kernel.nin] & 63) // kernel.item
    run_grid(&grid, 1, alone)


cdef void run(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps, bint alone
) noexcept nogil:
    """Apply a kernel to n elements of each operand.

    Parameters
    ----------
    kernel : pointer to Kernel
    args : addresses of the operands, which must be aligned; the output is last, as in a ufunc. An
        input must be the output itself, or share no memory with it
    n : number of elements
    steps : distance of consecutive elements in bytes, for each operand
    alone : whether to use the calling thread only
    """
    cdef flags_t flags
    cdef Grid grid
    cdef void *loop = contiguous_loop(kernel, n, steps)
    if loop == NULL:
        run_blocks(kernel, args, n, steps, False, alone)
        return
    flags = save_flags()
    if alone or n < 2 * SHARE:
        run_contiguous(kernel, loop, args, n, steps, is_streamed(kernel, n))
    else:
        grid.kernel, grid.loop, grid.data, grid.along, grid.columns = kernel, loop, args, steps, n
        # Shares are multiples of 64 elements, so that two threads rarely write to one cache line.
        split(run_span, &grid, n, 64, n)
    restore_flags(flags)


cdef void run_one(const Kernel *kernel, char **args) noexcept nogil:
    """Apply a kernel to one element of each operand."""
    cdef flags_t flags = save_flags()
    if kernel.load != NULL:
        run_converted(kernel, kernel.loop, args, 1)
    else:
        call(kernel.loop, kernel.nin, args, 1)
    restore_flags(flags)


ctypedef enum overlap_t:
    APART, AHEAD, SEQUENCE


cdef overlap_t overlap(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil:
    """How inputs share memory with other elements of the output.

    SEQUENCE: an element may depend on an earlier one, as in the `reduce` and `accumulate` methods of a
    ufunc. AHEAD: elements of an input must be read before they are overwritten. APART: neither.
    """
    cdef int i, nin = kernel.nin
    cdef Py_ssize_t step = steps[nin], span = (n - 1) * step, between, apart
    cdef Py_ssize_t size = step if step > 0 else -step
    cdef char *low = args[nin] + min(0, span)
    cdef char *high = args[nin] + max(0, span) + kernel.item
    cdef overlap_t found = APART
    if n == 1:
        return APART
    if step == 0:
        return SEQUENCE
    for i in range(nin):
        if args[i] == args[nin] and steps[i] == step:
            continue
        span = (n - 1) * steps[i]
        if args[i] + min(0, span) >= high or args[i] + max(0, span) + kernel.item <= low:
            continue
        if steps[i] != step:
            return SEQUENCE
        between = args[i] - args[nin]
        apart = between % size
        apart += size if apart < 0 else 0
        if apart >= kernel.item and size - apart >= kernel.item:
            continue                                 # interleaved, such as columns of one array
        if apart != 0 or (between > 0) != (step > 0):
            return SEQUENCE
        found = AHEAD
    return found


cdef void ufunc_loop(
    char **args, const cnp.npy_intp *dimensions, const cnp.npy_intp *steps, void *data
) noexcept nogil:
    """The inner loop of a ufunc of elements. The operands may overlap in any way."""
    cdef const Kernel *kernel = <const Kernel *> data
    cdef const Py_ssize_t *distances = <const Py_ssize_t *> steps
    cdef Py_ssize_t n = dimensions[0], element
    cdef overlap_t found = overlap(kernel, args, n, distances)
    cdef char *here[MAX_INPUTS + 1]
    cdef int i
    if found == APART:
        run(kernel, args, n, distances, False)
    elif found == AHEAD:
        run_blocks(kernel, args, n, distances, True, True)
    else:
        for element in range(n):
            for i in range(kernel.nin + 1):
                here[i] = args[i] + element * steps[i]
            run(kernel, here, 1, distances, True)


# ------------------------------------------------------------- more dimensions

cdef int closest(const Plan *plan, int i) noexcept nogil:
    """The dimension along which the elements of operand i are the closest."""
    cdef int k, found = 0
    if plan.steps[0][i] == 0:
        return 0
    for k in range(1, plan.ndim):
        if plan.steps[k][i] and magnitude(plan.steps[k][i]) < magnitude(plan.steps[found][i]):
            found = k
    return found


cdef inline Py_ssize_t fitting(Py_ssize_t count, Py_ssize_t length, Py_ssize_t size) noexcept nogil:
    """How many of so many rows or columns of a length fit into a tile. Divisions are slow."""
    return count if count * length <= size else size // length


cdef void run_matrices(Plan *plan, bint alone) noexcept nogil:
    """Apply a kernel to a plan of two dimensions or more; on the calling thread only, if `alone`.

    An input may be the output. It must not overlap the output otherwise.
    """
    cdef const Kernel *kernel = plan.kernel
    cdef Grid grid
    cdef Py_ssize_t columns = plan.dims[0], size = kernel.fit, matrices = 1
    cdef int i, k, dim = 0
    cdef bint copied = False
    for i in range(kernel.nin + 1):
        copied = copied or plan.steps[1][i] not in (0, columns * kernel.item)
        dim = max(dim, closest(plan, i))
    grid.kernel, grid.shape, grid.ahead, grid.rooms, grid.unit = kernel, ELEMENTS, False, NULL, 1
    grid.skip = 0
    grid.loop = NULL if dim or kernel.load != NULL else contiguous_loop(kernel, columns, plan.steps[0])
    grid.direct = grid.loop != NULL and (
        columns * kernel.item >= (DIRECT if copied else DIRECT_UNCOPIED))
    if grid.direct:
        size = DIRECT_TILE
    grid.plan, grid.dim = plan, dim if dim else 1
    grid.data, grid.along, grid.down = plan.data, plan.steps[0], plan.steps[grid.dim]
    grid.rows, grid.columns = plan.dims[grid.dim], columns
    if dim:
        grid.tall = min(TILE_ROWS, grid.rows)
        grid.wide = fitting(columns, grid.tall, BLOCK // kernel.block_item)
    else:
        grid.wide = min(columns, size)
        grid.tall = fitting(grid.rows, grid.wide, size)
    for k in range(1, plan.ndim):
        if k != grid.dim:
            matrices *= plan.dims[k]
    run_grid(&grid, matrices, alone)
