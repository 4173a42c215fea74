"""The driver of all kernels: blocks, conversions, threads. It knows no activation.

Design
------
`run` gets one inner loop of a ufunc, that is, a base address and a step in bytes per
operand. A kernel takes contiguous operands of the type it computes in. Where all
operands are that already, `run` calls it once. Any other operand goes through a block
on the stack, small enough that the blocks of all operands stay in the L1 cache: gathered
(and converted) before the kernel runs on the block, scattered after.

A large call is split over threads, each with a contiguous share of the elements. As
every kernel is elementwise, the shares do not change the results.

The floating-point status flags are put back as they were: a kernel raises underflow and
such on its way, none of which is of interest to the caller.
"""

import operator
import os
from contextlib import contextmanager

cimport cython
from cython.parallel cimport prange
from libc.string cimport memcpy

from fastact.activations cimport to_odd_float

cdef extern from *:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define FASTACT_OPENMP 1
    #else
    #define FASTACT_OPENMP 0
    #define omp_get_max_threads() 1
    #endif

    /* The status flags only: neither rounding mode, nor flush-to-zero, nor the
       exception masks are ever changed. */
    #if defined(__x86_64__) || defined(_M_X64)
    #include <xmmintrin.h>
    typedef unsigned int fastact_flags;
    static inline fastact_flags fastact_save_flags(void) { return _mm_getcsr(); }
    static inline void fastact_restore_flags(fastact_flags flags) { _mm_setcsr(flags); }
    #else
    #include <fenv.h>
    typedef fexcept_t fastact_flags;
    static inline fastact_flags fastact_save_flags(void)
    {
        fexcept_t flags;
        fegetexceptflag(&flags, FE_ALL_EXCEPT);
        return flags;
    }
    static inline void fastact_restore_flags(fastact_flags flags)
    {
        fesetexceptflag(&flags, FE_ALL_EXCEPT);
    }
    #endif

    /* The compiler knows nothing of the flags: only volatile keeps the conversion between
       the two functions above. */
    static inline float fastact_narrow(double value)
    {
        volatile double wide = value;
        volatile float narrow = (float) wide;
        return narrow;
    }

    /* libgomp hangs in a forked child whose parent has run a parallel region. */
    static int fastact_forked = 0;
    #if defined(_WIN32)
    static int fastact_watch_fork(void) { return 0; }
    #else
    #include <pthread.h>
    static void fastact_after_fork(void) { fastact_forked = 1; }
    static int fastact_watch_fork(void) { return pthread_atfork(NULL, NULL, fastact_after_fork); }
    #endif

    #if defined(__clang__)
    #define FASTACT_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define FASTACT_COMPILER "gcc " __VERSION__
    #elif defined(_MSC_VER)
    #define FASTACT_COMPILER "MSVC"
    #else
    #define FASTACT_COMPILER "unknown"
    #endif
    """
    const bint OPENMP "FASTACT_OPENMP"
    const char *COMPILER "FASTACT_COMPILER"
    ctypedef unsigned int fastact_flags
    fastact_flags save_flags "fastact_save_flags"() noexcept nogil
    void restore_flags "fastact_restore_flags"(fastact_flags flags) noexcept nogil
    float narrow "fastact_narrow"(double value) noexcept nogil
    int forked "fastact_forked"
    int watch_fork "fastact_watch_fork"()
    int omp_get_max_threads() noexcept nogil

ctypedef void (*unary_t)(void *a, void *out, Py_ssize_t n) noexcept nogil
ctypedef void (*binary_t)(void *a, void *b, void *out, Py_ssize_t n) noexcept nogil
ctypedef void (*ternary_t)(void *a, void *b, void *c, void *out, Py_ssize_t n) noexcept nogil

cdef enum:
    # Bytes of a block. Four operands and the conversion buffer: 20 KiB, within the 32 KiB
    # of the smallest L1 cache in use.
    BLOCK = 4096
    # Elements that a thread is worth starting for. A parallel region costs some 2 us: with
    # two threads of this many, relu of float32 takes 8.9 us instead of 14.1, sigmoid 36
    # instead of 61 (2 processors, AVX-512).
    SHARE = 65536
    NO_LIMIT = 65536
    # Bytes of a result from which it goes past the cache. With one thread, relu of float32
    # takes 0.45 instead of 0.56 ns an element for 64 MiB, but for 16 MiB 0.43 instead of 0.29.
    STREAM = 1 << 25


# ------------------------------------------------------------------- threads

cdef int _limit = 1

cdef int threads_allowed() noexcept nogil:
    """How many threads a large call may use now.

    OpenMP's own number is asked every time: OMP_NUM_THREADS, the affinity of the
    process and threadpoolctl all show in it. A forked child computes serially.
    """
    if not OPENMP or forked:
        return 1
    return max(1, min(_limit, omp_get_max_threads()))


def get_num_threads():
    """How many threads a large call uses.

    Returns
    -------
    int
        The least of the limit set here, of what the control group of the process may
        use, and of OpenMP's own number, in which ``OMP_NUM_THREADS``, the affinity of
        the process and threadpoolctl show. 1 in a build without OpenMP, and in a forked child.
    """
    return threads_allowed()


def set_num_threads(n):
    """Use at most `n` threads for a call; see `get_num_threads` for what else limits them.

    The limit holds for the whole process. A call is split when every thread gets 65,536
    elements or more.

    Parameters
    ----------
    n : int
        1 or more. The default is what the environment variable ``FASTACT_NUM_THREADS``
        says, else no limit.

    Returns
    -------
    int
        The limit until now.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is less than 1.
    """
    global _limit
    count = operator.index(n)
    if count < 1:
        raise ValueError(f"number of threads: {n} given, wanted 1 or more")
    previous = _limit
    _limit = min(count, NO_LIMIT)
    return previous


@contextmanager
def num_threads(n):
    """Use at most `n` threads within a ``with`` block; as `set_num_threads`, and back.

    Parameters
    ----------
    n : int
        1 or more.

    Examples
    --------
    >>> import fastact
    >>> with fastact.num_threads(1):
    ...     fastact.get_num_threads()
    1
    """
    previous = set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(previous)


def _default_limit():
    """FASTACT_NUM_THREADS, or what the control group of this process may use."""
    asked = os.environ.get("FASTACT_NUM_THREADS")
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ImportError(f"FASTACT_NUM_THREADS={asked!r}: wanted a number from 1 on")
        return min(int(asked), NO_LIMIT)
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
        return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):                    # no control groups, or no quota ("max")
        return NO_LIMIT


# ------------------------------------------------------------------- numbers

cdef void store_number(const Kernel *kernel, double value, void *target) noexcept nogil:
    """Writes a double as an element of the arrays of a kernel; raises no status flag."""
    cdef fastact_flags flags = save_flags()
    cdef float narrowed
    if kernel.item == 8:
        (<double *> target)[0] = value
    elif kernel.item == 4:
        (<float *> target)[0] = narrow(value)
    else:
        narrowed = narrow(to_odd_float(value))
        kernel.store(&narrowed, target, 1)
    restore_flags(flags)


# -------------------------------------------------------------------- blocks

cdef inline void move(
    char *source, Py_ssize_t step, char *target, Py_ssize_t target_step, Py_ssize_t item, Py_ssize_t n
) noexcept nogil:
    """Copies n elements, from one distance in bytes to another."""
    cdef Py_ssize_t i
    # memcpy of a constant size is one load and one store.
    if step == item and target_step == item:
        memcpy(target, source, n * item)
    elif item == 4:
        for i in range(n):
            memcpy(target + i * target_step, source + i * step, 4)
    elif item == 8:
        for i in range(n):
            memcpy(target + i * target_step, source + i * step, 8)
    elif item == 2:
        for i in range(n):
            memcpy(target + i * target_step, source + i * step, 2)
    else:
        for i in range(n):
            target[i * target_step] = source[i * step]


cdef inline void gather(
    const Kernel *kernel, char *source, Py_ssize_t step, char *target, Py_ssize_t n
) noexcept nogil:
    """Contiguous copy of n elements that lie `step` bytes apart."""
    if step == 2 * kernel.item and kernel.every_second != NULL:
        kernel.every_second(source, target, n)
    else:
        move(source, step, target, kernel.item, kernel.item, n)


cdef inline void call(void *loop, int nin, char **args, Py_ssize_t n) noexcept nogil:
    if nin == 1:
        (<unary_t> loop)(args[0], args[1], n)
    elif nin == 2:
        (<binary_t> loop)(args[0], args[1], args[2], n)
    else:
        (<ternary_t> loop)(args[0], args[1], args[2], args[3], n)


cdef void run_blocks(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps,
    void *loop, unsigned int direct
) noexcept nogil:
    """Runs `loop` over blocks. Bit i of `direct`: operand i needs no block."""
    cdef char stack[(MAX_INPUTS + 2) * BLOCK + 63]
    cdef char *blocks = <char *> ((<size_t> &stack[0] + 63) & ~(<size_t> 63))
    cdef char *packed = blocks + (MAX_INPUTS + 1) * BLOCK
    cdef char *now[MAX_INPUTS + 1]
    cdef Py_ssize_t size = BLOCK // kernel.block_item
    cdef Py_ssize_t start = 0, count
    cdef char *source
    cdef int i, nin = kernel.nin
    cdef bint shared = loop != kernel.loop
    while start < n:
        count = min(size, n - start)
        for i in range(nin + 1):
            if direct >> i & 1:
                now[i] = args[i] + start * steps[i]
                continue
            now[i] = blocks + i * BLOCK
            if i == nin or (steps[i] == 0 and start > 0):
                continue                             # the output; a value that is there already
            source = args[i] + start * steps[i]
            if shared and i == nin - 1:
                kernel.load(source, now[i], 1)       # not direct, so it is to be converted
            elif kernel.load == NULL:
                gather(kernel, source, steps[i], now[i], count)
            elif steps[i] == kernel.item:
                kernel.load(source, now[i], count)
            else:
                gather(kernel, source, steps[i], packed, count)
                kernel.load(packed, now[i], count)
        call(loop, nin, now, count)
        if not direct >> nin & 1:
            source = args[nin] + start * steps[nin]
            if kernel.store == NULL:
                move(now[nin], kernel.item, source, steps[nin], kernel.item, count)
            elif steps[nin] == kernel.item:
                kernel.store(now[nin], source, count)
            else:
                kernel.store(now[nin], packed, count)
                move(packed, kernel.item, source, steps[nin], kernel.item, count)
        start += count


@cython.cdivision(True)
cdef inline void run_aligned(
    const Kernel *kernel, void *loop, char **args, Py_ssize_t n, const Py_ssize_t *steps, bint streamed
) noexcept nogil:
    """Runs `loop` in a short piece up to a line of the cache, and then on the rest.

    NumPy's large arrays begin 16 bytes behind one, all of them, and vectors of 64 bytes
    would straddle two lines each: a fifth to a third of the time of relu in the cache.
    """
    cdef char *rest[MAX_INPUTS + 1]
    cdef Py_ssize_t lead = (-<Py_ssize_t> args[kernel.nin]) & 63
    cdef int i
    for i in range(kernel.nin):
        if args[i] == args[kernel.nin]:
            streamed = False                                # its lines are read anyway
    if n < 1024 or lead % kernel.item != 0 or (lead == 0 and not streamed):
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
    """Runs `loop` into a block, which goes past the cache to an output on a line of it.

    A store to a line that is not in the cache reads that line first; this does not.
    """
    cdef char stack[BLOCK + 63]
    cdef char *block = <char *> ((<size_t> &stack[0] + 63) & ~(<size_t> 63))
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


cdef void run_share(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps,
    unsigned int ahead=0, bint streamed=False
) noexcept nogil:
    """One thread's work. Bit i of `ahead`: input i is to be read before the output is written."""
    cdef int i, nin = kernel.nin
    cdef unsigned int direct = 0
    cdef void *loop = kernel.loop
    cdef unsigned int last = <unsigned int> 1 << (nin - 1)
    if kernel.load == NULL:
        for i in range(nin + 1):
            if steps[i] == kernel.item or n == 1:
                direct |= <unsigned int> 1 << i
        direct &= ~ahead
    if kernel.shared_loop != NULL and steps[nin - 1] == 0:
        # The loop reads one value only: where it lies, unless it is to be converted.
        loop = kernel.shared_loop
        if kernel.load == NULL:
            direct |= last
    if direct == (<unsigned int> 2 << nin) - 1:
        run_aligned(kernel, loop, args, n, steps, streamed)
    else:
        run_blocks(kernel, args, n, steps, loop, direct)


