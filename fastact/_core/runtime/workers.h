/* The threads that share a large call with the thread that makes it.

   After a call, they wait for the next one for a fraction of a millisecond, and let others have the
   processor meanwhile. Then they sleep. OpenMP's threads keep the processor while they wait, from
   another process or from the threads of another OpenMP library in this process, such as PyTorch's.

   Waking a thread costs the caller some 10 us, and it starts up to 50 us later. So a call that would
   take no longer than that alone wakes them only if it follows another call closely.

   Each thread has a share of the call, of which it takes one part after the other. So, in the next
   call on the same arrays, its part of them is in its cache. When nothing is left of its share, it
   takes parts of the others. The caller waits only for workers that have taken a part, so that a worker
   that gets no processor delays nobody. If the workers are busy with the call of another thread, the
   caller computes alone. */

#ifndef FASTACT_WORKERS_H
#define FASTACT_WORKERS_H

typedef void (*fastact_share)(void *context, Py_ssize_t start, Py_ssize_t stop);

#ifdef _WIN32

/* Calls work(context, start, stop) for parts of range(n). Returns 0 if nothing was done. */
static int fastact_run_parts(
    fastact_share work, void *context, Py_ssize_t n, Py_ssize_t part, int threads, int large)
{
#ifdef _OPENMP
    int i, parts = (int) ((n + part - 1) / part);
    (void) large;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (i = 0; i < parts; i++)
        work(context, i * part, (i + 1) * part < n ? (i + 1) * part : n);
    return 1;
#else
    (void) work; (void) context; (void) n; (void) part; (void) threads; (void) large;
    return 0;
#endif
}

static int fastact_watch_fork(void) { return 0; }
static int fastact_forked = 0;

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>

#if defined(__x86_64__) || defined(__i386__)
#define FASTACT_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define FASTACT_PAUSE() __asm__ volatile("yield")
#else
#define FASTACT_PAUSE() ((void) 0)
#endif

/* How often a thread looks for what it waits for: some 10 us in all. */
enum { FASTACT_LOOKS = 400 };

/* On a machine with more processors, workers are not placed when they wake up. */
enum { FASTACT_FEW = 8 };

/* How long a worker waits for the next call before it sleeps, and how closely calls must follow each
   other, in nanoseconds. */
enum { FASTACT_AWAKE = 300000 };

/* Shares of a call at most; from then on, threads have one in common. */
enum { FASTACT_SHARES = 64 };

static struct {
    pthread_mutex_t owner;        /* held while a call is shared */
    pthread_mutex_t lock;         /* guards what follows, except `share` */
    pthread_cond_t opened;        /* `wanted` is not 0 */
    pthread_cond_t left;          /* `busy` is 0 */
    int workers;                  /* threads that were started */
    int asleep;                   /* how many of them sleep */
    pthread_t thread[FASTACT_FEW];
    int wanted;                   /* how many may still join the call */
    int busy;                     /* how many have joined and not left */
    fastact_share work;
    void *context;
    Py_ssize_t part;              /* length of a part */
    int shares;
    long long last;               /* when the last call ended */
    struct {
        Py_ssize_t next;          /* where the next part of the share starts */
        Py_ssize_t stop;
        char line[64 - 2 * sizeof(Py_ssize_t)];
    } share[FASTACT_SHARES];
} fastact_pool = {
    .owner = PTHREAD_MUTEX_INITIALIZER,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .opened = PTHREAD_COND_INITIALIZER,
    .left = PTHREAD_COND_INITIALIZER,
};

static long long fastact_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* Take parts until none is left: those of the thread's own share first. */
static void fastact_take_parts(int thread)
{
    Py_ssize_t part = fastact_pool.part, start, stop;
    int i, share;
    for (i = 0; i < fastact_pool.shares; i++) {
        share = (thread + i) % fastact_pool.shares;
        stop = fastact_pool.share[share].stop;
        while ((start = __atomic_fetch_add(&fastact_pool.share[share].next, part, __ATOMIC_RELAXED)) < stop)
            fastact_pool.work(fastact_pool.context, start, stop - start < part ? stop : start + part);
    }
}

static void *fastact_worker(void *thread)
{
    int looks;
    long long start;
    for (;;) {
        start = 0;
        for (looks = 0; !__atomic_load_n(&fastact_pool.wanted, __ATOMIC_RELAXED); looks++) {
            if (looks < FASTACT_LOOKS) {
                FASTACT_PAUSE();
                continue;
            }
            if (!start)
                start = fastact_now();
            if (fastact_now() - start > FASTACT_AWAKE)
                break;
            sched_yield();
        }
        pthread_mutex_lock(&fastact_pool.lock);
        fastact_pool.asleep++;
        while (!fastact_pool.wanted)
            pthread_cond_wait(&fastact_pool.opened, &fastact_pool.lock);
        fastact_pool.asleep--;
        __atomic_store_n(&fastact_pool.wanted, fastact_pool.wanted - 1, __ATOMIC_RELAXED);
        __atomic_store_n(&fastact_pool.busy, fastact_pool.busy + 1, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&fastact_pool.lock);
        fastact_take_parts((int) (Py_ssize_t) thread);
        pthread_mutex_lock(&fastact_pool.lock);
        __atomic_store_n(&fastact_pool.busy, fastact_pool.busy - 1, __ATOMIC_RELAXED);
        if (!fastact_pool.busy)
            pthread_cond_signal(&fastact_pool.left);
        pthread_mutex_unlock(&fastact_pool.lock);
    }
    return NULL;
}

