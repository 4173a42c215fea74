"""The driver of all kernels: blocks, conversions and shares of threads. It knows no activation.

Design
------
`run` gets one inner loop of a ufunc, that is, a base address and a step in bytes per
operand. A kernel takes contiguous operands of the type it computes in. Where all
operands are that already, `run` calls it once. Any other operand goes through a block
on the stack, small enough that the blocks of all operands stay in the L1 cache: gathered
(and converted) before the kernel runs on the block, scattered after.

A large call is split over threads, each with a contiguous share of the elements.
"""

cimport cython

from fastact._core.blocks cimport BLOCK, STACK, aligned, gather, move
from fastact._core.flags cimport flags_t, restore_flags, save_flags
from fastact._core.kernel cimport MAX_INPUTS, Kernel, call
from fastact._core.threads cimport SHARE, split
from fastact.activations cimport to_odd_float

cdef extern from *:
    """
    /* The compiler knows nothing of the status flags: only volatile keeps the conversion
       between saving and restoring them. */
    static inline float fastact_narrow(double value)
    {
        volatile double wide = value;
        volatile float narrow = (float) wide;
        return narrow;
    }
    """
    float narrow "fastact_narrow"(double value) noexcept nogil

cdef enum:
    # Bytes of a result from which it goes past the cache. With one thread, relu of float32
    # takes 0.45 instead of 0.56 ns an element for 64 MiB, but for 16 MiB 0.43 instead of 0.29.
    STREAM = 1 << 25


cdef void store_number(const Kernel *kernel, double value, void *target) noexcept nogil:
    """Writes a double as an element of the arrays of a kernel; raises no status flag."""
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


cdef void run_blocks(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps,
    void *loop, unsigned int direct
) noexcept nogil:
    """Runs `loop` over blocks. Bit i of `direct`: operand i needs no block."""
    cdef char stack[STACK]
    cdef char *blocks = aligned(stack)
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


cdef void run_share(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps,
    unsigned int ahead, bint streamed
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


cdef struct Work:
    # A call that is split over threads.
    const Kernel *kernel
    char **args
    const Py_ssize_t *steps
    bint streamed


cdef void run_part(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """The elements of a call from `start` to `stop`: one thread's share."""
    cdef const Work *work = <const Work *> context
    cdef char *here[MAX_INPUTS + 1]
    cdef int i
    for i in range(work.kernel.nin + 1):
        here[i] = work.args[i] + start * work.steps[i]
    run_share(work.kernel, here, stop - start, work.steps, 0, work.streamed)


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
    cdef flags_t flags = save_flags()
    cdef int i, nin = kernel.nin
    cdef bint sequence, streamed = n * kernel.item >= STREAM and kernel.stream != NULL
    cdef unsigned int ahead = overlapping(kernel, args, n, steps, &sequence)
    cdef Py_ssize_t element
    cdef char *here[MAX_INPUTS + 1]
    cdef Work work
    if sequence:
        for element in range(n):
            for i in range(nin + 1):
                here[i] = args[i] + element * steps[i]
            run_share(kernel, here, 1, steps, 0, False)
    elif ahead or n < 2 * SHARE:
        run_share(kernel, args, n, steps, ahead, streamed)
    else:
        work.kernel, work.args, work.steps, work.streamed = kernel, args, steps, streamed
        # Whole vectors each, so that mostly no two threads write to one cache line.
        split(run_part, &work, n, 64, n)
    restore_flags(flags)