@cython.cdivision(True)
cdef unsigned int overlapping(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps, bint *sequence
) noexcept nogil:
    """Which inputs share memory with other elements of the output, as bits.

    `sequence` tells whether an element may depend on one before it, as in `reduce` and
    `accumulate` of a ufunc. Otherwise the inputs found are ahead of the output.
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
            continue                                 # interleaved: columns of one array
        found |= <unsigned int> 1 << i
        if apart != 0 or (between > 0) != (step > 0):
            sequence[0] = n > 1
    return found


cdef void run(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil:
    """Applies a kernel to n elements per operand; outputs come last, as in a ufunc.

    Parameters
    ----------
    kernel : pointer to Kernel
    args : addresses of the operands; operands are aligned
    n : number of elements
    steps : bytes from one element to the next, per operand
    """
    cdef fastact_flags flags = save_flags()
    cdef int i, threads = 1, part, nin = kernel.nin
    cdef bint sequence, streamed
    cdef unsigned int ahead = overlapping(kernel, args, n, steps, &sequence)
    cdef Py_ssize_t share
    cdef char *here[MAX_INPUTS + 1]
    if sequence:
        for share in range(n):
            for i in range(nin + 1):
                here[i] = args[i] + share * steps[i]
            run_share(kernel, here, 1, steps)
    else:
        if n >= 2 * SHARE and not ahead:
            threads = <int> min(<Py_ssize_t> threads_allowed(), n // SHARE)
        streamed = n * kernel.item >= STREAM and kernel.stream != NULL
        if threads == 1:
            run_share(kernel, args, n, steps, ahead, streamed)
        else:
            # Whole vectors each, so that mostly no two threads write to one cache line.
            share = (n // threads + 64) & ~<Py_ssize_t> 63
            for part in prange(threads, num_threads=threads, schedule="static"):
                run_part(kernel, args, n, steps, part * share, share, streamed)
    restore_flags(flags)


cdef void run_part(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps,
    Py_ssize_t start, Py_ssize_t share, bint streamed
) noexcept nogil:
    cdef char *here[MAX_INPUTS + 1]
    cdef int i
    if start < n:
        for i in range(kernel.nin + 1):
            here[i] = args[i] + start * steps[i]
        run_share(kernel, here, min(share, n - start), steps, 0, streamed)


# --------------------------------------------------------------------- tiles
#
# Two-dimensional operands of which one lies by rows and another by columns. Row by row,
# every element of the latter would cost a cache line; a tile of both fits in the cache.

cdef enum:
    TILE_ROWS = 32                # two lines of a column of float32, and four of float64


cdef void gather_tile(
    const Kernel *kernel, char *array, Py_ssize_t row_step, Py_ssize_t column_step,
    char *block, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Contiguous copy of a tile, read in the order in which it lies."""
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
    """The opposite of gather_tile."""
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
    """The tiles of `rows` rows from `start` on."""
    cdef char stack[(MAX_INPUTS + 2) * BLOCK + 63]
    cdef char *blocks = <char *> ((<size_t> &stack[0] + 63) & ~(<size_t> 63))
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


