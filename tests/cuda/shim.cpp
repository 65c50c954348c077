/* shim - fibers for threads, and the runtime library on the heap (shim.hpp). */
#include "tests/cuda/shim.hpp"

#include <assert.h>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unordered_map>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define MAX_THREADS 1024
#define STACK_BYTES (256 * 1024) /* of a fiber, and a page below it that must not be touched */
#define JUNK        0xA7

/* ---- switching stacks -------------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
struct context {
    void *sp;
};
extern "C" void shim_switch(void **from, void *to);
/* what a called function keeps, on the stack it leaves */
asm(".text\n.globl shim_switch\n.hidden shim_switch\n.type shim_switch, @function\nshim_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size shim_switch, .-shim_switch\n");

static void context_switch(struct context *from, struct context *to)
{
    shim_switch(&from->sp, to->sp);
}

static void context_make(struct context *c, void *stack, void (*entry)())
{
    void **top = (void **)((char *)stack + STACK_BYTES);
    *--top = NULL; /* entry begins as if it had been called: 8 off a multiple of 16 */
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--top = NULL;
    c->sp = top;
}
#else
#include <ucontext.h>
struct context {
    ucontext_t u;
};

static void context_switch(struct context *from, struct context *to)
{
    swapcontext(&from->u, &to->u);
}

static void context_make(struct context *c, void *stack, void (*entry)())
{
    getcontext(&c->u);
    c->u.uc_stack.ss_sp = stack;
    c->u.uc_stack.ss_size = STACK_BYTES;
    c->u.uc_link = NULL;
    makecontext(&c->u, entry, 0);
}
#endif

/* ---- a block ----------------------------------------------------------------------------------------------------------------- */

enum state { READY, AT_WARP, AT_BLOCK, DONE };

struct copy {
    void *shared;
    const void *global; /* NULL: zeros */
    int group;
};

struct fiber {
    struct shim_place place; /* first: shim_now points to it */
    struct context context;
    enum state state;
    struct warp *warp;
    char *stack;
    int turn;  /* warp operations so far */
    int group; /* of asynchronous copies */
    std::vector<struct copy> copies;
#if defined(__SANITIZE_ADDRESS__)
    void *fake_stack;
#endif
};

struct warp {
    struct shim_slot slot[2][32];
    int n_lanes, n_done, n_here;
    enum shim_kind kind; /* of those who are here */
    int first;           /* its first fiber */
};

struct block {
    struct fiber fibers[MAX_THREADS];
    struct warp warps[MAX_THREADS / 32];
    struct context outside;
    const std::function<void()> *kernel;
    int n, n_done, n_at_block, n_ready;
    int ready[MAX_THREADS];
    uint64_t random;
    bool is_open;
#if defined(__SANITIZE_ADDRESS__)
    void *fake_stack;
    const void *stack;
    size_t stack_bytes;
#endif
};

thread_local struct shim_place *shim_now;
static __attribute__((tls_model("initial-exec"))) thread_local struct block *all;

static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

static void die(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "shim: block %u %u %u, thread %u: ", shim_now->block.x, shim_now->block.y, shim_now->block.z,
            shim_now->thread.x);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    abort();
}

static uint64_t random_next(struct block *b)
{
    b->random ^= b->random << 13;
    b->random ^= b->random >> 7;
    b->random ^= b->random << 17;
    return b->random;
}

static struct fiber *self()
{
    return (struct fiber *)shim_now;
}

static void make_ready(struct block *b, struct fiber *f)
{
    f->state = READY;
    b->ready[b->n_ready++] = (int)(f - b->fibers);
}

/* Leave the fiber until it is made ready. */
static void leave(struct block *b, struct fiber *f)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(f->state == DONE ? NULL : &f->fake_stack, b->stack, b->stack_bytes);
#endif
    context_switch(&f->context, &b->outside);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(f->fake_stack, NULL, NULL);
#endif
}

static void release_block_if_all_wait(struct block *b)
{
    if (b->n_at_block == 0 || b->n_at_block + b->n_done < b->n)
        return;
    for (int i = 0; i < b->n; i++)
        if (b->fibers[i].state == AT_BLOCK)
            make_ready(b, &b->fibers[i]);
    b->n_at_block = 0;
}

static void fiber_main()
{
    struct block *b = all;
    struct fiber *f = self();
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(NULL, &b->stack, &b->stack_bytes);
#endif
    (*b->kernel)();
    f->state = DONE;
    f->copies.clear();
    b->n_done++;
    f->warp->n_done++;
    if (f->warp->n_here > 0)
        die("leaves while %d lanes of its warp wait for it", f->warp->n_here);
    release_block_if_all_wait(b);
    leave(b, f);
    abort();
}

