"""The loop of all kernels: tiles, conversions and threads, independent of the activations.

Design
------
A kernel requires contiguous operands of the type in which it computes. Operands that meet this
requirement go straight to it: `run` takes one dimension, without a plan. All others are processed by
tiles, the parts of a matrix that two of the dimensions span, and `run_tile` is the only function that
knows how: an operand that is contiguous within the tile is used where it is; a tile of any other
input is gathered into a block in the L1 cache (and converted) before the kernel runs, and the output
is scattered afterwards. One dimension is a matrix of one row. The rows of softmax are tiles, too, whose
rows or columns are whole: `rows.pyx` finds them.

The columns of the matrix are the innermost dimension. Its rows are the next one, unless the elements of
an operand lie closer together along another dimension, as in a matrix in column-major order. The rows
are taken from that dimension then. If such an operand were processed by rows, each element would
require another cache line. Rows that are long enough skip the blocks: each goes to the kernel as it is.

A large call is split over threads, each of which processes a contiguous share of it.

That no input overlaps the output is for the callers to see to. `run_any` does so itself, for the
loops of NumPy, whose operands may be anything.
"""

cimport cython

from fastact._core.driver.blocks cimport BLOCK, STACK, aligned, copy_rows, gather, move
from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel, call, call_rows
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
    # Number of elements of a tile of such rows, the unit in which they are split over threads.
    DIRECT_TILE = 16384


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


# -------------------------------------------------------------------- one tile

cdef inline bint by_columns(Py_ssize_t row_step, Py_ssize_t column_step) noexcept nogil:
    """Whether the stride along a column is the smaller one, as in column-major order.

    Absolute values are compared, because squares of large strides would overflow.
    """
    return (row_step if row_step > 0 else -row_step) < (column_step if column_step > 0 else -column_step)


