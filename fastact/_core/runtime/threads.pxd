"""What the threads module offers to the modules above it."""

cdef enum:
    # Elements that a thread is worth starting for. A parallel region costs some 2 us: with
    # two threads of this many, relu of float32 takes 8.9 us instead of 14.1, sigmoid 36
    # instead of 61 (2 processors, AVX-512).
    SHARE = 65536
    # Elements from which a call releases the GIL: releasing and acquiring it takes 40 ns, and
    # relu of this many float32 150.
    RELEASE = 2048

ctypedef void (*share_t)(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil

cdef int threads_for(Py_ssize_t elements) noexcept nogil

cdef void split(
    share_t work, void *context, Py_ssize_t n, Py_ssize_t unit, Py_ssize_t elements
) noexcept nogil