cdef void run_tiles(
    const Kernel *kernel, char **args, Py_ssize_t rows, Py_ssize_t columns,
    const Py_ssize_t *row_steps, const Py_ssize_t *column_steps
) noexcept nogil:
    """As `run`, for two dimensions and operands that do not overlap the output."""
    cdef fastact_flags flags = save_flags()
    cdef Py_ssize_t bands = (rows + TILE_ROWS - 1) // TILE_ROWS, band
    cdef int threads = 1
    if rows * columns >= 2 * SHARE:
        threads = <int> min(<Py_ssize_t> threads_allowed(), rows * columns // SHARE)
    for band in prange(bands, num_threads=threads, schedule="static"):
        run_band(
            kernel, args, band * TILE_ROWS, rows - band * TILE_ROWS, columns, row_steps, column_steps)
    restore_flags(flags)


# --------------------------------------------------------------------- shares

@cython.cdivision(True)
cdef void split(
    share_t work, void *context, Py_ssize_t n, Py_ssize_t unit, Py_ssize_t elements
) noexcept nogil:
    """Calls work(context, start, stop) for shares of range(n), one per thread.

    As many threads as `elements` in all are worth. Shares begin at multiples of `unit`.
    """
    cdef fastact_flags flags = save_flags()
    cdef Py_ssize_t units = (n + unit - 1) // unit, share
    cdef int part, threads = 1
    if elements >= 2 * SHARE:
        threads = <int> max(1, min(<Py_ssize_t> threads_allowed(), elements // SHARE, units))
    if threads == 1:
        work(context, 0, n)
    else:
        share = (units + threads - 1) // threads * unit
        for part in prange(threads, num_threads=threads, schedule="static"):
            work(context, min(n, part * share), min(n, (part + 1) * share))
    restore_flags(flags)


compiler = COMPILER.decode().strip()
openmp = bool(OPENMP)
if watch_fork():
    raise ImportError("pthread_atfork failed: out of memory")
_limit = _default_limit()
