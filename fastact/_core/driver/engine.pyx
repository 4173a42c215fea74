"""The driver of all kernels: blocks, conversions and threads, independent of the activations.

Design
------
`run` executes one inner loop of a ufunc, given a base address and a step in bytes for each
operand. A kernel requires contiguous operands of the type in which it computes. If all
operands meet this requirement, `run` calls the kernel once. All other operands are
processed by blocks on the stack. The elements of an input are gathered into a block (and
converted) before the kernel runs, and the output is scattered afterwards. The blocks are
small enough that those of all operands fit in the L1 cache.

A large call is split over threads, each of which processes a contiguous share of the elements.
"""

cimport cython

from fastact._core.driver.blocks cimport BLOCK, STACK, aligned, gather, move
from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel, call
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


cdef void run_blocks(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps,
    void *loop, unsigned int direct
) noexcept nogil:
    """Run `loop` over blocks. If bit i of `direct` is set, operand i needs no block."""
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
                continue                             # the output, or a value loaded earlier
            source = args[i] + start * steps[i]
            if shared and i == nin - 1:
                kernel.load(source, now[i], 1)       # not direct, so it must be converted
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


cdef void run_share(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps,
    unsigned int ahead, bint streamed
) noexcept nogil:
    """The work of one thread.

    If bit i of `ahead` is set, elements of input i must be read before the output is written.
    """
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
        # The loop reads only one value. It needs no block unless it must be converted.
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
        run_share(kernel, args, 1, steps, 0, False)
    restore_flags(flags)


cdef struct Work:
    # The operands of a call that is split over threads.
    const Kernel *kernel
    char **args
    const Py_ssize_t *steps
    bint streamed


cdef void run_part(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    """Process the elements from `start` to `stop`, the share of one thread."""
    cdef const Work *work = <const Work *> context
    cdef char *here[MAX_INPUTS + 1]
    cdef int i
    for i in range(work.kernel.nin + 1):
        here[i] = work.args[i] + start * work.steps[i]
    run_share(work.kernel, here, stop - start, work.steps, 0, work.streamed)


cdef void run(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil:
    """Apply a kernel to n elements of each operand.

    Parameters
    ----------
    kernel : pointer to Kernel
    args : addresses of the operands, which must be aligned; the output is last, as in a ufunc
    n : number of elements
    steps : distance of consecutive elements in bytes, for each operand
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
        # Shares are multiples of 64 elements, so that two threads rarely write to one cache line.
        split(run_part, &work, n, 64, n)
    restore_flags(flags)


cdef void run_alone(
    const Kernel *kernel, char **args, Py_ssize_t n, const Py_ssize_t *steps
) noexcept nogil:
    """Do the same as `run` on the calling thread.

    Each input must be the output itself, or share no memory with it.
    """
    cdef flags_t flags = save_flags()
    cdef bint streamed = n * kernel.item >= STREAM and kernel.stream != NULL
    run_share(kernel, args, n, steps, 0, streamed)
    restore_flags(flags)
