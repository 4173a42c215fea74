"""Which features the processor and its operating system have, and which compiler made this.

Compiled with baseline flags only: this module runs on every processor.
"""

cdef extern from *:
    """
    /* setup.py writes the features of `targets.py` into FASTACT_FEATURES, as in
       FEATURE(avx2) FEATURE(fma). A check includes that the operating system saves the
       registers. f16c is not among them: clang before version 18 does not know its name. */
    #ifndef FASTACT_FEATURES
    #define FASTACT_FEATURES
    #endif

    #if defined(_MSC_VER) && defined(_M_X64)
    #include <windows.h>
    #include <intrin.h>
    #include <string.h>
    static int fastact_bit(const char *name)
    {
        /* leaf, register, bit: Intel SDM, volume 2A, CPUID */
        static const struct { const char *name; int leaf, reg, bit; DWORD os; } known[] = {
            {"fma", 1, 2, 12, 40}, {"f16c", 1, 2, 29, 40}, {"avx2", 7, 1, 5, 40},
            {"avx512f", 7, 1, 16, 41}, {"avx512dq", 7, 1, 17, 41},
            {"avx512cd", 7, 1, 28, 41}, {"avx512bw", 7, 1, 30, 41},
            {"avx512vl", 7, 1, 31, 41},
        };
        int regs[4];
        size_t i;
        for (i = 0; i < sizeof known / sizeof known[0]; i++)
            if (strcmp(name, known[i].name) == 0) {
                __cpuidex(regs, known[i].leaf, 0);
                /* 40, 41: PF_AVX2_ and PF_AVX512F_INSTRUCTIONS_AVAILABLE */
                return (regs[known[i].reg] >> known[i].bit & 1)
                    && IsProcessorFeaturePresent(known[i].os);
            }
        return 0;
    }
    #define FEATURE(name) if (!strcmp(wanted, #name)) return fastact_bit(#name);
    #elif defined(__x86_64__)
    #include <cpuid.h>
    #include <string.h>
    #define FEATURE(name) if (!strcmp(wanted, #name)) return __builtin_cpu_supports(#name) != 0;
    static int fastact_bit(const char *name)
    {
        unsigned a, b, c = 0, d;
        (void) name;                                      /* f16c */
        return __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
    }
    #endif

    static int fastact_has(const char *wanted)
    {
        (void) wanted;
    #ifdef FEATURE
        if (!strcmp(wanted, "f16c"))
            return fastact_bit("f16c");
        FASTACT_FEATURES
    #endif
        return 0;
    }

    #if defined(__clang__)
    #define FASTACT_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define FASTACT_COMPILER "gcc " __VERSION__
    #elif defined(_MSC_VER)
    #define FASTACT_COMPILER "MSVC"
    #else
    #define FASTACT_COMPILER "unknown"
    #endif
    """
    bint fastact_has(const char *wanted)
    const char *COMPILER "FASTACT_COMPILER"

compiler = COMPILER.decode().strip()


def features(names):
    """Those of the processor features `names` that this machine has, as a frozenset.

    Parameters
    ----------
    names : iterable of str
        Features that stand in the table `fastact._core.targets.TARGETS`.
    """
    return frozenset(name for name in names if fastact_has(name.encode()))
