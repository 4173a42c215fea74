"""Guards for the state that threads share.

Locks do something only in a Python without a GIL. Elsewhere the GIL is held wherever a lock is
taken. They are no PyMutex where there is fork: CPython stops all threads before it calls the handlers
of a fork, and a thread that waits for a PyMutex may then own it and not run. A thread that waits for ours
stays attached, so that CPython waits for it, and one that holds it calls nothing of Python.

`load` and `store` read and write a number that is used without the GIL and without a lock. On the
processors of today they compile to plain moves.
"""

cdef extern from *:
    """
    #ifndef FASTACT_LOCKS
    #define FASTACT_LOCKS
    #if !defined(Py_GIL_DISABLED)
    #define fastact_lock char
    #define FASTACT_UNLOCKED 0
    #define fastact_acquire(lock) ((void) (lock))
    #define fastact_release(lock) ((void) (lock))
    #elif defined(_WIN32)
    #define fastact_lock PyMutex
    #define FASTACT_UNLOCKED ((PyMutex) {0})
    #define fastact_acquire(lock) PyMutex_Lock(lock)
    #define fastact_release(lock) PyMutex_Unlock(lock)
    #else
    #include <pthread.h>
    #define fastact_lock pthread_mutex_t
    #define FASTACT_UNLOCKED ((pthread_mutex_t) PTHREAD_MUTEX_INITIALIZER)
    #define fastact_acquire(lock) ((void) pthread_mutex_lock(lock))
    #define fastact_release(lock) ((void) pthread_mutex_unlock(lock))
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
    ctypedef char lock_t "fastact_lock"
    lock_t UNLOCKED "FASTACT_UNLOCKED"               # what each lock is set to at first
    void acquire "fastact_acquire"(lock_t *lock) noexcept nogil
    void release "fastact_release"(lock_t *lock) noexcept nogil
    int load "fastact_load"(int *number) noexcept nogil
    void store "fastact_store"(int *number, int value) noexcept nogil
