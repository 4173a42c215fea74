# Conversions of the 16-bit types to and from float32, in which they are computed.

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


TABLE.update({
    "load_f16": entry(<void *> load_f16),
    "store_f16": entry(<void *> store_f16),
    "load_bf16": entry(<void *> load_bf16),
    "store_bf16": entry(<void *> store_bf16),
})
