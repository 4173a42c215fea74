# cython: embedsignature=True, embedsignature.format=clinic
"""Buffers of large results, kept when they are freed, and handed out again.

Design
------
The C library gives a large block back to the system when it is freed, and takes it anew,
page by page, when it is next written: for a large result this costs more than computing
it. So large results, and no other arrays, are allocated by a handler of our own (NEP 49):
freed, its blocks are kept, up to a limit in all, and the next result of the same size gets
the one that was freed last. A kept block is marked by MADV_FREE, so that the system may take
its pages when memory is short.

An array carries the handler that allocated it, so it may live anywhere and as long as it
wants. A handler set by the user takes precedence. NumPy calls handlers under the GIL,
which guards the table of blocks. In a Python without a GIL, a lock does.

NumPy finds the handler in the current context. Ours is set in a copy of it, which is left afterwards:
to set the previous handler takes memory, and if there were none, ours would stay for all arrays.

Up to Python 3.11, setting a handler may run the garbage collector, and the collector any code.
It is paused meanwhile. If another array gets our handler all the same, no harm is done: every
function accepts every size, and a block is kept under the size that it really has.
"""

import operator
import os
import sys

cimport numpy as cnp
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_New
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport strcpy

from fastact._core.runtime.locks cimport UNLOCKED, acquire, lock_t, release

cnp.import_array()

cdef extern from *:
    """
    #include <stdlib.h>
    #if defined(__unix__) || defined(__APPLE__)
    #include <sys/mman.h>
    #include <unistd.h>
    static void *fastact_take(size_t size)
    {
        void *address;
        /* A huge page is 2 MiB; the address is to be a multiple of that to have some. */
        if (posix_memalign(&address, (size_t) 1 << 21, size) != 0)
            return NULL;
    #ifdef MADV_HUGEPAGE
        madvise(address, size, MADV_HUGEPAGE);
    #endif
        return address;
    }
    static void fastact_offer(void *address, size_t size)
    {
    #ifdef MADV_FREE
        madvise(address, size, MADV_FREE);
    #else
        (void) address; (void) size;
    #endif
    }
    #else
    #define fastact_take(size) malloc(size)
    #define fastact_offer(address, size) ((void) (address), (void) (size))
    #endif

    /* From Python 3.12 on, the collector runs between instructions of Python only. */
    #if PY_VERSION_HEX < 0x030C0000
    #define fastact_pause_collector() PyGC_Disable()
    #define fastact_resume_collector() PyGC_Enable()
    #else
    #define fastact_pause_collector() 0
    #define fastact_resume_collector() 0
    #endif

    /* In a forked child, the table is whole and its lock is free: the lock is taken for the fork.
       It is not released but made anew in the child, where those who waited for it do not exist.
       CPython has stopped all other threads before: see `locks.pxd`. */
    #if defined(Py_GIL_DISABLED) && !defined(_WIN32)
    #include <pthread.h>
    #define fastact_guard_fork pthread_atfork
    #else
    #define fastact_guard_fork(before, parent, child) \\
        ((void) (before), (void) (parent), (void) (child), 0)
    #endif
    """
    int guard_fork "fastact_guard_fork"(
        void (*before)() noexcept, void (*parent)() noexcept, void (*child)() noexcept)
    bint pause_collector "fastact_pause_collector"()
    bint resume_collector "fastact_resume_collector"()
    void *take "fastact_take"(size_t size)
    void offer "fastact_offer"(void *address, size_t size)

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyDataMemAllocator:
        void *ctx
        void *(*malloc)(void *ctx, size_t size)
        void *(*calloc)(void *ctx, size_t count, size_t size)
        void *(*realloc)(void *ctx, void *address, size_t size)
        void (*free)(void *ctx, void *address, size_t size)
    ctypedef struct PyDataMem_Handler:
        char name[127]
        cnp.npy_uint8 version
        PyDataMemAllocator allocator
    object PyDataMem_SetHandler(object handler)
    object PyDataMem_GetHandler()
    PyObject *PyDataMem_DefaultHandler
    ctypedef struct PyTypeObject:
        pass
    PyTypeObject PyArray_Type
    object PyArray_New(
        PyTypeObject *subtype, int ndim, cnp.npy_intp *dims, int type_number, cnp.npy_intp *strides,
        void *data, int itemsize, int flags, PyObject *base)

