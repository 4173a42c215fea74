"""Training passes outside of the layers: losses, and steps of gradient descent."""

cimport numpy as cnp
from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport NAN

from fastact._core.driver.kernel cimport loop_of
from fastact._core.kernels.sizes cimport LANES
from fastact._core.networks.pools cimport alike, held, overlap
from fastact._core.runtime.flags cimport flags_t, restore_flags, save_flags
from fastact._core.runtime.threads cimport RELEASE, split

import numpy as np

from fastact._core import ufuncs

cnp.import_array()

ctypedef void (*mean_loss_t)(
    void *prediction, void *target, void *scale, void *gradient, double *sums, Py_ssize_t n
) noexcept nogil
ctypedef void (*softmax_loss_t)(
    void *prediction, const Py_ssize_t *labels, void *weights, void *scale, void *gradient, double *loss,
    Py_ssize_t rows, Py_ssize_t n
) noexcept nogil
ctypedef void (*descend_t)(void *parameter, void *gradient, void *settings, Py_ssize_t n) noexcept nogil
ctypedef void (*descend_with_momentum_t)(
    void *parameter, void *gradient, void *velocity, void *settings, Py_ssize_t n
) noexcept nogil

cdef union Scale:                    # what a loop multiplies or divides the gradient by
    float narrow
    double wide


cdef int find_loops(void **loops, str name, table) except -1:
    """Find the loops of a function for float32 and for float64, in this order."""
    table = ufuncs.kernel_table(ufuncs.isa) if table is None else table
    loops[0], loops[1] = loop_of(table, f"{name}_f32"), loop_of(table, f"{name}_f64")
    return 0


cdef class MeanLoss:
    """The mean of a loss over all elements, and its gradient, in one pass.

    "squared_error" is the mean of (prediction - target)**2, "logistic_loss" the mean binary cross-entropy of
    sigmoid(prediction).
    """

    cdef void *loops[2]
    cdef bint squared

    def __init__(self, str name, table=None):
        find_loops(self.loops, name, table)
        self.squared = name == "squared_error"

    def __call__(self, cnp.ndarray prediction, cnp.ndarray target, cnp.ndarray gradient):
        """Return the loss, and write the gradient to `gradient`."""
        cdef double[LANES] sums
        cdef double total = 0
        cdef Py_ssize_t i, n = cnp.PyArray_SIZE(prediction)
        cdef bint wide = cnp.PyArray_TYPE(prediction) == cnp.NPY_DOUBLE
        cdef mean_loss_t loop = <mean_loss_t> self.loops[wide]
        cdef Scale scale
        if not alike(prediction, target) or not alike(prediction, gradient):
            raise TypeError("wanted contiguous arrays of one type and shape")
        scale.wide = 2.0 / max(n, 1) if self.squared else max(n, 1)
        if not wide:
            scale.narrow = <float> scale.wide
        for i in range(LANES):
            sums[i] = 0
        if n < RELEASE:
            loop(
                cnp.PyArray_DATA(prediction), cnp.PyArray_DATA(target), &scale,
                cnp.PyArray_DATA(gradient), sums, n)
        else:
            with nogil:
                loop(
                    cnp.PyArray_DATA(prediction), cnp.PyArray_DATA(target), &scale,
                    cnp.PyArray_DATA(gradient), sums, n)
        for i in range(LANES):
            total += sums[i]
        return total / n if n else NAN


cdef bint all_within(const Py_ssize_t *labels, Py_ssize_t count, Py_ssize_t n) noexcept nogil:
    """Whether all labels are in range(n)."""
    cdef Py_ssize_t i
    cdef bint wrong = False
    for i in range(count):
        wrong |= labels[i] < 0 or labels[i] >= n
    return not wrong


cdef bint are_labels(cnp.ndarray target) noexcept:
    """Whether the elements are of the size and kind of intp, whichever of C's types they have."""
    return cnp.PyArray_ISSIGNED(target) and cnp.PyArray_ITEMSIZE(target) == sizeof(Py_ssize_t)


cdef class SoftmaxLoss:
    """The mean cross-entropy of softmax(prediction) over all rows, and its gradient."""

    cdef void *loops[2]

    def __init__(self, table=None):
        find_loops(self.loops, "softmax_loss", table)

    def __call__(self, cnp.ndarray prediction, cnp.ndarray target, cnp.ndarray gradient):
        """Return the loss, and write the gradient to `gradient`.

        The target has a class for each row of the prediction, as contiguous integers of the size
        of intp; or a weight for each element of the prediction. If a class is out of range, return
        None and write nothing. No other thread may write to the classes meanwhile.
        """
        cdef double loss = 0
        cdef Py_ssize_t n = 0, rows = 0
        cdef Py_ssize_t *labels = NULL
        cdef bint done, wide = cnp.PyArray_TYPE(gradient) == cnp.NPY_DOUBLE
        cdef softmax_loss_t loop = <softmax_loss_t> self.loops[wide]
        cdef Scale scale
        if not alike(prediction, gradient) or not prediction.ndim:
            raise TypeError("wanted contiguous arrays of one type and shape")
        n = prediction.shape[prediction.ndim - 1]
        rows = cnp.PyArray_SIZE(prediction) // n if n else 0
        if are_labels(target):
            if not cnp.PyArray_ISCARRAY_RO(target) or n and cnp.PyArray_SIZE(target) != rows:
                raise TypeError("wanted a contiguous array with a class for each row")
            labels = <Py_ssize_t *> cnp.PyArray_DATA(target)
        elif not alike(prediction, target):
            raise TypeError("wanted contiguous arrays of one type and shape")
        scale.wide = max(rows, 1)
        if not wide:
            scale.narrow = <float> scale.wide
        if cnp.PyArray_SIZE(gradient) < RELEASE:
            done = run_softmax_loss(loop, prediction, labels, target, &scale, gradient, &loss, rows, n)
        else:
            with nogil:
                done = run_softmax_loss(
                    loop, prediction, labels, target, &scale, gradient, &loss, rows, n)
        if not done:
            return None
        return loss / rows if rows else NAN


