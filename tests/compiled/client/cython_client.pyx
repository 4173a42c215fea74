"""Calls fastact from Cython."""

cimport cython

from fastact.cy cimport (
    leaky_relu_backward_f32, leaky_relu_backward_f64, leaky_relu_f32, leaky_relu_f64,
    leaky_relu_scalar, relu_backward_f32, relu_backward_f64, relu_f32, relu_f64,
    sigmoid_backward_f32, sigmoid_backward_f64, sigmoid_backward_from_output_f32,
    sigmoid_backward_from_output_f64, sigmoid_f32, sigmoid_f64, sigmoid_scalar,
)


def call_f32(str name, const float[::1] a, const float[::1] b, float slope, float[::1] out):
    cdef Py_ssize_t n = out.shape[0]
    if n == 0:
        return
    if name == "relu":
        relu_f32(&a[0], &out[0], n)
    elif name == "leaky_relu":
        leaky_relu_f32(&a[0], slope, &out[0], n)
    elif name == "sigmoid":
        with nogil:
            sigmoid_f32(&a[0], &out[0], n)
    elif name == "relu_backward":
        relu_backward_f32(&a[0], &b[0], &out[0], n)
    elif name == "leaky_relu_backward":
        leaky_relu_backward_f32(&a[0], &b[0], slope, &out[0], n)
    elif name == "sigmoid_backward":
        sigmoid_backward_f32(&a[0], &b[0], &out[0], n)
    elif name == "sigmoid_backward_from_output":
        sigmoid_backward_from_output_f32(&a[0], &b[0], &out[0], n)
    else:
        raise ValueError(name)


def call_f64(str name, const double[::1] a, const double[::1] b, double slope, double[::1] out):
    cdef Py_ssize_t n = out.shape[0]
    if n == 0:
        return
    if name == "relu":
        relu_f64(&a[0], &out[0], n)
    elif name == "leaky_relu":
        leaky_relu_f64(&a[0], slope, &out[0], n)
    elif name == "sigmoid":
        with nogil:
            sigmoid_f64(&a[0], &out[0], n)
    elif name == "relu_backward":
        relu_backward_f64(&a[0], &b[0], &out[0], n)
    elif name == "leaky_relu_backward":
        leaky_relu_backward_f64(&a[0], &b[0], slope, &out[0], n)
    elif name == "sigmoid_backward":
        sigmoid_backward_f64(&a[0], &b[0], &out[0], n)
    elif name == "sigmoid_backward_from_output":
        sigmoid_backward_from_output_f64(&a[0], &b[0], &out[0], n)
    else:
        raise ValueError(name)


@cython.boundscheck(False)
def rows(float[:, ::1] x):
    """sigmoid in place, one row after the other, without the GIL."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(x.shape[0]):
            sigmoid_f32(&x[i, 0], &x[i, 0], x.shape[1])


def scalars(double x, double slope):
    return sigmoid_scalar(x), leaky_relu_scalar(x, slope)


def repeat(float[::1] x, Py_ssize_t times):
    """Calls of relu, for their time to be measured."""
    cdef Py_ssize_t _
    for _ in range(times):
        relu_f32(&x[0], &x[0], x.shape[0])


def repeat_scalar(double x, Py_ssize_t times):
    """Calls of sigmoid of a number, each of the result of the one before."""
    cdef Py_ssize_t _
    for _ in range(times):
        x = sigmoid_scalar(x)
    return x