cdef enum:
    BUFFERS = 16
    # Sizes are rounded up to this, and blocks are found by their rounded size: what a
    # result may take beyond its own bytes.
    ROUNDING = 1 << 16

cdef struct Block:
    void *address
    size_t size

cdef lock_t table = UNLOCKED          # held where one of the following is read or written
cdef Block blocks[BUFFERS]            # oldest first
cdef int count = 0
cdef size_t kept = 0                  # bytes in all
cdef size_t lent = 0                  # bytes of what pools keep, which the limit is for as well
cdef size_t limit = 0

others = []                           # functions that free what pools keep, and return how many bytes it had


cdef size_t rounded(size_t size) noexcept:
    """Bytes of the block for an array of `size` bytes; 0, which none has, where it is too large.

    A small one is not kept, and not rounded.
    """
    if size < LARGE:
        return size if size else 1
    return (size + ROUNDING - 1) & ~(<size_t> ROUNDING - 1)


cdef void remove(int i) noexcept:
    """Takes a block out of the table."""
    global count, kept
    kept -= blocks[i].size
    count -= 1
    while i < count:
        blocks[i] = blocks[i + 1]
        i += 1


cdef size_t room() noexcept:
    """Bytes that the blocks may have in all."""
    return limit - lent if lent < limit else 0


cdef bint lend(Py_ssize_t size) noexcept:
    global lent
    cdef bint fits
    acquire(&table)
    fits = size <= 0 or <size_t> size <= limit and lent <= limit - <size_t> size
    if fits:
        lent += size
        drop(room())
    release(&table)
    return fits


cdef void drop(size_t wanted) noexcept:
    """Frees the oldest blocks until no more than `wanted` bytes are kept."""
    while count and kept > wanted:
        free(blocks[0].address)
        remove(0)


cdef size_t release_blocks() noexcept:
    """Frees all blocks. Returns how many bytes they had."""
    cdef size_t had
    acquire(&table)
    had = kept
    drop(0)
    release(&table)
    return had


cdef void *kept_block(size_t size) noexcept:
    """Takes the latest block of `size` bytes out of the table. NULL if there is none."""
    cdef void *address = NULL
    cdef int i
    acquire(&table)
    for i in range(count - 1, -1, -1):
        if blocks[i].size == size:
            address = blocks[i].address
            remove(i)
            break
    release(&table)
    return address


cdef void *block_malloc(void *ctx, size_t size) noexcept:
    cdef void *address
    if size < LARGE:
        return malloc(size)
    size = rounded(size)
    if size == 0:
        return NULL
    address = kept_block(size)
    if address == NULL:
        address = take(size)
    if address == NULL and release_blocks():
        address = take(size)
    return address


cdef void block_free(void *ctx, void *address, size_t size) noexcept:
    global count, kept
    # Small sizes are not rounded: a block just below LARGE must not be kept as one of LARGE.
    if address == NULL or size < LARGE:
        free(address)
        return
    size = rounded(size)
    acquire(&table)
    if size > room():
        free(address)
    else:
        drop(room() - size)
        if count == BUFFERS:
            drop(kept - 1)
        offer(address, size)
        blocks[count].address = address
        blocks[count].size = size
        count += 1
        kept += size
    release(&table)


cdef void *block_calloc(void *ctx, size_t number, size_t size) noexcept:
    # Not from a kept block: fresh pages of the system are zero already.
    if size and number > <size_t> -1 // size:
        return NULL
    size = rounded(number * size)
    return calloc(1, size) if size else NULL


cdef void *block_realloc(void *ctx, void *address, size_t size) noexcept:
    size = rounded(size)
    return realloc(address, size) if size else NULL


