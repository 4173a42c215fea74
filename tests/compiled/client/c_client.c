/* Calls fastact from C, and from C++ by cpp_client.cpp, which includes this file. */

#include <Python.h>
#include <fastact.h>
#include <fenv.h>

#ifndef NAME
#define NAME "c_client"
#define INIT PyInit_c_client
#endif

/* sigmoid(x) * x of a buffer of floats, in place. */
static PyObject *swish(PyObject *self, PyObject *buffer)
{
    Py_buffer view;
    float block[256];
    Py_ssize_t n, start, i, count;
    float *x;
    (void) self;
    if (PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE) < 0)
        return NULL;
    x = (float *) view.buf;
    n = view.len / (Py_ssize_t) sizeof(float);
    for (start = 0; start < n; start += 256) {
        count = n - start < 256 ? n - start : 256;
        fastact_sigmoid_f32(x + start, block, count);
        for (i = 0; i < count; i++)
            x[start + i] *= block[i];
    }
    PyBuffer_Release(&view);
    Py_RETURN_NONE;
}

static PyObject *sigmoid(PyObject *self, PyObject *number)
{
    double x = PyFloat_AsDouble(number);
    (void) self;
    if (x == -1 && PyErr_Occurred())
        return NULL;
    return PyFloat_FromDouble(fastact_sigmoid_scalar(x));
}

/* Whether calls that overflow and underflow inside, or have n < 0, leave status flags as given. */
static PyObject *flags(PyObject *self, PyObject *number)
{
    const double x[4] = {-1e308, 800, 1e-320, Py_NAN};
    const float y[4] = {-3e38f, 200, 1e-42f, -100};
    double out[4];
    float out_y[4];
    int before = (int) PyLong_AsLong(number) & FE_ALL_EXCEPT, after, rounding = fegetround();
    (void) self;
    feclearexcept(FE_ALL_EXCEPT);
    feraiseexcept(before);
    fastact_sigmoid_f64(x, out, 4);
    fastact_sigmoid_backward_f64(x, x, out, 4);
    fastact_sigmoid_f32(y, out_y, 4);
    fastact_tanh_backward_f32(y, y, out_y, 4);
    fastact_leaky_relu_f32(y, 3e38f, out_y, 4);
    fastact_relu_backward_f64(NULL, NULL, NULL, 0);
    fastact_sigmoid_f64(NULL, NULL, -1);
    after = fetestexcept(FE_ALL_EXCEPT);
    feclearexcept(FE_ALL_EXCEPT);
    return PyBool_FromLong(after == before && fegetround() == rounding);
}

/* Calls of relu in place, for their time to be measured. */
static PyObject *repeat(PyObject *self, PyObject *args)
{
    Py_buffer view;
    Py_ssize_t times, i;
    (void) self;
    if (!PyArg_ParseTuple(args, "w*n", &view, &times))
        return NULL;
    for (i = 0; i < times; i++)
        fastact_relu_f32((float *) view.buf, (float *) view.buf, view.len / (Py_ssize_t) sizeof(float));
    PyBuffer_Release(&view);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"swish", swish, METH_O, NULL},
    {"sigmoid", sigmoid, METH_O, NULL},
    {"flags", flags, METH_O, NULL},
    {"repeat", repeat, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, NAME, NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC INIT(void)
{
    if (fastact_import() < 0)
        return NULL;
    return PyModule_Create(&module);
}
