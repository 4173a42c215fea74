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
from libc.math cimport INFINITY, ldexp

from fastact.activations.arithmetic cimport absolute, fma_of_any
from fastact.activations.exponential cimport rounding
from fastact.activations.softmax cimport (
    any_slope_of_log_softmax, any_slope_of_softmax, base_of, double_of_rank, exponent_of, first_term,
    float_of_rank, greatest_exponent, greatest_y, inverse, is_moderate, leading, limit_of, logarithm,
    margin, near_by, pivot_of, rank_of_double, rank_of_float, scaled, scaled_limit, shifted,
    slope_of_log_softmax, slope_of_softmax, smaller, sum_error, term, whole_power,
)

cdef enum:
    PIECE = 512                      # terms that are computed before they are added up
    GROUP = 8                        # rows one after the other that are taken together


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


cdef inline double least_share(Py_ssize_t n, real_array kind) noexcept nogil:
    """The least sum of all terms but the largest, in units of that, to be taken from the sum of all.

    A smaller one is added up anew. The error of the sum of all grows with the length of the row.
    """
    if real_array is f32:
        return min(max(9.5367431640625e-07, n * 4.656612873077393e-10), 0.5)          # 2**-20, n 2**-31
    else:
        return min(max(9.094947017729282e-13, n * 2.842170943040401e-14), 0.5)        # 2**-40, n 2**-45


cdef void settle(f64 parts, f64 lost, Py_ssize_t n) noexcept nogil:
    """Move what has been lost into the sum, as far as it fits, so that it remains small.

    This is done after each piece but the last one. What is lost is added up plainly: an error of it
    does not matter while there are few additions.
    """
    cdef Py_ssize_t j
    cdef double total, rest
    for j in range(n):
        total = parts[j] + lost[j]
        rest = sum_error(parts[j], lost[j], total)
        lost[j] = rest if total - total == 0 else lost[j]      # parts of infinity have lost NaN
        parts[j] = total if total - total == 0 else parts[j]


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


cdef void add_parts(f64 parts, f64 lost, Py_ssize_t rows, bint exactly) noexcept nogil:
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


# Inline: the parts stay in registers. A short row takes a ninth fewer instructions so.
cdef inline void add_products(real_array a, real_array b, f64 parts, f64 lost, Py_ssize_t n) noexcept nogil:
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