cdef PyDataMem_Handler handler
strcpy(handler.name, b"fastact")
handler.version = 1
handler.allocator.ctx = NULL
handler.allocator.malloc = block_malloc
handler.allocator.calloc = block_calloc
handler.allocator.realloc = block_realloc
handler.allocator.free = block_free
cdef object capsule = PyCapsule_New(&handler, "mem_handler", NULL)


cdef bint keeping() noexcept:
    """Whether blocks are kept at all."""
    cdef bint answer
    acquire(&table)
    answer = limit > 0
    release(&table)
    return answer


cdef inline object empty(
    int ndim, cnp.npy_intp *dims, cnp.npy_intp *strides, bint fortran, int type_number
):
    return PyArray_New(
        &PyArray_Type, ndim, dims, type_number, strides, NULL, 0,
        cnp.NPY_ARRAY_F_CONTIGUOUS if fortran else 0, NULL)


cdef object new_array(
    int ndim, cnp.npy_intp *dims, cnp.npy_intp *strides, bint fortran, int type_number, Py_ssize_t size
):
    """An uninitialised array of `size` bytes, from a kept block if it is large and there is one.

    The strides must be those of an array without gaps. If they are NULL, the array is in C order
    or in Fortran order.
    """
    if size < LARGE:
        return empty(ndim, dims, strides, fortran, type_number)
    cdef bint collecting = pause_collector()
    try:
        current = PyDataMem_GetHandler()
        if not keeping() or <PyObject *> current != PyDataMem_DefaultHandler:
            return empty(ndim, dims, strides, fortran, type_number)
        context = PyContext_CopyCurrent()
        PyContext_Enter(context)
        try:
            PyDataMem_SetHandler(capsule)
            return empty(ndim, dims, strides, fortran, type_number)
        finally:
            PyContext_Exit(context)
    finally:
        if collecting:
            resume_collector()


def release_buffers():
    """Give the kept buffers of freed results back to the system.

    These include the results that layers and losses keep in order to use their memory again,
    unless they are still referred to.

    Returns
    -------
    int
        How many bytes they had.
    """
    return sum(release_others() for release_others in others) + release_blocks()


def set_buffer_limit(n):
    """Keep at most `n` bytes of freed results; 0 switches it off.

    A result of 4 MiB or more that is allocated by a function of fastact is kept when it is
    freed, and handed out again as the next result of its size: fresh memory costs
    more than computing a large result. The system may take kept pages when memory is short.
    Layers and losses also keep a few of their smaller results. The limit is for both together.

    Parameters
    ----------
    n : int
        Bytes. The default is 256 MiB, or what the environment variable
        ``FASTACT_BUFFER_LIMIT`` says.

    Returns
    -------
    int
        The limit until now.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is negative.
    """
    global limit
    wanted = operator.index(n)
    if wanted < 0:
        raise ValueError(f"limit in bytes: {n} given, wanted 0 or more")
    cdef size_t following = min(wanted, sys.maxsize), previous
    cdef bint exceeded
    acquire(&table)
    previous = limit
    limit = following
    drop(room())
    exceeded = lent > limit
    release(&table)
    if exceeded:
        for release_others in others:
            release_others()
    return previous


def _default_limit():
    asked = os.environ.get("FASTACT_BUFFER_LIMIT", "")
    if asked and not asked.isdecimal():
        raise ImportError(f"FASTACT_BUFFER_LIMIT={asked!r}: wanted a number of bytes")
    # As a float, because int() refuses thousands of digits.
    return int(min(float(asked), sys.maxsize)) if asked else 1 << 28


cdef void before_fork() noexcept:
    acquire(&table)


cdef void after_fork() noexcept:
    release(&table)


cdef void in_child() noexcept:
    global table
    table = UNLOCKED


if guard_fork(before_fork, after_fork, in_child):
    raise ImportError("pthread_atfork failed: out of memory")
limit = _default_limit()
