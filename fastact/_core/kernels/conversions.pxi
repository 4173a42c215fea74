# Conversions of the 16-bit types to and from float32, in which they are computed.

from fastact.activations.half cimport from_bfloat, from_half, to_bfloat, to_half

cdef extern from "vectors.h":
    Py_ssize_t load_halves "fastact_load_halves"(u16 half, f32 out, Py_ssize_t n) noexcept nogil
    Py_ssize_t store_halves "fastact_store_halves"(f32 x, u16 half, Py_ssize_t n) noexcept nogil


cdef void load_f16(u16 half, f32 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, done = load_halves(half, out, n)
    for i in range(done, n):
        out[i] = from_half(half[i])


cdef void store_f16(f32 x, u16 half, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, done = store_halves(x, half, n)
    for i in range(done, n):
        half[i] = to_half(x[i])


cdef void load_bf16(u16 bfloat, f32 out, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = from_bfloat(bfloat[i])


cdef void store_bf16(f32 x, u16 bfloat, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        bfloat[i] = to_bfloat(x[i])
