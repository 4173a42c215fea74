// The same module, compiled as C++.
#define NAME "cpp_client"
#define INIT PyInit_cpp_client
#include "c_client.c"
