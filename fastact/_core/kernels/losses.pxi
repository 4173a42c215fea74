# The loss of softmax, which takes the steps of `rows.pxi`, called by `training.pyx`.
#
# Cross-entropy of softmax: (softmax(prediction) - target) over `scale`, and the sum of the
# cross-entropies of the rows, log(sum(exp(x))) - x for the class of a row. A target is the classes
# of the rows, or, where `labels` is NULL, the weights of all classes.

cdef inline double loss_of_weights(
    real_array x, real_array weights, real_array high, real_array low, double *total, Py_ssize_t n
) noexcept nogil:
    """The loss of a row of any weights, and their sum."""
    cdef double loss = 0
    cdef Py_ssize_t i
    total[0] = 0
    for i in range(n):
        total[0] += weights[i]
        # A class of weight 0 may have a logit of -inf.
        loss -= weights[i] * <double> shifted(x[i], high[0], low[0]) if weights[i] != 0 else 0
    return loss


@cython.cdivision(True)
cdef void softmax_loss(
    real_array prediction, const Py_ssize_t *labels, real_array weights, real_array scale,
    real_array gradient, double *loss, Py_ssize_t rows, Py_ssize_t n
) noexcept nogil:
    cdef Group this
    cdef double[LANES] parts, lost
    cdef double[3] room
    cdef double share = 1
    cdef Py_ssize_t i, g, group, label
    cdef real_array x, numbers = <real_array> room
    top, pivot, limit = <real_array> this.top, <real_array> this.pivot, <real_array> this.limit
    base, first = <real_array> this.base, <real_array> this.first
    first_lost, high = <real_array> this.first_lost, <real_array> this.high
    rest, rest_of_first = <real_array> this.rest, <real_array> this.rest_of_first
    while rows > 0:
        group = group_of(rows, n)
        start_rows(prediction, n, group, top, pivot, limit, base)
        for g in range(group):
            first[g] = first_term(top[g], pivot[g], base[g], &first_lost[g])
        for g in range(group):
            x = prediction + g * n
            sum_row(x, gradient + g * n, n, pivot + g, limit + g, base + g, parts, lost)
            this.total[g], this.lost[g] = parts[0], lost[0]
            take_off(parts, lost, first[g])
            if hidden(parts[0], first[g], x):
                sum_others(x, n, pivot + g, limit + g, base + g, first + g, True, parts, lost)
            this.others[g], this.others_lost[g] = parts[0], lost[0]
        for g in range(group):
            this.log_sum[g] = logarithm(
                top[g], this.others[g], this.others_lost[g], first[g], first_lost[g],
                &this.log_low[g])
        for g in range(group):
            if labels == NULL:
                numbers[0] = leading(this.log_sum[g], this.log_low[g], &numbers[1])
                loss[0] += loss_of_weights(prediction, weights, numbers, numbers + 1, &share, n)
            invert(
                this.total[g], this.lost[g], first + g, first_lost + g,
                high + g, rest + g, rest_of_first + g)
            scale_row(gradient, n, high + g, rest + g, first + g, rest_of_first + g)
            divisor = scale[0]
            if labels == NULL:
                numbers[2] = share
                total = numbers[2]
                for i in range(n):
                    gradient[i] = (gradient[i] * total - weights[i]) / divisor
                weights += n
            else:
                label = labels[0]
                loss[0] += (this.log_sum[g] - prediction[label]) + this.log_low[g]
                numbers[0] = 1
                # 1 less the probability of the largest class is the sum of the others.
                gradient[label] -= numbers[0]
                if prediction[label] == top[g]:
                    gradient[label] = -(this.others[g] + this.others_lost[g]) * high[g]
                for i in range(n):
                    gradient[i] /= divisor
                labels += 1
            prediction += n
            gradient += n
        rows -= group
