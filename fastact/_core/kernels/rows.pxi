# Loops over rows: softmax, its logarithm and their gradients, called by `rows.pyx`.
#
# <operation>_rows_<type>: over contiguous rows, one after the other.
# <operation>_columns_<type>: over rows side by side: their elements of one index are contiguous.
#
# Both give the same bits. A sum has LANES parts, which are added pairwise in the end. A row by itself
# has its parts in the lanes of vectors. Rows side by side have a lane each, so that short rows fill
# the vectors, too, and no step goes across a vector.
#
# The output may be the first operand. An operand that a function does not have is NULL.

cimport cython
from libc.math cimport INFINITY

from fastact.activations.arithmetic cimport absolute, fma_of_any
from fastact.activations.softmax cimport (
    base_of, double_of_rank, first_term, float_of_rank, inverse, leading, limit_of, logarithm,
    pivot_of, rank_of_double, rank_of_float, scaled, shifted, slope_of_log_softmax,
    slope_of_softmax, smaller, sum_error, term,
)

cdef enum:
    PIECE = 512                      # terms that are computed before they are added up
    GROUP = 8                        # rows one after the other that are taken together


cdef extern from *:
    """
    /* The NaN of rows that have no other result. It is made without setting a flag. */
    static inline double fastact_nan(void)
    {
        union { uint64_t bits; double value; } nan = { UINT64_C(0x7FF8000000000000) };
        return nan.value;
    }
    """
    double c_nan "fastact_nan"() noexcept nogil


cdef inline void add_to(f64 parts, f64 lost, Py_ssize_t j, double value, bint exactly) noexcept nogil:
    """Add to a part of a sum, and collect what the rounding cuts off."""
    cdef double total = parts[j] + value
    if exactly:
        lost[j] += sum_error(parts[j], value, total)
    parts[j] = total


cdef inline void add_product(
    f64 parts, f64 lost, Py_ssize_t j, double a, double b, bint exactly
) noexcept nogil:
    cdef double product = a * b                                # exact if a and b are floats
    add_to(parts, lost, j, product, exactly)
    if exactly:
        lost[j] += fma_of_any(a, b, -product)


cdef inline double part_of_scale(double total, double *factor, real_array kind) noexcept nogil:
    """What to multiply the sum by in `slope_of_log_softmax`; `factor` is for the exponential.

    Neither product is inaccurate: the exponential becomes subnormal only where the sum is less than 1.
    """
    cdef double scale
    cdef bint small = absolute(total) < 1
    if real_array is f32:
        scale = 5.421010862427522e-20                          # 2**-64
    else:
        scale = 7.458340731200207e-155                         # 2**-512
    factor[0] = scale if small else 1
    return 1 if small else scale


cdef inline bint hidden(double others, double first, real_array kind) noexcept nogil:
    """Whether the sum of all terms but the largest is too small to be taken from the sum of all."""
    if real_array is f32:
        return others < first * 9.5367431640625e-07            # 2**-20
    else:
        return others < first * 9.094947017729282e-13          # 2**-40