cdef bint run_softmax_loss(
    softmax_loss_t loop, cnp.ndarray prediction, const Py_ssize_t *labels, cnp.ndarray target,
    void *scale, cnp.ndarray gradient, double *loss, Py_ssize_t rows, Py_ssize_t n
) noexcept nogil:
    """Run the loop, if all labels are in range."""
    cdef flags_t flags
    if labels != NULL and not all_within(labels, cnp.PyArray_SIZE(target), n):
        return False
    flags = save_flags()
    loop(
        cnp.PyArray_DATA(prediction), labels, cnp.PyArray_DATA(target), scale,
        cnp.PyArray_DATA(gradient), loss, rows, n)
    restore_flags(flags)
    return True


# ------------------------------------------------------------ gradient descent

cdef struct Step:
    char *parameter
    char *gradient
    char *velocity                   # NULL without momentum
    char *settings
    void *loop
    Py_ssize_t item


cdef void run_step(void *context, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Step *this = <Step *> context
    cdef Py_ssize_t offset = start * this.item
    if this.velocity == NULL:
        (<descend_t> this.loop)(
            this.parameter + offset, this.gradient + offset, this.settings, stop - start)
    else:
        (<descend_with_momentum_t> this.loop)(
            this.parameter + offset, this.gradient + offset, this.velocity + offset, this.settings,
            stop - start)


cdef class Descent:
    """Steps of gradient descent on a fixed list of contiguous float32 or float64 arrays.

    Parameters
    ----------
    parameters, gradients : list of ndarray
        Each parameter must have the same shape and type as its gradient.
    momentum : bool
        Whether to use momentum.
    table : dict, optional
        The kernel table to use.
    """

    cdef readonly list parameters, gradients, velocities
    cdef tuple references
    cdef list shared                 # whether each gradient shares memory with a parameter; None if none does
    cdef void *loops[2]

    def __init__(self, parameters, gradients, bint momentum, table=None):
        for parameter, gradient in zip(parameters, gradients):
            if not alike(parameter, gradient):
                raise TypeError(
                    "a parameter and its gradient must be contiguous arrays of one shape, both float32 "
                    f"or both float64, not {type(parameter).__name__} and {type(gradient).__name__}")
        find_loops(self.loops, "descend_with_momentum" if momentum else "descend", table)
        self.parameters, self.gradients = list(parameters), list(gradients)
        self.references = held(self.parameters + self.gradients)
        shared = [overlaps_any(gradient, self.parameters) for gradient in self.gradients]
        self.shared = shared if any(shared) else None
        self.velocities = [np.zeros_like(p) for p in self.parameters] if momentum else None

    def step(self, double rate, double momentum):
        """velocity = momentum * velocity + gradient, parameter -= rate * velocity."""
        cdef float[3] narrow = [<float> rate, <float> momentum, FLT_MIN]
        cdef double[3] wide = [rate, momentum, DBL_MIN]
        cdef Step this
        cdef cnp.ndarray array
        cdef list gradients
        cdef Py_ssize_t i, n
        for array in self.parameters:
            if not cnp.PyArray_ISWRITEABLE(array):
                raise ValueError(f"a parameter of shape {(<object> array).shape} is read-only")
        for i in range(len(self.parameters)):
            self.check(i, self.gradients)
        gradients = self.gradients
        if self.shared is not None:                  # all are read before a parameter is written
            gradients = [
                gradient.copy() if shared else gradient
                for gradient, shared in zip(gradients, self.shared)]
        for i in range(len(self.parameters)):
            self.check(i, gradients)                 # again: another thread may have run meanwhile
            array = self.parameters[i]
            n = cnp.PyArray_SIZE(array)
            this.item = cnp.PyArray_ITEMSIZE(array)
            this.parameter = cnp.PyArray_BYTES(array)
            this.gradient = cnp.PyArray_BYTES(<cnp.ndarray> gradients[i])
            this.velocity = NULL
            if self.velocities is not None:
                this.velocity = cnp.PyArray_BYTES(<cnp.ndarray> self.velocities[i])
            this.loop = self.loops[this.item == sizeof(double)]
            this.settings = <char *> wide if this.item == sizeof(double) else <char *> narrow
            if n < RELEASE:
                split(run_step, &this, n, 64, n)
            else:
                with nogil:
                    split(run_step, &this, n, 64, n)

    cdef int check(self, Py_ssize_t i, list gradients) except -1:
        """Raise an error if a parameter, its gradient or its velocity was changed in place."""
        cdef object parameter = self.parameters[i], gradient = gradients[i]
        if (not alike(parameter, gradient)
                or self.velocities is not None and not alike(parameter, self.velocities[i])):
            raise ValueError(
                f"a parameter and its gradient were changed in place: {parameter.dtype} of shape "
                f"{parameter.shape}, {gradient.dtype} of shape {gradient.shape}")
        return 0


cdef bint overlaps_any(cnp.ndarray gradient, list parameters) except -1:
    """Whether a gradient may share memory with a parameter."""
    for parameter in parameters:
        if overlap(gradient, parameter):
            return True
    return False
