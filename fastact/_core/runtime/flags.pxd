"""The floating-point status flags.

Intermediate steps of a kernel raise flags such as underflow, which are meaningless to the caller.
The flags are therefore saved before a kernel runs, and restored afterwards. The rounding mode,
flush-to-zero and the exception masks are never changed.
"""

cdef extern from *:
    """
    #ifndef FASTACT_FLAGS
    #define FASTACT_FLAGS
    #if defined(__x86_64__) || defined(_M_X64)
    #include <xmmintrin.h>
    typedef unsigned int fastact_flags;
    static inline fastact_flags fastact_save_flags(void) { return _mm_getcsr(); }
    static inline void fastact_restore_flags(fastact_flags flags) { _mm_setcsr(flags); }
    #else
    #include <fenv.h>
    typedef fexcept_t fastact_flags;
    static inline fastact_flags fastact_save_flags(void)
    {
        fexcept_t flags;
        fegetexceptflag(&flags, FE_ALL_EXCEPT);
        return flags;
    }
    static inline void fastact_restore_flags(fastact_flags flags)
    {
        fesetexceptflag(&flags, FE_ALL_EXCEPT);
    }
    #endif
    #endif
    """
    ctypedef unsigned int flags_t "fastact_flags"
    flags_t save_flags "fastact_save_flags"() noexcept nogil
    void restore_flags "fastact_restore_flags"(flags_t flags) noexcept nogil