cdef inline void gather_tile(
    const Kernel *kernel, char *array, Py_ssize_t row_step, Py_ssize_t column_step,
    char *block, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Copy a tile to a contiguous block, reading it in memory order."""
    cdef Py_ssize_t i, item = kernel.item
    if rows == 1:
        gather(kernel, array, column_step, block, columns)
    elif column_step == item:
        copy_rows(array, row_step, block, columns * item, columns * item, rows)
    elif row_step == item and kernel.transpose != NULL:
        kernel.transpose(array, column_step, block, columns * item, columns, rows)
    elif row_step and by_columns(row_step, column_step):
        for i in range(columns):
            move(array + i * column_step, row_step, block + i * item, columns * item, item, rows)
    else:
        for i in range(rows):
            gather(kernel, array + i * row_step, column_step, block + i * columns * item, columns)


cdef inline void scatter_tile(
    const Kernel *kernel, char *block, char *array, Py_ssize_t row_step, Py_ssize_t column_step,
    Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Copy a contiguous block to a tile, the inverse of `gather_tile`."""
    cdef Py_ssize_t i, item = kernel.item
    if rows == 1:
        move(block, item, array, column_step, item, columns)
    elif column_step == item:
        copy_rows(block, columns * item, array, row_step, columns * item, rows)
    elif row_step == item and kernel.transpose != NULL:
        kernel.transpose(block, columns * item, array, column_step, rows, columns)
    elif by_columns(row_step, column_step):
        for i in range(columns):
            move(block + i * item, columns * item, array + i * column_step, row_step, item, rows)
    else:
        for i in range(rows):
            move(block + i * columns * item, item, array + i * row_step, column_step, item, columns)


cdef inline bint usable(const Tiles *tiles, int i, bint flat, Py_ssize_t columns) noexcept nogil:
    """Whether the kernel takes operand i where it is; `flat`: it is contiguous within the tile."""
    if tiles.kernel.load != NULL or tiles.ahead >> i & 1:
        return False
    if flat or (tiles.shared and i == tiles.kernel.nin - 1):
        return True
    return (tiles.shape == COLUMNS and (columns == 1 or tiles.along[i] == tiles.kernel.item)
            and tiles.down[i] & (tiles.kernel.item - 1) == 0)


cdef void run_tile(
    const Tiles *tiles, Blocks *blocks, char **args, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Run the kernel on a tile, through blocks where the operands are not contiguous."""
    cdef const Kernel *kernel = tiles.kernel
    cdef char *now[MAX_INPUTS + 1]
    cdef Py_ssize_t elements[MAX_INPUTS + 1]         # from row to row of what the kernel gets
    cdef char *source
    cdef int i, shift, nin = kernel.nin
    cdef Py_ssize_t row_step = 0, column_step = 0, n = rows * columns
    cdef bint flat = False
    for i in range(nin + 1):
        row_step, column_step = tiles.down[i], tiles.along[i]
        flat = (column_step == kernel.item or columns == 1) and (
            rows == 1 or row_step == columns * kernel.item)
        if usable(tiles, i, flat, columns):
            now[i] = args[i]
            continue
        now[i] = blocks.data[i]
        if i == nin or (
                blocks.source[i] == args[i] and rows <= blocks.rows[i] and (
                    columns == blocks.columns[i] or rows == 1 and columns < blocks.columns[i])):
            continue                                 # the output, or what the last tile had, too
        blocks.source[i], blocks.rows[i], blocks.columns[i] = args[i], rows, columns
        if tiles.shared and i == nin - 1:
            kernel.load(args[i], now[i], 1)          # not usable, so it must be converted
        elif kernel.load == NULL:
            gather_tile(kernel, args[i], row_step, column_step, now[i], rows, columns)
        else:
            source = args[i]
            if not flat:
                source = blocks.packed
                gather_tile(kernel, args[i], row_step, column_step, source, rows, columns)
            kernel.load(source, now[i], n)
    if tiles.shape == ELEMENTS:
        call(tiles.loop, nin, now, n)
    elif tiles.shape == ROWS:
        kernel.rows(now[0], now[1] if nin > 1 else NULL, now[nin], rows, columns)
    else:
        shift = 3 if kernel.item == 8 else 2         # a division takes as long as the kernel of some rows
        for i in range(nin + 1):
            elements[i] = tiles.down[i] >> shift if now[i] == args[i] else columns
        kernel.columns(now[0], now[1] if nin > 1 else NULL, now[nin], elements, rows, columns)
    if now[nin] == args[nin]:
        return
    if now[nin] == blocks.data[0]:
        blocks.source[0] = NULL
    if kernel.store == NULL:
        scatter_tile(kernel, now[nin], args[nin], row_step, column_step, rows, columns)
    elif flat:
        kernel.store(now[nin], args[nin], n)
    else:
        kernel.store(now[nin], blocks.packed, n)
        scatter_tile(kernel, blocks.packed, args[nin], row_step, column_step, rows, columns)


# --------------------------------------------------------------- one dimension

cdef void run_blocks(
    const Kernel *kernel, void *loop, char **args, Py_ssize_t n, const Py_ssize_t *steps, unsigned int ahead
) noexcept nogil:
    """Run `loop` on n elements as on a matrix of one row, in tiles of one block."""
    cdef char stack[STACK]
    cdef Tiles tiles
    cdef Blocks blocks
    cdef char *here[MAX_INPUTS + 1]
    cdef Py_ssize_t size = BLOCK // kernel.block_item, start = 0
    cdef Py_ssize_t *down = [0, 0, 0, 0]
    cdef int i, nin = kernel.nin
    tiles.kernel, tiles.loop, tiles.shape, tiles.ahead = kernel, loop, ELEMENTS, ahead
    tiles.shared, tiles.down, tiles.along = loop != kernel.loop, down, steps
    for i in range(nin + 1):
        here[i] = args[i]
    place_blocks(&blocks, aligned(stack), nin)
    while True:
        run_tile(&tiles, &blocks, here, 1, min(size, n - start))
        start += size
        if start >= n:
            return
        for i in range(nin + 1):
            here[i] += size * steps[i]


cdef inline void place_blocks(Blocks *blocks, char *room, int nin) noexcept nogil:
    cdef int i
    # Not in a loop, which gcc would make a call of memset.
    blocks.source[0] = blocks.source[1] = blocks.source[2] = NULL
    for i in range(nin + 1):
        blocks.data[i] = room + i * BLOCK
    blocks.packed = room + (nin + 1) * BLOCK


@cython.cdivision(True)
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


cdef void run_elements(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps,
    unsigned int ahead, bint streamed
) noexcept nogil:
    """The work of one thread on one dimension: straight to the kernel, or by blocks.

    If bit i of `ahead` is set, elements of input i must be read before the output is written.
    """
    cdef int i, nin = kernel.nin
    cdef bint direct = kernel.load == NULL and not ahead
    cdef void *loop = kernel.loop
    if kernel.shared_loop != NULL and steps[nin - 1] == 0:
        loop = kernel.shared_loop
    if direct and n != 1:
        for i in range(nin + 1):
            # The shared loop reads only one value of the last input.
            if steps[i] != kernel.item and not (i == nin - 1 and loop != kernel.loop):
                direct = False
    if direct:
        run_aligned(kernel, loop, args, n, steps, streamed)
    else:
        run_blocks(kernel, loop, args, n, steps, ahead)


cdef struct Span:
    # The operands of a call of one dimension that is split over threads.
    const Kernel *kernel
    char **args
    const Py_ssize_t *steps
    bint streamed


cdef void run_span(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Process the elements from `start` to `stop`, the share of one thread."""
    cdef const Span *span = <const Span *> context
    cdef char *here[MAX_INPUTS + 1]
    cdef int i
    for i in range(span.kernel.nin + 1):
        here[i] = span.args[i] + start * span.steps[i]
    run_elements(span.kernel, here, stop - start, span.steps, 0, span.streamed)


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
    cdef flags_t flags = save_flags()
    cdef bint streamed = n * kernel.item >= STREAM and kernel.stream != NULL
    cdef Span span
    if alone or n < 2 * SHARE:
        run_elements(kernel, args, n, steps, 0, streamed)
    else:
        span.kernel, span.args, span.steps, span.streamed = kernel, args, steps, streamed
        # Shares are multiples of 64 elements, so that two threads rarely write to one cache line.
        split(run_span, &span, n, 64, n)
    restore_flags(flags)


cdef void run_one(const Kernel *kernel, char **args) noexcept nogil:
    """Apply a kernel to one element of each operand."""
    cdef flags_t flags = save_flags()
    cdef Py_ssize_t steps[MAX_INPUTS + 1]
    cdef int i
    if kernel.load == NULL:
        call(kernel.loop, kernel.nin, args, 1)
    else:
        for i in range(kernel.nin + 1):
            steps[i] = kernel.item
        run_blocks(kernel, kernel.loop, args, 1, steps, 0)
    restore_flags(flags)


@cython.cdivision(True)
cdef unsigned int overlapping(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps, bint *sequence
) noexcept nogil:
    """A bit mask of the inputs that share memory with other elements of the output.

    `sequence` is set if an element may depend on an earlier one, as in the `reduce` and
    `accumulate` methods of a ufunc. Otherwise each of these inputs is ahead of the output:
    its elements are read before they are overwritten.
    """
    cdef int i, nin = kernel.nin
    cdef Py_ssize_t step = steps[nin], span = (n - 1) * step, between, apart
    cdef Py_ssize_t size = step if step > 0 else -step
    cdef char *low = args[nin] + min(0, span)
    cdef char *high = args[nin] + max(0, span) + kernel.item
    cdef unsigned int found = 0
    sequence[0] = n > 1 and step == 0
    for i in range(nin):
        if args[i] == args[nin] and steps[i] == step:
            continue
        span = (n - 1) * steps[i]
        if args[i] + min(0, span) >= high or args[i] + max(0, span) + kernel.item <= low:
            continue
        if steps[i] != step or step == 0:
            sequence[0] = n > 1
            continue
        between = args[i] - args[nin]
        apart = between % size
        apart += size if apart < 0 else 0
        if apart >= kernel.item and size - apart >= kernel.item:
            continue                                 # interleaved, such as columns of one array
        found |= <unsigned int> 1 << i
        if apart != 0 or (between > 0) != (step > 0):
            sequence[0] = n > 1
    return found


cdef void run_any(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil:
    """Do the same as `run` for operands that may overlap in any way."""
    cdef flags_t flags
    cdef int i
    cdef bint sequence
    cdef unsigned int ahead = overlapping(kernel, args, n, steps, &sequence)
    cdef Py_ssize_t element
    cdef char *here[MAX_INPUTS + 1]
    if not sequence and not ahead:
        run(kernel, args, n, steps, False)
        return
    flags = save_flags()
    if sequence:
        for element in range(n):
            for i in range(kernel.nin + 1):
                here[i] = args[i] + element * steps[i]
            run_elements(kernel, here, 1, steps, 0, False)
    else:
        run_elements(kernel, args, n, steps, ahead, False)
    restore_flags(flags)


# ------------------------------------------------------------- more dimensions

cdef struct Grid:
    # How a plan of two dimensions or more is divided into tiles.
    const Plan *plan
    Tiles tiles
    Py_ssize_t steps[2][MAX_INPUTS + 1]              # those that `tiles` refers to
    bint direct                   # whether rows go to the kernel without a block
    int down                      # the dimension along the rows
    Py_ssize_t tall               # rows of a tile
    Py_ssize_t wide               # columns of a tile
    Py_ssize_t bands              # tiles that a column of the matrix is divided into
    Py_ssize_t strips             # tiles that a row of the matrix is divided into


cdef void run_direct(const Tiles *tiles, char **args, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Pass each row of a tile to the kernel. This moves the addresses in `args`."""
    cdef int i, nin = tiles.kernel.nin
    if columns < UNALIGNED:
        call_rows(tiles.loop, nin, args, rows, tiles.down, columns)
        return
    for _ in range(rows):
        run_aligned(tiles.kernel, tiles.loop, args, columns, tiles.along, False)
        for i in range(nin + 1):
            args[i] += tiles.down[i]


cdef void run_tiles(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Process the tiles from `start` to `stop`, the share of one thread."""
    cdef const Grid *grid = <const Grid *> context
    cdef const Plan *plan = grid.plan
    cdef const Tiles *tiles = &grid.tiles
    cdef char stack[STACK]
    cdef Blocks blocks
    cdef char *matrix[MAX_INPUTS + 1]
    cdef char *args[MAX_INPUTS + 1]
    cdef Py_ssize_t tile, index, band, strip, row, column, rows, columns, left
    cdef int i, k, operands = plan.kernel.nin + 1
    cdef flags_t flags = save_flags()
    place_blocks(&blocks, aligned(stack), operands - 1)
    for tile in range(start, stop):
        strip, index = tile % grid.strips, tile // grid.strips
        band, left = index % grid.bands, index // grid.bands
        if tile == start or (band == 0 and strip == 0):
            # The first tile of a matrix: its place follows from the other dimensions.
            for i in range(operands):
                matrix[i] = plan.data[i]
            for k in range(1, plan.ndim):
                if k != grid.down:
                    for i in range(operands):
                        matrix[i] += left % plan.dims[k] * plan.steps[i][k]
                    left //= plan.dims[k]
        row, column = band * grid.tall, strip * grid.wide
        rows = min(grid.tall, plan.dims[grid.down] - row)
        columns = min(grid.wide, plan.dims[0] - column)
        for i in range(operands):
            args[i] = matrix[i] + row * tiles.down[i] + column * tiles.along[i]
        if grid.direct:
            run_direct(tiles, args, rows, columns)
        else:
            run_tile(tiles, &blocks, args, rows, columns)
    restore_flags(flags)


cdef int closest(const Plan *plan, int i) noexcept nogil:
    """The dimension along which the elements of operand i are the closest."""
    cdef int k, found = 0
    if plan.steps[i][0] == 0:
        return 0
    for k in range(1, plan.ndim):
        if plan.steps[i][k] and by_columns(plan.steps[i][k], plan.steps[i][found]):
            found = k
    return found


cdef void run_plan(Plan *plan, bint alone) noexcept nogil:
    """Apply a kernel to all elements of a plan; on the calling thread only, if `alone`.

    An input may be the output. It must not overlap the output otherwise.
    """
    cdef const Kernel *kernel = plan.kernel
    cdef Grid grid
    cdef Tiles *tiles = &grid.tiles
    cdef Py_ssize_t *along = grid.steps[0]
    cdef Py_ssize_t *down = grid.steps[1]
    cdef Py_ssize_t size = BLOCK // kernel.block_item, columns = plan.dims[0], count
    cdef int i, last = kernel.nin - 1
    cdef bint copied = False
    for i in range(kernel.nin + 1):
        along[i] = plan.steps[i][0]
    if plan.ndim == 1:
        run(kernel, plan.data, plan.n, along, alone)
        return
    grid.plan, grid.down = plan, 0
    for i in range(kernel.nin + 1):
        copied = copied or plan.steps[i][1] not in (0, columns * kernel.item)
    grid.direct = kernel.load == NULL and (
        columns * kernel.item >= (DIRECT if copied else DIRECT_UNCOPIED))
    for i in range(kernel.nin + 1):
        grid.down = max(grid.down, closest(plan, i))
        if plan.steps[i][0] != kernel.item and not (
                i == last and plan.steps[i][0] == 0 and kernel.shared_loop != NULL):
            grid.direct = False
    if grid.down:
        grid.direct = False
        grid.tall = min(TILE_ROWS, plan.dims[grid.down])
        grid.wide = min(columns, size // grid.tall)
    else:
        grid.down = 1
        grid.wide = min(columns, DIRECT_TILE if grid.direct else size)
        grid.tall = max(1, (DIRECT_TILE if grid.direct else size) // grid.wide)
    for i in range(kernel.nin + 1):
        down[i] = plan.steps[i][grid.down]
    tiles.kernel, tiles.shape, tiles.ahead, tiles.down, tiles.along = kernel, ELEMENTS, 0, down, along
    tiles.shared = kernel.shared_loop != NULL and along[last] == 0 and (
        grid.direct or down[last] == 0)
    tiles.loop = kernel.shared_loop if tiles.shared else kernel.loop
    grid.bands = (plan.dims[grid.down] + grid.tall - 1) // grid.tall
    grid.strips = (columns + grid.wide - 1) // grid.wide
    count = plan.n // (columns * plan.dims[grid.down]) * grid.bands * grid.strips
    if alone:
        run_tiles(&grid, 0, count)
    else:
        split(run_tiles, &grid, count, 1, plan.n)
