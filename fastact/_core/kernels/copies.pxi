# Copies that the engine makes to and from its blocks.
#
# `every_second` is a separate function because a stride of two elements is the most common one. The
# compiler vectorizes this loop, using whole-vector loads and shuffles.

from libc.string cimport memcpy

cdef extern from "vectors.h":
    Py_ssize_t stream_vectors "fastact_stream"(char *x, char *out, Py_ssize_t n) noexcept nogil
    void fence "fastact_fence"() noexcept nogil
    const bint STREAMS "FASTACT_STREAMS"
    const Py_ssize_t ROW "FASTACT_ROW"
    void square_16 "fastact_square_16"(
        char *x, Py_ssize_t x_step, char *out, Py_ssize_t out_step) noexcept nogil
    void square_32 "fastact_square_32"(
        char *x, Py_ssize_t x_step, char *out, Py_ssize_t out_step) noexcept nogil
    void square_64 "fastact_square_64"(
        char *x, Py_ssize_t x_step, char *out, Py_ssize_t out_step) noexcept nogil

ctypedef fused bits_array:
    u16
    u32
    u64

cdef void every_second(bits_array x, bits_array out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    # The last element is separate, because a vector also loads the element after its last one.
    for i in range(n - 1):
        out[i] = x[2 * i]
    if n > 0:
        out[n - 1] = x[2 * n - 2]


cdef void stream(char *x, char *out, Py_ssize_t n) noexcept nogil:
    """Copy n bytes, bypassing the cache; if n is 0, wait until all stores are complete."""
    cdef Py_ssize_t done = stream_vectors(x, out, n)
    memcpy(out + done, x + done, n - done)
    if n == 0:
        fence()


cdef inline void transpose_square(
    bits_array kind, char *x, Py_ssize_t x_step, char *out, Py_ssize_t out_step
) noexcept nogil:
    """out[j, i] = x[i, j] for a square with the side of one vector; `kind` only selects the type."""
    if bits_array is u16:
        square_16(x, x_step, out, out_step)
    elif bits_array is u32:
        square_32(x, x_step, out, out_step)
    else:
        square_64(x, x_step, out, out_step)


cdef void transpose(
    bits_array x, Py_ssize_t x_step, bits_array out, Py_ssize_t out_step,
    Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """out[j, i] = x[i, j]; steps are from row to row, in bytes, and each row is contiguous."""
    cdef Py_ssize_t item = sizeof(x[0]), side = ROW // <Py_ssize_t> sizeof(x[0])
    cdef Py_ssize_t outer, inner, i, j, k
    cdef char *source
    cdef char *target
    # Process a few rows at a time, and go along these rows, in the array with the larger distance
    # between rows. If this distance is a power of two, the cache lines of the rows are in the same
    # cache set.
    cdef bint by_rows = max(x_step, -x_step) > max(out_step, -out_step)
    outer = rows if by_rows else columns
    inner = columns if by_rows else rows
    cdef Py_ssize_t source_outer = x_step if by_rows else item
    cdef Py_ssize_t source_inner = item if by_rows else x_step
    cdef Py_ssize_t target_outer = item if by_rows else out_step
    cdef Py_ssize_t target_inner = out_step if by_rows else item
    i = 0
    while i < outer:
        source, target = <char *> x + i * source_outer, <char *> out + i * target_outer
        j = 0
        if outer - i >= side:
            while inner - j >= side:
                transpose_square(x, source, x_step, target, out_step)
                source += side * source_inner
                target += side * target_inner
                j += side
        for k in range(min(side, outer - i)):
            copy(
                <bits_array> (source + k * source_outer), source_inner,
                <bits_array> (target + k * target_outer), target_inner, inner - j)
        i += side


cdef inline void copy(
    bits_array x, Py_ssize_t x_step, bits_array out, Py_ssize_t out_step, Py_ssize_t n
) noexcept nogil:
    """out[i] = x[i]; steps are in bytes."""
    cdef Py_ssize_t i
    for i in range(n):
        (<bits_array> (<char *> out + i * out_step))[0] = (<bits_array> (<char *> x + i * x_step))[0]
