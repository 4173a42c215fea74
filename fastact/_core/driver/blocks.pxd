"""Blocks in the L1 cache, and copies into and out of them."""

from libc.string cimport memcpy

from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel

cdef enum:
    # Size of a block in bytes. The blocks of four operands, and what is copied to and from them, stay
    # in the 32 KiB of the smallest L1 cache in use.
    BLOCK = 4096
    # That of an operation on one input: fewer tiles, and less time between them. With 8 KiB, strided
    # calls take longer again.
    LARGER_BLOCK = 6144
    # Space for the blocks of four operands, and for 16-bit elements before their conversion.
    STACK = (MAX_INPUTS + 1) * BLOCK + 2048


cdef inline Py_ssize_t magnitude(Py_ssize_t step) noexcept nogil:
    return step if step > 0 else -step


cdef inline Py_ssize_t whole_lines(Py_ssize_t size) noexcept nogil:
    """A size rounded up to a multiple of 64 bytes, the size of a cache line."""
    return (size + 63) & ~<Py_ssize_t> 63


cdef inline char *aligned(char *address) noexcept nogil:
    """The address rounded up to a multiple of 64 bytes, the size of a cache line."""
    return <char *> ((<size_t> address + 63) & ~(<size_t> 63))


cdef inline void move(
    char *source, Py_ssize_t step, char *target, Py_ssize_t target_step, Py_ssize_t item, Py_ssize_t n
) noexcept nogil:
    """Copy n elements with stride `step` to elements with stride `target_step`, in bytes."""
    cdef Py_ssize_t i
    # memcpy with a constant size compiles to one load and one store.
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


cdef inline void copy_pairs(
    char *source, Py_ssize_t step, char *target, Py_ssize_t target_step,
    Py_ssize_t width, Py_ssize_t rows, Py_ssize_t half
) noexcept nogil:
    """Copy rows of half to twice half the bytes by two moves, which may overlap."""
    cdef Py_ssize_t i, rest = width - half
    for i in range(rows):
        memcpy(target + i * target_step, source + i * step, half)
        memcpy(target + i * target_step + rest, source + i * step + rest, half)


cdef inline void copy_rows(
    char *source, Py_ssize_t step, char *target, Py_ssize_t target_step, Py_ssize_t width, Py_ssize_t rows
) noexcept nogil:
    """Copy rows of `width` bytes that start every `step` bytes.

    The rows are short: two moves of a constant size are faster than a call.
    """
    cdef Py_ssize_t i
    if step == width and target_step == width:
        memcpy(target, source, width * rows)
    elif 64 <= width <= 128:
        copy_pairs(source, step, target, target_step, width, rows, 64)
    elif 32 <= width < 64:
        copy_pairs(source, step, target, target_step, width, rows, 32)
    elif 16 <= width < 32:
        copy_pairs(source, step, target, target_step, width, rows, 16)
    elif 8 <= width < 16:
        copy_pairs(source, step, target, target_step, width, rows, 8)
    elif 4 <= width < 8:
        copy_pairs(source, step, target, target_step, width, rows, 4)
    else:
        for i in range(rows):
            memcpy(target + i * target_step, source + i * step, width)


cdef inline void copy_line(
    const Kernel *kernel, char *source, Py_ssize_t step, char *target, Py_ssize_t target_step, Py_ssize_t n
) noexcept nogil:
    """Copy n elements, contiguous on one side at least. Compilers make use of that, given it by name."""
    cdef Py_ssize_t item = kernel.item
    if target_step != item:
        move(source, item, target, target_step, item, n)
    elif step == 2 * item and kernel.every_second != NULL:
        kernel.every_second(source, target, n)
    else:
        move(source, step, target, item, item, n)


cdef inline void copy_tile(
    const Kernel *kernel, char *source, Py_ssize_t source_down, Py_ssize_t source_along,
    char *target, Py_ssize_t target_down, Py_ssize_t target_along, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Copy a tile to a contiguous block, or back, in the order in which the tile lies in memory."""
    cdef Py_ssize_t i, item = kernel.item
    if source_along == item and target_along == item:
        copy_rows(source, source_down, target, target_down, columns * item, rows)
    elif source_down == item and target_along == item and kernel.transpose != NULL:
        kernel.transpose(source, source_along, target, target_down, columns, rows)
    elif source_along == item and target_down == item and kernel.transpose != NULL:
        kernel.transpose(source, source_down, target, target_along, rows, columns)
    elif (source_down and magnitude(source_down) < magnitude(source_along)
            or magnitude(target_down) < magnitude(target_along)):
        for i in range(columns):
            move(
                source + i * source_along, source_down,
                target + i * target_along, target_down, item, rows)
    else:
        for i in range(rows):
            copy_line(
                kernel, source + i * source_down, source_along,
                target + i * target_down, target_along, columns)