cdef inline void clear(f64 parts, f64 lost, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(n):
        parts[j] = 0
        lost[j] = 0


cdef inline void add_pairs(f64 parts, f64 lost, Py_ssize_t half, bint exactly) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(half):
        add_to(parts, lost, j, parts[j + half], exactly)
        if exactly:
            lost[j] += lost[j + half]


cdef inline void add_parts(f64 parts, f64 lost, Py_ssize_t rows, bint exactly) noexcept nogil:
    """Add up the parts of the sums of `rows` rows; the totals replace the first parts."""
    cdef Py_ssize_t j, half = LANES * rows // 2
    while half >= rows:
        add_pairs(parts, lost, half, exactly)
        half //= 2


cdef inline void add_parts_of_one(f64 parts, f64 lost, bint exactly) noexcept nogil:
    """The same for one row. The loops have a constant length, so that they are unrolled."""
    add_pairs(parts, lost, LANES // 2, exactly)
    add_pairs(parts, lost, LANES // 4, exactly)
    add_pairs(parts, lost, LANES // 8, exactly)
    add_pairs(parts, lost, LANES // 16, exactly)


# ------------------------------------------------------------- one row after the other

cdef inline void find_top(real_array x, Py_ssize_t n, real_array top) noexcept nogil:
    """top[0] = the largest element. With a NaN in the row, it does not matter."""
    cdef int32_t narrow
    cdef int64_t wide
    cdef Py_ssize_t i
    if real_array is f32:
        narrow = rank_of_float(x[0])
        for i in range(n):
            narrow = max(narrow, rank_of_float(x[i]))
        top[0] = float_of_rank(narrow)
    else:
        wide = rank_of_double(x[0])
        for i in range(n):
            wide = max(wide, rank_of_double(x[i]))
        top[0] = double_of_rank(wide)


cdef void add_terms(real_array e, f64 parts, f64 lost, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(n // LANES):
        for j in range(LANES):
            add_to(parts, lost, j, e[j], real_array is f64)
        e += LANES
    for j in range(n % LANES):
        add_to(parts, lost, j, e[j], real_array is f64)


cdef void add_products(real_array a, real_array b, f64 parts, f64 lost, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(n // LANES):
        for j in range(LANES):
            add_product(parts, lost, j, a[j], b[j], real_array is f64)
        a += LANES
        b += LANES
    for j in range(n % LANES):
        add_product(parts, lost, j, a[j], b[j], real_array is f64)


# Short rows take each step in groups. No step then waits for the last one of the same row, and the
# steps that are taken once a row fill vectors.

cdef struct Group:
    # What there is to know about up to GROUP rows, most of it in the type of the elements.
    double[GROUP] total
    double[GROUP] lost
    double[GROUP] others
    double[GROUP] others_lost
    double[GROUP] log_sum
    double[GROUP] log_low
    double[GROUP] top
    double[GROUP] pivot
    double[GROUP] limit
    double[GROUP] base
    double[GROUP] first
    double[GROUP] first_lost
    double[GROUP] high
    double[GROUP] rest
    double[GROUP] rest_of_first
    double[GROUP] shrink


cdef inline Py_ssize_t group_of(Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """How many of some rows to take together: they stay in the L1 cache."""
    return min(rows, <Py_ssize_t> (GROUP if n <= PIECE // 4 else 1))


cdef inline void start_rows(
    real_array x, Py_ssize_t n, Py_ssize_t group,
    real_array top, real_array pivot, real_array limit, real_array base
) noexcept nogil:
    cdef Py_ssize_t g
    for g in range(group):
        find_top(x + g * n, n, top + g)
    for g in range(group):
        pivot[g] = pivot_of(top[g])
        limit[g] = limit_of(top[g], pivot[g])
        base[g] = base_of(top[g], pivot[g])


cdef inline void sum_row(
    real_array x, real_array e, Py_ssize_t n,
    real_array pivot, real_array limit, real_array base, f64 parts, f64 lost
) noexcept nogil:
    """Compute the terms of a row, and their sum."""
    cdef Py_ssize_t i, start = 0, size
    shift, most, origin = pivot[0], limit[0], base[0]
    clear(parts, lost, LANES)
    while start < n:
        size = min(<Py_ssize_t> PIECE, n - start)
        for i in range(start, start + size):
            e[i] = term(x[i], shift, most, origin)
        add_terms(e + start, parts, lost, size)
        start += size
    add_parts_of_one(parts, lost, real_array is f64)


cdef inline void sum_others(
    real_array x, Py_ssize_t n, real_array pivot, real_array limit, real_array base, real_array first,
    bint again, f64 parts, f64 lost
) noexcept nogil:
    """The sum of all terms of a row but the first one; if `again`, of those that are less than it."""
    cdef double[PIECE] room
    cdef Py_ssize_t i, start = 0, size
    cdef real_array terms = <real_array> room
    shift, most, origin, largest = pivot[0], limit[0], base[0], first[0]
    clear(parts, lost, LANES)
    while start < n:
        size = min(<Py_ssize_t> PIECE, n - start)
        for i in range(size):
            terms[i] = term(x[start + i], shift, most, origin)
        if again:
            for i in range(size):
                terms[i] = smaller(terms[i], largest)
        add_terms(terms, parts, lost, size)
        start += size
    add_parts_of_one(parts, lost, real_array is f64)
    if not again:
        take_off(parts, lost, largest)


cdef inline void take_off(f64 total, f64 lost, double first) noexcept nogil:
    """Subtract the term of the largest element from a sum."""
    cdef double others = total[0] - first
    lost[0] += sum_error(total[0], -first, others)
    total[0] = others


@cython.cdivision(True)
cdef inline void invert(
    double total, double lost, real_array first, real_array first_lost,
    real_array high, real_array rest, real_array rest_of_first
) noexcept nogil:
    """What `scaled` takes, from the sum of the terms of a row."""
    cdef double low, inverted = inverse(total, lost + first_lost[0], &low)
    high[0] = leading(inverted, low, rest)
    rest_of_first[0] = rest[0] + high[0] * (first_lost[0] / first[0])


cdef inline void scale_row(
    real_array e, Py_ssize_t n, real_array high, real_array rest, real_array first, real_array rest_of_first
) noexcept nogil:
    cdef Py_ssize_t i
    factor, correction, largest, correction_of_largest = high[0], rest[0], first[0], rest_of_first[0]
    for i in range(n):
        e[i] = (
            scaled(e[i], factor, correction, largest, correction_of_largest)
            if factor == factor else c_nan())


cdef void softmax_rows(
    real_array x, void *unused, real_array out, Py_ssize_t rows, Py_ssize_t n
) noexcept nogil:
    cdef Group this
    cdef double[LANES] parts, lost
    cdef Py_ssize_t g, group
    top, pivot, limit = <real_array> this.top, <real_array> this.pivot, <real_array> this.limit
    base, first = <real_array> this.base, <real_array> this.first
    first_lost, high = <real_array> this.first_lost, <real_array> this.high
    rest, rest_of_first = <real_array> this.rest, <real_array> this.rest_of_first
    while rows > 0:
        group = group_of(rows, n)
        start_rows(x, n, group, top, pivot, limit, base)
        for g in range(group):
            sum_row(x + g * n, out + g * n, n, pivot + g, limit + g, base + g, parts, lost)
            this.total[g], this.lost[g] = parts[0], lost[0]
        # The first term is not needed before. Computed in `start_rows`, it takes 1.5 ns a row more.
        for g in range(group):
            first[g] = first_term(top[g], pivot[g], base[g], &first_lost[g])
            invert(
                this.total[g], this.lost[g], first + g, first_lost + g,
                high + g, rest + g, rest_of_first + g)
        for g in range(group):
            scale_row(out, n, high + g, rest + g, first + g, rest_of_first + g)
            out += n
        x += group * n
        rows -= group


cdef void log_softmax_rows(
    real_array x, void *unused, real_array out, Py_ssize_t rows, Py_ssize_t n
) noexcept nogil:
    cdef Group this
    cdef double[LANES] parts, lost
    cdef double total, low
    cdef Py_ssize_t i, g, group
    top, pivot, limit = <real_array> this.top, <real_array> this.pivot, <real_array> this.limit
    base, first, high = <real_array> this.base, <real_array> this.first, <real_array> this.high
    first_lost, rest = <real_array> this.first_lost, <real_array> this.rest
    while rows > 0:
        group = group_of(rows, n)
        start_rows(x, n, group, top, pivot, limit, base)
        for g in range(group):
            first[g] = first_term(top[g], pivot[g], base[g], &first_lost[g])
        for g in range(group):
            sum_others(
                x + g * n, n, pivot + g, limit + g, base + g, first + g, False, parts, lost)
            if hidden(parts[0], first[g], x):
                sum_others(
                    x + g * n, n, pivot + g, limit + g, base + g, first + g, True, parts, lost)
            this.total[g], this.lost[g] = parts[0], lost[0]
        for g in range(group):
            total = logarithm(top[g], this.total[g], this.lost[g], first[g], first_lost[g], &low)
            high[g] = leading(total, low, &rest[g])
        for g in range(group):
            factor, correction = high[g], rest[g]
            for i in range(n):
                out[i] = shifted(x[i], factor, correction) if factor == factor else c_nan()
            x += n
            out += n
        rows -= group


cdef void softmax_backward_rows(
    real_array grad, real_array y, real_array out, Py_ssize_t rows, Py_ssize_t n
) noexcept nogil:
    cdef Group this
    cdef double[LANES] parts, lost
    cdef Py_ssize_t i, g, group
    high, rest = <real_array> this.high, <real_array> this.rest
    while rows > 0:
        group = group_of(rows, n)
        for g in range(group):
            clear(parts, lost, LANES)
            add_products(grad + g * n, y + g * n, parts, lost, n)
            add_parts_of_one(parts, lost, real_array is f64)
            high[g] = leading(parts[0], lost[0], &rest[g])
        for g in range(group):
            total, correction = high[g], rest[g]
            for i in range(n):
                out[i] = (
                    slope_of_softmax(grad[i], y[i], total, correction) if total == total else c_nan())
            grad += n
            y += n
            out += n
        rows -= group


cdef void log_softmax_backward_rows(
    real_array grad, real_array y, real_array out, Py_ssize_t rows, Py_ssize_t n
) noexcept nogil:
    cdef Group this
    cdef double[LANES] parts, lost
    cdef double factor, share
    cdef Py_ssize_t i, g, group
    high, rest, shrink = <real_array> this.high, <real_array> this.rest, <real_array> this.shrink
    while rows > 0:
        group = group_of(rows, n)
        for g in range(group):
            clear(parts, lost, LANES)
            add_terms(grad + g * n, parts, lost, n)
            add_parts_of_one(parts, lost, real_array is f64)
            share = part_of_scale(parts[0], &factor, grad)
            high[g] = leading(parts[0] * share, lost[0] * share, &rest[g])
            shrink[g] = factor
        for g in range(group):
            total, correction, scale = high[g], rest[g], shrink[g]
            for i in range(n):
                out[i] = (
                    slope_of_log_softmax(grad[i], y[i], scale, total, correction)
                    if total == total else c_nan())
            grad += n
            y += n
            out += n
        rows -= group
