# What the units of kernels have in common. A unit is a group of loops that is compiled by itself, once per
# instruction set: those of one activation, of rows, of training, and copies. `generate.py` writes the
# units, with the names under which `table.c` puts their loops into the kernel table:
#
# <operation>_<type>: the loop over arrays.
# <operation>_shared_<type> (optional): the same, but the last operand is a single value.
# <operation>_narrow (optional): the loop for 16-bit types, which replaces <operation>_f32 between
# `load_<type>` and `store_<type>`.
#
# The C code of a unit is the same for all instruction sets, and needs no Python.
#
# A loop only applies a formula of fastact.activations to consecutive elements, so that
# the compiler vectorizes it. The typedefs use `restrict`. Without it, GCC adds a check
# for overlap to the loop, and in-place calls with out == x would run the scalar version.
# The engine calls a loop only with operands that are identical or do not overlap. The C
# standard does not guarantee a result for identical operands. However, every element is
# read before it is written, in whatever order the elements are processed. The layout
# `in_place` of the tests would detect an error.

from libc.stdint cimport (
    int8_t, int16_t, int32_t, int64_t,
    uint8_t, uint16_t, uint32_t, uint64_t,
)

from fastact._core.kernels.sizes cimport LANES, WIDTH

cdef extern from *:
    """
    #include <stdint.h>

    /* Nothing that Cython writes for a module is of use in a unit: compilers drop what no function
       calls that is not static. */
    #undef PyMODINIT_FUNC
    #ifdef __GNUC__
    #define PyMODINIT_FUNC static __attribute__((unused)) PyObject *
    #else
    #define PyMODINIT_FUNC static PyObject *
    #endif

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

cdef extern from *:
    """
    /* The NaN of what has no other result. It is made without setting a flag. */
    static inline double fastact_nan(void)
    {
        union { uint64_t bits; double value; } nan = { UINT64_C(0x7FF8000000000000) };
        return nan.value;
    }
    """
    double c_nan "fastact_nan"() noexcept nogil

cdef extern from "table.h":
    void add "fastact_add"(void *table, const char *name, void *loop) noexcept nogil

ctypedef fused real_array:
    f32
    f64