void __syncthreads()
{
    struct block *b = all;
    struct fiber *f = self();
    f->state = AT_BLOCK;
    b->n_at_block++;
    release_block_if_all_wait(b);
    leave(b, f);
}

struct shim_slot *shim_mine()
{
    struct fiber *f = self();
    return &f->warp->slot[f->turn & 1][shim_now->lane];
}

const struct shim_slot *shim_meet(enum shim_kind kind)
{
    struct block *b = all;
    struct fiber *f = self();
    struct warp *w = f->warp;
    const struct shim_slot *slots = w->slot[f->turn & 1];
    if (w->n_done > 0)
        die("a warp operation (%d) after %d lanes have left", kind, w->n_done);
    if (w->n_here > 0 && w->kind != kind)
        die("comes to a warp operation (%d) where others wait in another (%d)", kind, w->kind);
    w->kind = kind;
    f->turn++;
    if (++w->n_here < w->n_lanes) {
        f->state = AT_WARP;
        leave(b, f);
        return slots;
    }
    w->n_here = 0;
    for (int i = w->first; i < w->first + w->n_lanes; i++)
        if (&b->fibers[i] != f)
            make_ready(b, &b->fibers[i]);
    return slots;
}

/* Run one fiber until it waits. */
static void enter(struct block *b, struct fiber *f)
{
    shim_now = &f->place;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&b->fake_stack, f->stack, STACK_BYTES);
#endif
    context_switch(&b->outside, &f->context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(b->fake_stack, NULL, NULL);
#endif
}

static struct block *block_get()
{
    if (!all) {
        const char *seed = getenv("HERON_SHIM_SEED");
        all = new struct block();
        all->random = 88172645463325252u + (seed ? strtoull(seed, NULL, 10) * 0x9E3779B97F4A7C15u : 0);
        const size_t page = (size_t)sysconf(_SC_PAGESIZE), each = STACK_BYTES + page;
        char *stacks =
            (char *)mmap(NULL, MAX_THREADS * each, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED)
            abort();
        for (size_t i = 0; i < MAX_THREADS; i++) {
            mprotect(stacks + i * each, page, PROT_NONE);
            all->fibers[i].stack = stacks + i * each + page;
        }
    }
    return all;
}

static void run_block(struct block *b, dim3 grid, dim3 at, unsigned n, void *shared)
{
    b->n = (int)n;
    b->n_done = b->n_at_block = b->n_ready = 0;
    for (int i = 0; i < b->n; i++) {
        struct fiber *f = &b->fibers[i];
        f->place = {dim3((unsigned)i), at, dim3(n), grid, shared, i % 32};
        f->warp = &b->warps[i / 32];
        f->turn = f->group = 0;
        f->copies.clear();
        if (i % 32 == 0) {
            f->warp->n_lanes = b->n - i < 32 ? b->n - i : 32;
            f->warp->n_done = f->warp->n_here = 0;
            f->warp->first = i;
        }
        context_make(&f->context, f->stack, fiber_main);
        make_ready(b, f);
    }
    while (b->n_done < b->n) {
        if (b->n_ready == 0) {
            for (int i = 0; i < b->n; i++) {
                shim_now = &b->fibers[i].place;
                if (b->fibers[i].state == AT_WARP)
                    die("waits for its warp (operation %d), %d threads wait for the block, %d have left",
                        b->fibers[i].warp->kind, b->n_at_block, b->n_done);
            }
            abort();
        }
        const int pick = (int)((random_next(b) >> 32) * (uint64_t)b->n_ready >> 32), i = b->ready[pick];
        b->ready[pick] = b->ready[--b->n_ready];
        enter(b, &b->fibers[i]);
    }
}

