/* malloc for counted.py, preloaded: what a call costs does not depend on those before it, and the
   memory starts 16 bytes past a cache line, as large arrays of NumPy do. For one thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define HEAD 16
#define CHUNK ((size_t) 1 << 22)

/* Stands before the memory: the block has 1 << power bytes, and starts `before` bytes before it. */
struct head {
    uint64_t power, before;
};
struct block {
    struct block *next;
};

/* Blocks that were given back, by power, and what is left of a chunk. */
static struct block *kept[64];
static char *left;
static size_t size_left;

static char *new_block(int power)
{
    size_t size = (size_t) 1 << power;
    char *found;
    if (size >= CHUNK / 4) {
        found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return found == MAP_FAILED ? NULL : found;
    }
    /* Blocks start at multiples of 64 at least. */
    size = size < 64 ? 64 : size;
    if (size_left < size) {
        found = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (found == MAP_FAILED)
            return NULL;
        left = found;
        size_left = CHUNK;
    }
    found = left;
    left += size;
    size_left -= size;
    return found;
}

static void *take(size_t size, size_t alignment)
{
    size_t wanted = size + HEAD + (alignment > HEAD ? alignment : 0);
    int power;
    char *block, *memory;
    if (wanted < size || wanted >= (size_t) 1 << 62) {
        errno = ENOMEM;
        return NULL;
    }
    power = wanted <= 64 ? 6 : 64 - __builtin_clzl(wanted - 1);
    block = (char *) kept[power];
    if (block != NULL)
        kept[power] = kept[power]->next;
    else if ((block = new_block(power)) == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    memory = block + HEAD;
    if (alignment > HEAD)
        memory = (char *) (((uintptr_t) memory + alignment - 1) & ~(uintptr_t) (alignment - 1));
    ((struct head *) memory)[-1] = (struct head) {(uint64_t) power, (uint64_t) (memory - block)};
    return memory;
}

void *malloc(size_t size)
{
    return take(size, HEAD);
}

void free(void *memory)
{
    struct head head;
    struct block *block;
    if (memory == NULL)
        return;
    head = ((struct head *) memory)[-1];
    block = (struct block *) ((char *) memory - head.before);
    block->next = kept[head.power];
    kept[head.power] = block;
}

void *calloc(size_t count, size_t size)
{
    size_t total;
    void *memory;
    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    memory = take(total, HEAD);
    return memory == NULL ? NULL : memset(memory, 0, total);
}

size_t malloc_usable_size(void *memory)
{
    struct head *head = (struct head *) memory - 1;
    return memory == NULL ? 0 : ((size_t) 1 << head->power) - head->before;
}

void *realloc(void *memory, size_t size)
{
    void *moved;
    if (memory != NULL && size <= malloc_usable_size(memory))
        return memory;
    moved = take(size, HEAD);
    if (moved != NULL && memory != NULL) {
        memcpy(moved, memory, malloc_usable_size(memory));
        free(memory);
    }
    return moved;
}

void *reallocarray(void *memory, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(memory, total);
}

void *memalign(size_t alignment, size_t size)
{
    return take(size, alignment);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return take(size, alignment);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    *memory = take(size, alignment);
    return *memory == NULL ? ENOMEM : 0;
}
