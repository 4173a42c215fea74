/* What the program under callgrind calls: see counted.py. */
#include <Python.h>
#include <valgrind/callgrind.h>

/* Make calls, and count their instructions, nothing around them, if there is a name to write them under. */
PyObject *fastact_count(
    PyObject *function, PyObject *operands, PyObject *names, long times, const char *name)
{
    PyObject *const *items = &PyTuple_GET_ITEM(operands, 0);
    size_t given = PyTuple_GET_SIZE(operands) - (names == Py_None ? 0 : PyTuple_GET_SIZE(names));
    PyObject *result = Py_NewRef(Py_None);
    if (name != NULL)
        CALLGRIND_TOGGLE_COLLECT;
    for (long i = 0; i < times && result != NULL; i++) {
        Py_DECREF(result);
        result = PyObject_Vectorcall(function, items, given, names == Py_None ? NULL : names);
    }
    if (name == NULL)
        return result;
    CALLGRIND_TOGGLE_COLLECT;
    CALLGRIND_DUMP_STATS_AT(name);
    return result;
}

/* From here on, callgrind looks at what is executed, at a third of the speed. */
void fastact_start(void)
{
    CALLGRIND_START_INSTRUMENTATION;
}
