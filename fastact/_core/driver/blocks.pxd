"""Blocks in the L1 cache, and copies into and out of them."""

from libc.string cimport memcpy

from fastact._core.driver.kernel cimport MAX_INPUTS, Kernel

cdef enum:
    # Size of a block in bytes. The blocks of four operands and the conversion buffer take 20 KiB,
    # less than the 32 KiB of the smallest L1 cache in use.
    BLOCK = 4096
    # Space for one block per operand, the conversion buffer, and the alignment of the first block.
    STACK = (MAX_INPUTS + 2) * BLOCK + 63


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


cdef inline void gather(
    const Kernel *kernel, char *source, Py_ssize_t step, char *target, Py_ssize_t n
) noexcept nogil:
    """Copy n elements with a stride of `step` bytes to a contiguous block."""
    if step == 2 * kernel.item and kernel.every_second != NULL:
        kernel.every_second(source, target, n)
    else:
        move(source, step, target, kernel.item, kernel.item, n)