static void launch(dim3 grid, unsigned n, size_t shared_bytes, const std::function<void()> &kernel)
{
    struct block *b = block_get();
    if (n < 1 || n > MAX_THREADS || grid.y > 65535 || grid.z > 65535) {
        fprintf(stderr, "shim: a grid of %u x %u x %u blocks of %u threads\n", grid.x, grid.y, grid.z, n);
        abort();
    }
    assert(!b->is_open);
    b->is_open = true;
    b->kernel = &kernel;
    const size_t room = shared_bytes ? shared_bytes : 1;
    /* the end is what is watched: it lies at the end of the heap block */
    for (uint64_t i = 0, n_blocks = (uint64_t)grid.x * grid.y * grid.z, first = random_next(b) % n_blocks; i < n_blocks; i++) {
        void *shared = NULL;
        const uint64_t k = (i + first) % n_blocks;
        if (posix_memalign(&shared, 128, room + 64) != 0)
            abort();
        memset(shared, JUNK, room + 64);
#if defined(__SANITIZE_ADDRESS__)
        ASAN_POISON_MEMORY_REGION((char *)shared + (room + 7) / 8 * 8, room + 64 - (room + 7) / 8 * 8);
#endif
        run_block(b, grid, dim3((unsigned)(k % grid.x), (unsigned)(k / grid.x % grid.y), (unsigned)(k / grid.x / grid.y)), n,
                  shared);
#if defined(__SANITIZE_ADDRESS__)
        ASAN_UNPOISON_MEMORY_REGION(shared, room + 64);
#else
        for (size_t j = shared_bytes ? shared_bytes : 0; j < room + 64; j++)
            if (((unsigned char *)shared)[j] != JUNK)
                die("shared memory of %zu bytes is written at byte %zu", shared_bytes, j);
#endif
        free(shared);
    }
    b->is_open = false;
    shim_now = NULL;
}

/* ---- failing on purpose -------------------------------------------------------------------------------------------------- */

/* The number behind `word` in HERON_SHIM_FAILS, 1 without one; 0: it is not there. */
static int fails(const char *word)
{
    const char *text = getenv("HERON_SHIM_FAILS"), *at = text ? strstr(text, word) : NULL;
    if (!at)
        return 0;
    at += strlen(word);
    return *at == '=' ? atoi(at + 1) : 1;
}

static std::atomic<int> n_launched;

static bool is_lost()
{
    const int after = fails("lost");
    return after && n_launched >= after;
}

/* ---- streams and what they record ---------------------------------------------------------------------------------------------- */

struct shim_graph {
    std::vector<std::function<void()>> parts;
};

/* What a stream was given and has not done yet. Nothing is done before somebody waits for it, so whoever changes host memory that a copy still has to read is found out. */
struct shim_stream {
    struct shim_graph *capture; /* NULL: goes to the queue */
    std::recursive_mutex mutex;
    std::deque<std::function<void()>> queue;
    uint64_t n_done;
};

struct shim_event {
    cudaStream_t stream;
    uint64_t n; /* that the stream has been given when it was recorded */
};

static void run_or_note(cudaStream_t stream, const std::function<void()> &part)
{
    std::lock_guard<std::recursive_mutex> lock(stream->mutex);
    if (stream->capture)
        stream->capture->parts.push_back(part);
    else
        stream->queue.push_back(part);
}

static std::mutex streams_mutex;
static std::set<cudaStream_t> streams;

/* Do what the stream was given, up to number n. */
static void run_until(cudaStream_t stream, uint64_t n)
{
    std::lock_guard<std::recursive_mutex> lock(stream->mutex);
    for (; stream->n_done < n && !stream->queue.empty(); stream->n_done++) {
        stream->queue.front()();
        stream->queue.pop_front();
    }
}

static void run_all()
{
    std::lock_guard<std::mutex> lock(streams_mutex);
    for (cudaStream_t stream : streams)
        run_until(stream, UINT64_MAX);
}

void shim_launch(cudaStream_t stream, dim3 grid, unsigned n, size_t shared_bytes, const std::function<void()> &kernel)
{
    run_or_note(stream, [=] {
        if (!is_lost())
            launch(grid, n, shared_bytes, kernel);
        n_launched++;
    });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    if (stream->capture)
        return cudaErrorInvalidValue;
    stream->capture = new struct shim_graph();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = stream->capture;
    stream->capture = NULL;
    return *graph ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    if (fails("graph"))
        return cudaErrorMemoryAllocation;
    *exec = new struct shim_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    for (const std::function<void()> &part : exec->parts)
        run_or_note(stream, part);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}

/* ---- half precision ------------------------------------------------------------------------------------------------------------ */

float shim_f16_to_f32(uint16_t h)
{
    const int e = h >> 10 & 31;
    const float sign = h & 0x8000 ? -1.0f : 1.0f;
    const int m = h & 0x3ff;
    if (e == 31)
        return m ? NAN : sign * INFINITY;
    return sign * (e ? ldexpf((float)(m | 0x400), e - 25) : ldexpf((float)m, -24));
}

