/* Puts a loop into the kernel table, where it is not NULL. Units of kernels call it: see table.c. */

void fastact_add(void *table, const char *name, void *loop);