/* Start workers until there are `count`, or until the system refuses. They handle no signals but those
   of their own faults, such as SIGBUS for a file that was truncated: blocked, these would end the
   process without a word of faulthandler or of another handler. */
static void fastact_start_workers(int count)
{
    static const int faults[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    sigset_t all, before;
    pthread_t thread;
    size_t i;
    sigfillset(&all);
    for (i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigdelset(&all, faults[i]);
    if (fastact_pool.workers >= count || pthread_sigmask(SIG_SETMASK, &all, &before))
        return;
    while (fastact_pool.workers < count) {
        void *number = (void *) (Py_ssize_t) (fastact_pool.workers + 1);
        if (pthread_create(&thread, NULL, fastact_worker, number))
            break;
        pthread_detach(thread);
        if (fastact_pool.workers < FASTACT_FEW)
            fastact_pool.thread[fastact_pool.workers] = thread;
        fastact_pool.workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Let sleeping workers wake up elsewhere than on the caller's processor. Linux often chooses it, even
   if others are idle, and moves the worker milliseconds later. */
static void fastact_place_workers(void)
{
#ifdef __linux__
    cpu_set_t allowed;
    int i, here = sched_getcpu();
    if (here < 0 || sched_getaffinity(0, sizeof(allowed), &allowed) || !CPU_ISSET(here, &allowed)
            || CPU_COUNT(&allowed) < 2 || CPU_COUNT(&allowed) > FASTACT_FEW)
        return;
    CPU_CLR(here, &allowed);
    for (i = 0; i < fastact_pool.workers && i < FASTACT_FEW; i++)
        pthread_setaffinity_np(fastact_pool.thread[i], sizeof(allowed), &allowed);
#endif
}

/* Calls work(context, start, stop) for parts of range(n), on up to `threads` threads. A call that is
   not `large` is made alone, unless it follows another closely. Returns 0 if nothing was done,
   because the workers are busy with the call of another thread. */
static int fastact_run_parts(
    fastact_share work, void *context, Py_ssize_t n, Py_ssize_t part, int threads, int large)
{
    int looks, i;
    Py_ssize_t parts = (n + part - 1) / part, start;
    if (pthread_mutex_trylock(&fastact_pool.owner))
        return 0;
    if (!large && fastact_now() - fastact_pool.last > FASTACT_AWAKE) {
        work(context, 0, n);
        fastact_pool.last = fastact_now();
        pthread_mutex_unlock(&fastact_pool.owner);
        return 1;
    }
    pthread_mutex_lock(&fastact_pool.lock);
    fastact_start_workers(threads - 1);
    fastact_pool.work = work;
    fastact_pool.context = context;
    fastact_pool.part = part;
    fastact_pool.shares = threads < FASTACT_SHARES ? threads : FASTACT_SHARES;
    for (i = 0, start = 0; i < fastact_pool.shares; i++) {
        fastact_pool.share[i].next = start;
        start = (parts * (i + 1) / fastact_pool.shares) * part;
        fastact_pool.share[i].stop = start = start < n ? start : n;
    }
    __atomic_store_n(
        &fastact_pool.wanted,
        threads - 1 < fastact_pool.workers ? threads - 1 : fastact_pool.workers, __ATOMIC_RELAXED);
    if (fastact_pool.asleep) {
        fastact_place_workers();
        pthread_cond_broadcast(&fastact_pool.opened);
    }
    pthread_mutex_unlock(&fastact_pool.lock);

    fastact_take_parts(0);

    pthread_mutex_lock(&fastact_pool.lock);
    __atomic_store_n(&fastact_pool.wanted, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&fastact_pool.lock);
    for (looks = 0; looks < FASTACT_LOOKS; looks++) {
        if (!__atomic_load_n(&fastact_pool.busy, __ATOMIC_RELAXED))
            break;
        FASTACT_PAUSE();
    }
    pthread_mutex_lock(&fastact_pool.lock);
    while (fastact_pool.busy)
        pthread_cond_wait(&fastact_pool.left, &fastact_pool.lock);
    pthread_mutex_unlock(&fastact_pool.lock);
    fastact_pool.last = fastact_now();
    pthread_mutex_unlock(&fastact_pool.owner);
    return 1;
}

/* A forked child has no workers, and its locks may be held by threads that it does not have. */
static int fastact_forked = 0;
static void fastact_after_fork(void) { fastact_forked = 1; }
static int fastact_watch_fork(void) { return pthread_atfork(NULL, NULL, fastact_after_fork); }

#endif
#endif