uint16_t shim_f64_to_f16(double v)
{
    const uint16_t sign = signbit(v) ? 0x8000 : 0;
    v = fabs(v);
    if (isnan(v))
        return 0x7fff;
    if (v >= 65520)
        return (uint16_t)(sign | 0x7c00);
    if (v < ldexp(1, -14)) /* steps of 2^-24: rint goes to even */
        return (uint16_t)(sign | (uint16_t)rint(ldexp(v, 24)));
    int e;
    frexp(v, &e); /* v in [2^(e-1), 2^e) */
    const int m = (int)rint(ldexp(v, 11 - e));
    return (uint16_t)(sign | (((e + 13) << 10) + m)); /* m has 11 bits or is 2^11: the carry is right as it is */
}

uint16_t shim_f32_to_bf16(float v)
{
    const uint32_t u = bits_of(v);
    if (isnan(v))
        return 0x7fff;
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* ---- tensor cores and copies ---------------------------------------------------------------------------------------------------- */

static float bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

/* Lane l shows its a as 8 values and its b as 4. */
template <float (*F)(uint16_t)> static void mma(enum shim_kind kind, float c[4], const uint32_t a[4], const uint32_t b[2])
{
    struct shim_slot *mine = shim_mine();
    for (int i = 0; i < 4; i++)
        mine->value[2 * i] = F((uint16_t)a[i]), mine->value[2 * i + 1] = F((uint16_t)(a[i] >> 16));
    for (int i = 0; i < 2; i++)
        mine->value[8 + 2 * i] = F((uint16_t)b[i]), mine->value[9 + 2 * i] = F((uint16_t)(b[i] >> 16));
    const struct shim_slot *s = shim_meet(kind);
    const int g = shim_now->lane / 4, t = shim_now->lane % 4;
    for (int i = 0; i < 4; i++) {
        const int row = i / 2, col = 2 * t + i % 2; /* row g or g + 8 */
        double sum = c[i];
        for (int k = 0; k < 16; k++) {
            const int from = k / 2 % 4, reg = k / 8; /* the lane of its four, and whether its upper pair */
            sum +=
                (double)s[4 * g + from].value[4 * reg + 2 * row + k % 2] * (double)s[4 * col + from].value[8 + 2 * reg + k % 2];
        }
        c[i] = (float)sum;
    }
}

void mma_f16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    mma<shim_f16_to_f32>(SHIM_MMA_F16, c, a, b);
}

void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    mma<bf16_to_f32>(SHIM_MMA_BF16, c, a, b);
}

void shim_misaligned(const void *p, int n)
{
    die("%p is not aligned to %d bytes", p, n);
}

static const struct shim_slot *show_address(const void *row)
{
    if ((uintptr_t)row % 16 != 0)
        shim_misaligned(row, 16);
    shim_mine()->address = row;
    return shim_meet(SHIM_LOAD_MATRIX);
}

void load_matrix(uint32_t r[4], const void *row)
{
    const struct shim_slot *s = show_address(row);
    const int g = shim_now->lane / 4, t = shim_now->lane % 4;
    for (int i = 0; i < 4; i++)
        memcpy(&r[i], (const char *)s[8 * i + g].address + 4 * t, 4);
    shim_meet(SHIM_LOAD_MATRIX); /* nobody writes there before all have read */
}

void load_matrix_transposed(uint32_t r[4], const void *row)
{
    const struct shim_slot *s = show_address(row);
    const int g = shim_now->lane / 4, t = shim_now->lane % 4;
    for (int i = 0; i < 4; i++) {
        uint16_t lo, hi;
        memcpy(&lo, (const char *)s[8 * i + 2 * t].address + 2 * g, 2);
        memcpy(&hi, (const char *)s[8 * i + 2 * t + 1].address + 2 * g, 2);
        r[i] = lo | (uint32_t)hi << 16;
    }
    shim_meet(SHIM_LOAD_MATRIX);
}

void copy_async(void *shared, const void *global, bool is_there)
{
    if ((uintptr_t)shared % 16 != 0)
        shim_misaligned(shared, 16);
    if ((uintptr_t)global % 16 != 0)
        shim_misaligned(global, 16);
    self()->copies.push_back({shared, is_there ? global : NULL, self()->group});
}

void copy_commit()
{
    self()->group++;
}

void shim_copy_wait(int n)
{
    struct fiber *f = self();
    size_t i = 0;
    for (; i < f->copies.size() && f->copies[i].group < f->group - n; i++)
        if (f->copies[i].global)
            memcpy(f->copies[i].shared, f->copies[i].global, 16);
        else
            memset(f->copies[i].shared, 0, 16);
    f->copies.erase(f->copies.begin(), f->copies.begin() + (long)i);
}

