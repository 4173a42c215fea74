# The contiguous loops and the kernel table. Each .pyx file in this directory includes
# this file, and is compiled with the flags of one instruction set.
#
# A loop only applies a formula of fastact.activations to consecutive elements, so that
# the compiler vectorizes it. The typedefs use `restrict`. Without it, GCC adds a check
# for overlap to the loop, and in-place calls with out == x would run the scalar version.
# The engine calls a loop only with operands that are identical or do not overlap. The C
# standard does not guarantee a result for identical operands. However, every element is
# read before it is written, in whatever order the elements are processed. The layout
# `in_place` of the tests would detect an error.

from cpython.pycapsule cimport PyCapsule_New
from libc.string cimport memcpy
from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t,
    uint8_t, uint16_t, uint32_t, uint64_t,
)

cimport fastact.activations as formula

cdef extern from *:
    """
    #include <stdint.h>
    typedef float *__restrict fastact_f32;
    typedef double *__restrict fastact_f64;
    typedef int8_t *__restrict fastact_i8;
    typedef int16_t *__restrict fastact_i16;
    typedef int32_t *__restrict fastact_i32;
    typedef int64_t *__restrict fastact_i64;
    typedef uint8_t *__restrict fastact_u8;
    typedef uint16_t *__restrict fastact_u16;
    typedef uint32_t *__restrict fastact_u32;
    typedef uint64_t *__restrict fastact_u64;
    """
    ctypedef float *f32 "fastact_f32"
    ctypedef double *f64 "fastact_f64"
    ctypedef int8_t *i8 "fastact_i8"
    ctypedef int16_t *i16 "fastact_i16"
    ctypedef int32_t *i32 "fastact_i32"
    ctypedef int64_t *i64 "fastact_i64"
    ctypedef uint8_t *u8 "fastact_u8"
    ctypedef uint16_t *u16 "fastact_u16"
    ctypedef uint32_t *u32 "fastact_u32"
    ctypedef uint64_t *u64 "fastact_u64"

cdef extern from "vectors.h":
    Py_ssize_t load_halves "fastact_load_halves"(u16 half, f32 out, Py_ssize_t n) noexcept nogil
    Py_ssize_t store_halves "fastact_store_halves"(f32 x, u16 half, Py_ssize_t n) noexcept nogil
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

ctypedef fused real_array:
    f32
    f64

ctypedef fused number_array:
    f32
    f64
    i8
    i16
    i32
    i64
    u8
    u16
    u32
    u64

cdef enum:
    LANES = 16                       # parts of a sum, so that its order is that of all instruction sets


# ------------------------------------------------------------------ kernel table
#
# <operation>_<type>: the loop over arrays.
# <operation>_shared_<type> (optional): the same, but the last operand is a single value.
# <operation>_narrow (optional): the loop for 16-bit types, which replaces <operation>_f32 between
# `load_<type>` and `store_<type>`.

TABLE = {}


cdef object entry(void *loop):
    return PyCapsule_New(loop, "fastact.kernel", NULL)


include "loops.pxi"          # written by setup.py, from the table of operations
include "conversions.pxi"
include "copies.pxi"
include "rows.pxi"
include "columns.pxi"
include "training.pxi"
