/* The module of one instruction set. Its only attribute, TABLE, is the kernel table: a dictionary of
   capsules with the addresses of loops. The build compiles this file once per instruction set:
   FASTACT_TARGET is the name of the module, and FASTACT_UNITS lists the units of kernels that are
   linked with it, as UNIT(name). A unit has a function that adds its loops to the table. */

#include <Python.h>
#include "table.h"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define INIT_OF(name) PyInit_##name
#define INIT(name) INIT_OF(name)

#define UNIT(name) void fastact_##name(void *table);
FASTACT_UNITS
#undef UNIT

void fastact_add(void *table, const char *name, void *loop)
{
    PyObject *capsule;
    if (loop == NULL || PyErr_Occurred())
        return;
    capsule = PyCapsule_New(loop, "fastact.kernel", NULL);
    if (capsule != NULL) {
        PyDict_SetItemString(table, name, capsule);
        Py_DECREF(capsule);
    }
}

static int fill(PyObject *module)
{
    int failed;
    PyObject *table = PyDict_New();
    if (table == NULL)
        return -1;
#define UNIT(name) fastact_##name(table);
    FASTACT_UNITS
    failed = PyErr_Occurred() || PyModule_AddObjectRef(module, "TABLE", table) < 0;
    Py_DECREF(table);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = TEXT(FASTACT_TARGET),
    .m_doc = "The kernels of one row of fastact._core.targets.",
    .m_slots = slots,
};

PyMODINIT_FUNC INIT(FASTACT_TARGET)(void)
{
    return PyModuleDef_Init(&module);
}