cdef inline Py_ssize_t group_of(Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """How many of some rows to take together: they stay in the L1 cache."""
    return min(rows, <Py_ssize_t> (GROUP if n <= PIECE // 4 else 1))


# What is done once a row is a function, and not inline: it is called by several loops, for some rows
# at a time, and its machine code is long.

cdef void start_sums(
    real_array top, real_array pivot, real_array limit, real_array base, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t g
    for g in range(count):
        pivot[g] = pivot_of(top[g])
        limit[g] = limit_of(top[g], pivot[g])
        base[g] = base_of(top[g], pivot[g])


cdef void first_terms(
    real_array top, real_array pivot, real_array base, real_array first, real_array first_lost,
    Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t g
    for g in range(count):
        first[g] = first_term(top[g], pivot[g], base[g], &first_lost[g])


@cython.cdivision(True)
cdef void inverses(
    f64 total, f64 lost, real_array first, real_array first_lost,
    real_array high, real_array rest, real_array rest_of_first, Py_ssize_t count
) noexcept nogil:
    """What `scaled` takes, from the sums of the terms of rows."""
    cdef double low, inverted
    cdef Py_ssize_t g
    for g in range(count):
        inverted = inverse(total[g], lost[g] + first_lost[g], &low)
        high[g] = leading(inverted, low, &rest[g])
        rest_of_first[g] = rest[g] + high[g] * (first_lost[g] / first[g])


cdef void logarithms(
    real_array top, f64 others, f64 others_lost, real_array first, real_array first_lost,
    f64 sum, f64 low, Py_ssize_t count
) noexcept nogil:
    """`logarithm` of some rows."""
    cdef Py_ssize_t g
    for g in range(count):
        sum[g] = logarithm(top[g], others[g], others_lost[g], first[g], first_lost[g], &low[g])


cdef inline void start_rows(
    real_array x, Py_ssize_t n, Py_ssize_t group,
    real_array top, real_array pivot, real_array limit, real_array base
) noexcept nogil:
    cdef Py_ssize_t g
    for g in range(group):
        find_top(x + g * n, n, top + g)
    start_sums(top, pivot, limit, base, group)


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
        if real_array is f64 and start < n:
            settle(parts, lost, LANES)
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
        if real_array is f64 and start < n:
            settle(parts, lost, LANES)
    add_parts_of_one(parts, lost, real_array is f64)
    if not again:
        take_off(parts, lost, largest)


cdef inline void take_off(f64 total, f64 lost, double first) noexcept nogil:
    """Subtract the term of the largest element from a sum."""
    cdef double others = total[0] - first
    lost[0] += sum_error(total[0], -first, others)
    total[0] = others


cdef void sum_smaller(
    real_array x, Py_ssize_t n, real_array pivot, real_array limit, real_array base, real_array first,
    f64 parts, f64 lost
) noexcept nogil:
    """`sum_others` again, where it is rare."""
    sum_others(x, n, pivot, limit, base, first, True, parts, lost)


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
        first_terms(top, pivot, base, first, first_lost, group)
        inverses(this.total, this.lost, first, first_lost, high, rest, rest_of_first, group)
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
    cdef double least = least_share(n, x)
    cdef Py_ssize_t i, g, group
    top, pivot, limit = <real_array> this.top, <real_array> this.pivot, <real_array> this.limit
    base, first, high = <real_array> this.base, <real_array> this.first, <real_array> this.high
    first_lost, rest = <real_array> this.first_lost, <real_array> this.rest
    while rows > 0:
        group = group_of(rows, n)
        start_rows(x, n, group, top, pivot, limit, base)
        first_terms(top, pivot, base, first, first_lost, group)
        for g in range(group):
            sum_others(
                x + g * n, n, pivot + g, limit + g, base + g, first + g, False, parts, lost)
            if parts[0] < first[g] * least:
                sum_others(
                    x + g * n, n, pivot + g, limit + g, base + g, first + g, True, parts, lost)
            this.others[g], this.others_lost[g] = parts[0], lost[0]
        logarithms(
            top, this.others, this.others_lost, first, first_lost, this.log_sum, this.log_low, group)
        for g in range(group):
            high[g] = leading(this.log_sum[g], this.log_low[g], &rest[g])
        for g in range(group):
            factor, correction = high[g], rest[g]
            for i in range(n):
                out[i] = shifted(x[i], factor, correction) if factor == factor else c_nan()
            x += n
            out += n
        rows -= group


cdef bint lead_sums(
    f64 total, f64 lost, real_array high, real_array rest, Py_ssize_t count
) noexcept nogil:
    """What `slope_of_softmax` takes; return whether it can be used for all of these sums."""
    cdef Py_ssize_t g
    cdef bint moderate = True
    for g in range(count):
        moderate &= is_moderate(total[g], high[0])
        high[g] = leading(total[g], lost[g], &rest[g])
    return moderate


cdef void softmax_backward_of_any(
    real_array grad, real_array y, real_array out, const Py_ssize_t *steps, Py_ssize_t n,
    Py_ssize_t width, f64 total, f64 lost
) noexcept nogil:
    """The gradients of rows side by side, or of one, for any sums."""
    cdef double[4][WIDTH] room
    cdef Py_ssize_t i, j
    part, whole = <real_array> room[0], <real_array> room[1]
    high, rest = <real_array> room[2], <real_array> room[3]
    for j in range(width):
        part[j] = 1 if is_moderate(total[j], part[0]) else 0.5
        whole[j] = 1 if is_moderate(total[j], part[0]) else 2
        high[j] = leading(total[j] * part[j], lost[j] * part[j], &rest[j])
    for i in range(n):
        for j in range(width):
            out[j] = any_slope_of_softmax(grad[j], y[j], part[j], whole[j], high[j], rest[j])
            out[j] = out[j] if out[j] == out[j] else c_nan()
        grad += steps[0]
        y += steps[1]
        out += steps[2]


cdef void softmax_backward_rows(
    real_array grad, real_array y, real_array out, Py_ssize_t rows, Py_ssize_t n
) noexcept nogil:
    cdef Group this
    cdef double[LANES] parts, lost
    cdef Py_ssize_t[3] steps = [1, 1, 1]
    cdef Py_ssize_t i, g, group
    cdef bint moderate
    high, rest = <real_array> this.high, <real_array> this.rest
    while rows > 0:
        group = group_of(rows, n)
        for g in range(group):
            clear(parts, lost, LANES)
            add_products(grad + g * n, y + g * n, parts, lost, n)
            add_parts_of_one(parts, lost, real_array is f64)
            this.total[g], this.lost[g] = parts[0], lost[0]
        moderate = lead_sums(this.total, this.lost, high, rest, group)
        for g in range(group):
            total, correction = high[g], rest[g]
            if moderate:
                for i in range(n):
                    out[i] = slope_of_softmax(grad[i], y[i], total, correction)
            else:
                softmax_backward_of_any(
                    grad, y, out, steps, n, 1, this.total + g, this.lost + g)
            grad += n
            y += n
            out += n
        rows -= group


# Two kinds of elements are rare in the gradient of log_softmax, and need more work: those of a row whose
# sum of gradients is so large, or no number, that one scale of the exponential is not enough; and those with
# y > 0 or NaN.

cdef bint scale_sums(
    f64 total, f64 lost, real_array limit, real_array base, real_array high, real_array rest,
    Py_ssize_t count
) noexcept nogil:
    """What `slope_of_log_softmax` takes; return whether it can be used for all of these sums."""
    cdef Py_ssize_t g
    cdef int32_t b, e, worst = -1024, most = greatest_exponent(limit[0])
    cdef double scale
    for g in range(count):
        e = exponent_of_sum(total[g], lost[g], limit)
        worst = max(worst, e)
        b = min(e, most) + margin(limit[0])
        scale = whole_power(-b)
        limit[g], base[g] = scaled_limit(b, limit[0]), rounding(b, base[0])
        high[g] = leading(total[g] * scale, lost[g] * scale, &rest[g])
    return worst <= most


cdef inline int32_t exponent_of_sum(double total, double lost, real_array kind) noexcept nogil:
    cdef int32_t e = exponent_of(absolute(total) + absolute(lost))
    # The sums of floats are multiples of 2**-149.
    return max(e, -149) if real_array is f32 else e


cdef inline bint no_more_than_0(real_array y, Py_ssize_t n) noexcept nogil:
    cdef int32_t narrow = 0
    cdef int64_t wide = 0
    cdef Py_ssize_t i
    if real_array is f32:
        for i in range(n):
            narrow |= not y[i] <= 0
        return not narrow
    else:
        for i in range(n):
            wide |= not y[i] <= 0
        return not wide


cdef void log_softmax_backward_of_any(
    real_array grad, real_array y, real_array out, const Py_ssize_t *steps, Py_ssize_t n,
    Py_ssize_t width, f64 total, f64 lost
) noexcept nogil:
    """The gradients of rows side by side, or of one, for any sums and any y."""
    cdef double[11][WIDTH] room
    cdef Py_ssize_t i, j
    cdef int32_t e, b, near
    limit, base, high = <real_array> room[0], <real_array> room[1], <real_array> room[2]
    rest, split, most = <real_array> room[3], <real_array> room[4], <real_array> room[5]
    near_base, near_high, near_rest = <real_array> room[6], <real_array> room[7], <real_array> room[8]
    for j in range(width):
        e = exponent_of_sum(total[j], lost[j], grad)
        if total[j] - total[j] == 0:
            b, near = e + margin(limit[0]), e + near_by(limit[0])
            limit[j], split[j] = scaled_limit(b, limit[0]), e * <double> 0.693147180559945309
            most[j] = greatest_y(near, most[0])
        else:
            # exp(y) only has to be a positive number.
            b, near = 0, 0
            limit[j], split[j], most[j] = 1, 0, 1
        base[j], near_base[j] = rounding(b, base[0]), rounding(near, base[0])
        high[j] = leading(ldexp(total[j], -b), ldexp(lost[j], -b), &rest[j])
        near_high[j] = leading(ldexp(total[j], -near), ldexp(lost[j], -near), &near_rest[j])
    for i in range(n):
        for j in range(width):
            out[j] = any_slope_of_log_softmax(
                grad[j], y[j], limit[j], base[j], high[j], rest[j], split[j], most[j],
                near_base[j], near_high[j], near_rest[j])
            out[j] = out[j] if out[j] == out[j] else c_nan()
        grad += steps[0]
        y += steps[1]
        out += steps[2]


cdef void log_softmax_backward_rows(
    real_array grad, real_array y, real_array out, Py_ssize_t rows, Py_ssize_t n
) noexcept nogil:
    cdef Group this
    cdef double[LANES] parts, lost
    cdef Py_ssize_t[3] steps = [1, 1, 1]
    cdef Py_ssize_t i, g, group, start, size
    cdef bint usual
    limit, base = <real_array> this.limit, <real_array> this.base
    high, rest = <real_array> this.high, <real_array> this.rest
    while rows > 0:
        group = group_of(rows, n)
        for g in range(group):
            clear(parts, lost, LANES)
            add_terms(grad + g * n, parts, lost, n)
            add_parts_of_one(parts, lost, real_array is f64)
            this.total[g], this.lost[g] = parts[0], lost[0]
        usual = scale_sums(this.total, this.lost, limit, base, high, rest, group)
        # Short rows are looked at together.
        if group > 1:
            usual &= no_more_than_0(y, group * n)
        for g in range(group):
            most, origin, total, correction = limit[g], base[g], high[g], rest[g]
            start = 0
            while start < n:
                size = min(<Py_ssize_t> PIECE, n - start)
                if usual and (group > 1 or no_more_than_0(y, size)):
                    for i in range(size):
                        out[i] = slope_of_log_softmax(grad[i], y[i], most, origin, total, correction)
                else:
                    log_softmax_backward_of_any(
                        grad, y, out, steps, size, 1, this.total + g, this.lost + g)
                grad += size
                y += size
                out += size
                start += size
        rows -= group