/* ---- the runtime library ------------------------------------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = 1;
    return is_lost() ? (cudaError_t)cudaErrorLaunchFailure : fails("count");
}

cudaError_t cudaSetDevice(int index)
{
    return is_lost() ? cudaErrorLaunchFailure : index == 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaInitDevice(int index, unsigned device_flags, unsigned flags)
{
    return cudaSetDevice(index);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel)
{
    return fails("code") ? cudaErrorNoKernelImageForDevice : cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int index)
{
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 4; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 12; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 1; break;
    case cudaDevAttrIntegrated: *value = !getenv("HERON_SHIM_MEMORY"); break; /* the host's memory, or one of its own */
    }
    return cudaSuccess;
}

/* Device memory: as much as HERON_SHIM_MEMORY says, in bytes, apart from the host's; without it, the host's. Single allocations are rounded up to PAGE_BYTES when they are large, as a driver does. */
#define PAGE_BYTES ((size_t)2 << 20)

static std::mutex memory_mutex;
static std::unordered_map<void *, size_t> taken;
static size_t taken_bytes;
static std::map<char *, size_t> pinned; /* host memory that copies take as they find it when they are made */

static size_t capacity()
{
    const char *text = getenv("HERON_SHIM_MEMORY");
    return text ? strtoull(text, NULL, 10) : (size_t)sysconf(_SC_PAGESIZE) * (size_t)sysconf(_SC_PHYS_PAGES);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int index)
{
    snprintf(prop->name, sizeof prop->name, "host shim");
    prop->totalGlobalMem = capacity();
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    std::lock_guard<std::mutex> lock(memory_mutex);
    *total_bytes = capacity();
    *free_bytes = *total_bytes > taken_bytes ? *total_bytes - taken_bytes : 0;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    const size_t room =
        bytes >= PAGE_BYTES / 2 ? (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES : (bytes + 511) / 512 * 512;
    std::lock_guard<std::mutex> lock(memory_mutex);
    if (taken_bytes + room > capacity() || posix_memalign(p, 256, bytes ? bytes : 1))
        return cudaErrorMemoryAllocation;
    taken[*p] = room;
    taken_bytes += room;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    run_all(); /* it waits for the device */
    std::lock_guard<std::mutex> lock(memory_mutex);
    const auto it = taken.find(p);
    if (p && it == taken.end())
        abort(); /* twice, or never given out */
    if (p) {
        taken_bytes -= it->second;
        taken.erase(it);
    }
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    if (posix_memalign(p, 256, bytes ? bytes : 1))
        return cudaErrorMemoryAllocation;
    std::lock_guard<std::mutex> lock(memory_mutex);
    pinned[(char *)*p] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p)
{
    run_all();
    std::lock_guard<std::mutex> lock(memory_mutex);
    pinned.erase((char *)p);
    free(p);
    return cudaSuccess;
}

static bool is_pinned(const void *p)
{
    std::lock_guard<std::mutex> lock(memory_mutex);
    auto it = pinned.upper_bound((char *)p);
    return it != pinned.begin() && (const char *)p < (--it)->first + it->second;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    const void *host = kind == cudaMemcpyHostToDevice ? src : kind == cudaMemcpyDeviceToHost ? dst : NULL;
    run_or_note(stream, [=] { memcpy(dst, src, bytes); });
    if (host && !is_pinned(host) && !stream->capture) /* a driver copies it itself, before it returns */
        run_until(stream, UINT64_MAX);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    run_or_note(stream, [=] { memset(p, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    *stream = new struct shim_stream();
    std::lock_guard<std::mutex> lock(streams_mutex);
    streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (stream->capture) /* as CUDA has it: a capture does not wait */
        return cudaErrorInvalidValue;
    run_until(stream, UINT64_MAX);
    return is_lost() ? cudaErrorLaunchFailure : cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    run_until(stream, UINT64_MAX);
    std::lock_guard<std::mutex> lock(streams_mutex);
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    *event = new struct shim_event();
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> lock(stream->mutex);
    event->stream = stream;
    event->n = stream->n_done + stream->queue.size();
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (event->stream)
        run_until(event->stream, event->n);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaGetLastError()
{
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t e)
{
    return e == cudaErrorMemoryAllocation ? "out of memory"
           : e == cudaErrorNoDevice       ? "no device"
           : e == cudaErrorLaunchFailure  ? "unspecified launch failure"
                                          : "no error";
}
