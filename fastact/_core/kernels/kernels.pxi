# The contiguous loops and the kernel table. Each of the stubs beside this file
# includes it, and is compiled with the flags of one instruction set.
#
# A loop does nothing but apply a formula of activations.pxd to consecutive
# elements, so that the compiler vectorises it. The typedefs say `restrict`:
# without it gcc guards the loop with a test for overlap, and the call in place,
# out == x, would take the scalar side of it. The engine calls a loop only with
# operands that do not overlap or are the same from the first element on. The C standard
# promises nothing for the latter, but every element is read before it is written, in
# any order of the elements; the layout `in_place` of the tests would show a mistake.

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


# --------------------------------------------------------------------- loops

cdef void relu(number_array x, number_array out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.relu(x[i])


cdef void relu_backward(
    real_array grad, real_array x, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.relu_backward(grad[i], x[i])


cdef void leaky_relu(
    real_array x, real_array negative_slope, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.leaky_relu(x[i], negative_slope[i])


cdef void leaky_relu_shared(
    real_array x, real_array negative_slope, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    slope = negative_slope[0]
    for i in range(n):
        out[i] = formula.leaky_relu(x[i], slope)


cdef void leaky_relu_backward(
    real_array grad, real_array x, real_array negative_slope, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.leaky_relu_backward(grad[i], x[i], negative_slope[i])


cdef void leaky_relu_backward_shared(
    real_array grad, real_array x, real_array negative_slope, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    slope = negative_slope[0]
    for i in range(n):
        out[i] = formula.leaky_relu_backward(grad[i], x[i], slope)


cdef void sigmoid(real_array x, real_array out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.sigmoid(x[i])


cdef void sigmoid_backward(
    real_array grad, real_array x, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.sigmoid_backward(grad[i], x[i])


cdef void sigmoid_backward_from_output(
    real_array grad, real_array y, real_array out, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.sigmoid_backward_from_output(grad[i], y[i])


# ------------------------------------------------------------------ 16-bit types
#
# relu needs their bits only. The other operations are computed in float32, by the loop
# `narrow` where there is one.

cdef void load_f16(u16 half, f32 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, done = load_halves(half, out, n)
    for i in range(done, n):
        out[i] = formula.from_half(half[i])


cdef void store_f16(f32 x, u16 half, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, done = store_halves(x, half, n)
    for i in range(done, n):
        half[i] = formula.to_half(x[i])


cdef void load_bf16(u16 bfloat, f32 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.from_bfloat(bfloat[i])


cdef void store_bf16(f32 x, u16 bfloat, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        bfloat[i] = formula.to_bfloat(x[i])


cdef void relu_f16(u16 x, u16 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.relu_half(x[i], 0x7C00)


cdef void relu_bf16(u16 x, u16 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.relu_half(x[i], 0x7F80)


cdef void sigmoid_narrow(f32 x, f32 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.sigmoid_narrow(x[i])


cdef void sigmoid_backward_narrow(f32 grad, f32 x, f32 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = formula.sigmoid_backward_narrow(grad[i], x[i])


# ----------------------------------------------------------------------- copies
#
# `every_second`: the commonest stride. Written out, it is loaded in whole vectors and shuffled.

ctypedef fused bits_array:
    u16
    u32
    u64

cdef void every_second(bits_array x, bits_array out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    # Up to the last element but one: a vector also loads the element behind its last.
    for i in range(n - 1):
        out[i] = x[2 * i]
    if n > 0:
        out[n - 1] = x[2 * n - 2]


cdef void stream(char *x, char *out, Py_ssize_t n) noexcept nogil:
    """Copies n bytes past the cache, and, if n is 0, waits until all have arrived."""
    cdef Py_ssize_t done = stream_vectors(x, out, n)
    memcpy(out + done, x + done, n - done)
    if n == 0:
        fence()


cdef inline void transpose_square(
    bits_array kind, char *x, Py_ssize_t x_step, char *out, Py_ssize_t out_step
) noexcept nogil:
    """out[j, i] = x[i, j] for as many rows and columns as fill a vector; `kind` is not read."""
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
    """out[j, i] = x[i, j]. Steps: from row to row, in bytes; columns are contiguous."""
    cdef Py_ssize_t item = sizeof(x[0]), side = ROW // <Py_ssize_t> sizeof(x[0])
    cdef Py_ssize_t outer, inner, i, j, k
    cdef char *source
    cdef char *target
    # Few rows at a time of the array whose rows are further apart, and along these: where the
    # distance is a power of two, their lines share one set of the cache.
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
    """out[i] = x[i]; steps in bytes."""
    cdef Py_ssize_t i
    for i in range(n):
        (<bits_array> (<char *> out + i * out_step))[0] = (<bits_array> (<char *> x + i * x_step))[0]


# ------------------------------------------------------------------ dense layers
#
# Over a contiguous matrix, row by row: the order of every sum is that of the rows. What an
# activation does between them is one of the loops above.

cdef void add_to_rows(
    real_array matrix, real_array row, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(columns):
            matrix[j] += row[j]
        matrix += columns


cdef void sum_rows(
    real_array matrix, real_array total, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(columns):
            total[j] += matrix[j]
        matrix += columns


# A step of gradient descent. `settings`: learning rate, momentum, smallest normal number.
# Where the gradient stays 0, as for a dead unit, a velocity would end among the subnormal
# numbers and stay there (0.9 of the least is rounded to the least), which makes every step
# several times slower: it becomes 0.

cdef void descend(
    real_array parameter, real_array gradient, real_array settings, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    rate = settings[0]
    for i in range(n):
        parameter[i] -= rate * gradient[i]


cdef void descend_with_momentum(
    real_array parameter, real_array gradient, real_array velocity, real_array settings, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i
    rate, momentum, least = settings[0], settings[1], settings[2]
    for i in range(n):
        velocity[i] = momentum * velocity[i] + gradient[i]
        velocity[i] = 0 if formula.absolute(velocity[i]) < least else velocity[i]
        parameter[i] -= rate * velocity[i]


# Mean squared error: the differences times `scale`, and the sum of the squares, in LANES parts,
# so that its order is the same on every instruction set.

cdef enum:
    LANES = 16


cdef inline double square(double x) noexcept nogil:
    return x * x


cdef void squared_error(
    real_array prediction, real_array target, real_array scale, real_array gradient, f64 sums, Py_ssize_t n
) noexcept nogil:
    cdef Py_ssize_t i, j
    factor = scale[0]
    for i in range(n // LANES):
        for j in range(LANES):
            gradient[j] = (prediction[j] - target[j]) * factor
            sums[j] += square(prediction[j] - target[j])
        prediction += LANES
        target += LANES
        gradient += LANES
    for j in range(n % LANES):
        gradient[j] = (prediction[j] - target[j]) * factor
        sums[j] += square(prediction[j] - target[j])


# --------------------------------------------------------------------- table
#
# <operation>_<type>: the loop over arrays. <operation>_shared_<type>, where there is one:
# the same with the last operand a single value. load_<type>, store_<type>: to and from
# float32, for a type that is computed in it, and <operation>_narrow: the loop in between,
# where it is not <operation>_f32. every_second_<bytes>, transpose_<bytes>, stream: copies.
# The rest are the loops for dense layers, which `dense.pyx` calls.

cdef object row(void *loop):
    return PyCapsule_New(loop, "fastact.kernel", NULL)


TABLE = {
    "relu_f32": row(<void *> relu[f32]),
    "relu_f64": row(<void *> relu[f64]),
    "relu_f16": row(<void *> relu_f16),
    "relu_bf16": row(<void *> relu_bf16),
    "relu_i8": row(<void *> relu[i8]),
    "relu_i16": row(<void *> relu[i16]),
    "relu_i32": row(<void *> relu[i32]),
    "relu_i64": row(<void *> relu[i64]),
    "relu_u8": row(<void *> relu[u8]),
    "relu_u16": row(<void *> relu[u16]),
    "relu_u32": row(<void *> relu[u32]),
    "relu_u64": row(<void *> relu[u64]),
    "relu_backward_f32": row(<void *> relu_backward[f32]),
    "relu_backward_f64": row(<void *> relu_backward[f64]),
    "leaky_relu_f32": row(<void *> leaky_relu[f32]),
    "leaky_relu_f64": row(<void *> leaky_relu[f64]),
    "leaky_relu_shared_f32": row(<void *> leaky_relu_shared[f32]),
    "leaky_relu_shared_f64": row(<void *> leaky_relu_shared[f64]),
    "leaky_relu_backward_f32": row(<void *> leaky_relu_backward[f32]),
    "leaky_relu_backward_f64": row(<void *> leaky_relu_backward[f64]),
    "leaky_relu_backward_shared_f32": row(<void *> leaky_relu_backward_shared[f32]),
    "leaky_relu_backward_shared_f64": row(<void *> leaky_relu_backward_shared[f64]),
    "sigmoid_f32": row(<void *> sigmoid[f32]),
    "sigmoid_f64": row(<void *> sigmoid[f64]),
    "sigmoid_narrow": row(<void *> sigmoid_narrow),
    "sigmoid_backward_f32": row(<void *> sigmoid_backward[f32]),
    "sigmoid_backward_f64": row(<void *> sigmoid_backward[f64]),
    "sigmoid_backward_narrow": row(<void *> sigmoid_backward_narrow),
    "sigmoid_backward_from_output_f32": row(<void *> sigmoid_backward_from_output[f32]),
    "sigmoid_backward_from_output_f64": row(<void *> sigmoid_backward_from_output[f64]),
    "load_f16": row(<void *> load_f16),
    "store_f16": row(<void *> store_f16),
    "load_bf16": row(<void *> load_bf16),
    "store_bf16": row(<void *> store_bf16),
    "every_second_2": row(<void *> every_second[u16]),
    "every_second_4": row(<void *> every_second[u32]),
    "every_second_8": row(<void *> every_second[u64]),
    "stream": row(<void *> stream),
    "transpose_2": row(<void *> transpose[u16]),
    "transpose_4": row(<void *> transpose[u32]),
    "transpose_8": row(<void *> transpose[u64]),
    "add_to_rows_f32": row(<void *> add_to_rows[f32]),
    "add_to_rows_f64": row(<void *> add_to_rows[f64]),
    "sum_rows_f32": row(<void *> sum_rows[f32]),
    "sum_rows_f64": row(<void *> sum_rows[f64]),
    "descend_f32": row(<void *> descend[f32]),
    "descend_f64": row(<void *> descend[f64]),
    "descend_with_momentum_f32": row(<void *> descend_with_momentum[f32]),
    "descend_with_momentum_f64": row(<void *> descend_with_momentum[f64]),
    "squared_error_f32": row(<void *> squared_error[f32]),
    "squared_error_f64": row(<void *> squared_error[f64]),
}

if not STREAMS:
    del TABLE["stream"]
