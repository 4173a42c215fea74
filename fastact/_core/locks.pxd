"""Guards for the state that threads share.

Locks do something only in a Python without a GIL. Elsewhere the GIL is held wherever a lock is
taken. `load` and `store` read and write a number that is used without the GIL and without a lock.
On the processors of today they compile to plain moves.
"""

cdef extern from *:
    """
    #ifndef FASTACT_LOCKS
    #define FASTACT_LOCKS
    #ifdef Py_GIL_DISABLED
    #define fastact_lock PyMutex
    #define fastact_acquire(lock) PyMutex_Lock(lock)
    #define fastact_release(lock) PyMutex_Unlock(lock)
    #else
    #define fastact_lock char
    #define fastact_acquire(lock) ((void) (lock))
    #define fastact_release(lock) ((void) (lock))
    #endif
    #ifdef __GNUC__
    #define fastact_load(number) __atomic_load_n(number, __ATOMIC_ACQUIRE)
    #define fastact_store(number, value) __atomic_store_n(number, value, __ATOMIC_RELEASE)
    #else
    #define fastact_load(number) (*(volatile int *) (number))
    #define fastact_store(number, value) ((void) (*(volatile int *) (number) = (value)))
    #endif
    #endif
    """
    # All zeros is unlocked: a variable of a module needs no initialisation.
    ctypedef char lock_t "fastact_lock"
    void acquire "fastact_acquire"(lock_t *lock) noexcept nogil
    void release "fastact_release"(lock_t *lock) noexcept nogil
    int load "fastact_load"(int *number) noexcept nogil
    void store "fastact_store"(int *number, int value) noexcept nogil
