# The loss of softmax, which takes the steps of `rows.pxi`, called by `networks/training.pyx`.
#
# Cross-entropy of softmax: (softmax(prediction) - target) over `scale`, and the sum of the
# cross-entropies of the rows, log(sum(exp(x))) - x for the class of a row. A target is the classes
# of the rows, or, where `labels` is NULL, the weights of all classes.

cdef double loss_of_weights(
    real_array x, real_array weights, real_array high, real_array low, double *total, Py_ssize_t n
) noexcept nogil:
    """The loss of a row of any weights, and their sum; as accurate as the sums of `softmax_rows`."""
    cdef double[LANES] parts, lost, shares, shares_lost
    cdef double[PIECE] room
    cdef Py_ssize_t i, size
    cdef real_array logs = <real_array> room
    factor, correction = high[0], low[0]
    clear(parts, lost, LANES)
    clear(shares, shares_lost, LANES)
    while n > 0:
        size = min(<Py_ssize_t> PIECE, n)
        for i in range(size):
            # A class of weight 0 may have a logit of -inf.
            logs[i] = shifted(x[i], factor, correction)
            logs[i] = 0 if weights[i] == 0 else logs[i]
        add_terms(weights, shares, shares_lost, size)
        add_products(weights, logs, parts, lost, size)
        x += size
        weights += size
        n -= size
    add_parts_of_one(parts, lost, real_array is f64)
    add_parts_of_one(shares, shares_lost, real_array is f64)
    total[0] = with_lost(shares[0], shares_lost[0])
    return -with_lost(parts[0], lost[0])


cdef inline double with_lost(double total, double lost) noexcept nogil:
    return total + lost if total - total == 0 else total       # infinity has lost NaN


@cython.cdivision(True)
cdef void softmax_loss(
    real_array prediction, const Py_ssize_t *labels, real_array weights, real_array scale,
    real_array gradient, double *loss, Py_ssize_t rows, Py_ssize_t n
) noexcept nogil:
    cdef Group this
    cdef double[LANES] parts, lost
    cdef double[3] room
    cdef double share = 1, of_row, sum = 0, sum_lost = 0, least = least_share(n, prediction)
    cdef Py_ssize_t i, g, group, label
    cdef real_array x, numbers = <real_array> room
    top, pivot, limit = <real_array> this.top, <real_array> this.pivot, <real_array> this.limit
    base, first = <real_array> this.base, <real_array> this.first
    first_lost, high = <real_array> this.first_lost, <real_array> this.high
    rest, rest_of_first = <real_array> this.rest, <real_array> this.rest_of_first
    while rows > 0:
        group = group_of(rows, n)
        start_rows(prediction, n, group, top, pivot, limit, base)
        first_terms(top, pivot, base, first, first_lost, group)
        for g in range(group):
            x = prediction + g * n
            sum_row(x, gradient + g * n, n, pivot + g, limit + g, base + g, parts, lost)
            this.total[g], this.lost[g] = parts[0], lost[0]
            take_off(parts, lost, first[g])
            if parts[0] < first[g] * least:
                sum_smaller(x, n, pivot + g, limit + g, base + g, first + g, parts, lost)
            this.others[g], this.others_lost[g] = parts[0], lost[0]
        logarithms(
            top, this.others, this.others_lost, first, first_lost, this.log_sum, this.log_low, group)
        inverses(this.total, this.lost, first, first_lost, high, rest, rest_of_first, group)
        for g in range(group):
            if labels == NULL:
                numbers[0] = leading(this.log_sum[g], this.log_low[g], &numbers[1])
                of_row = loss_of_weights(prediction, weights, numbers, numbers + 1, &share, n)
            scale_row(gradient, n, high + g, rest + g, first + g, rest_of_first + g)
            divisor = scale[0]
            if labels == NULL:
                numbers[2] = share
                total = numbers[2]
                for i in range(n):
                    gradient[i] = (gradient[i] * total - weights[i]) / divisor
                    gradient[i] = gradient[i] if gradient[i] == gradient[i] else c_nan()
                weights += n
            else:
                label = labels[0]
                of_row = (this.log_sum[g] - prediction[label]) + this.log_low[g]
                numbers[0] = 1
                # 1 less the probability of the largest class is the sum of the others.
                gradient[label] -= numbers[0]
                if prediction[label] == top[g]:
                    gradient[label] = -(this.others[g] + this.others_lost[g]) * high[g]
                gradient[label] = gradient[label] if gradient[label] == gradient[label] else c_nan()
                for i in range(n):
                    gradient[i] /= divisor
                labels += 1
            add_to(&sum, &sum_lost, 0, of_row, True)
            prediction += n
            gradient += n
        rows -= group
    loss[0] = with_lost(sum, sum_lost)
    loss[0] = loss[0] if loss[0] == loss[0] else c_nan()
