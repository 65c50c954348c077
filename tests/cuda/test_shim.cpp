/*
 * The shim itself: does it find what it is there to find, and are its tensor cores laid out as the PTX ISA says? A shim that lets everything pass would prove nothing of the kernels.
 *
 * What ends the program is tried in a process of its own, whose last words are read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}

/* Run a kernel of one block on a stream of its own. */
static void run(unsigned threads, size_t shared_bytes, const std::function<void()> &kernel)
{
    cudaStream_t stream;
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    shim_launch(stream, dim3(1), threads, shared_bytes, kernel);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    cudaStreamDestroy(stream);
}

/* What a program says that ends in this kernel; "" when it ends well. */
static std::string last_words(unsigned threads, size_t shared_bytes, const std::function<void()> &kernel)
{
    int pipe_fd[2];
    assert_int_equal(pipe(pipe_fd), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(pipe_fd[1], 2);
        close(pipe_fd[0]);
        for (int sig : {SIGABRT, SIGSEGV})
            signal(sig, SIG_DFL); /* cmocka's own handlers would go on */
        cudaStream_t stream;
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        shim_launch(stream, dim3(1), threads, shared_bytes, kernel);
        cudaStreamSynchronize(stream);
        _exit(0);
    }
    close(pipe_fd[1]);
    std::string said;
    char part[512];
    for (ssize_t n; (n = read(pipe_fd[0], part, sizeof part)) > 0;)
        said.append(part, (size_t)n);
    close(pipe_fd[0]);
    int status;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return "";
    return said.empty() ? "nothing" : said;
}

static void assert_says(const std::string &said, const char *words)
{
    if (said.find(words) == std::string::npos)
        fail_msg("it says \"%s\", expected \"%s\"", said.c_str(), words);
}

/* ---- order ----------------------------------------------------------------------------------------------------------------- */

/* Every thread puts a value down and takes its neighbour's; without the barrier some get junk. Returns how many. */
static int wrong_neighbours(bool has_barrier)
{
    int wrong = 0;
    run(64, 64 * sizeof(int), [&] {
        int *room = shared_memory<int>();
        room[threadIdx.x] = (int)threadIdx.x;
        if (has_barrier)
            __syncthreads();
        const int next = (int)(threadIdx.x + 1) % 64;
        wrong += room[next] != next;
    });
    return wrong;
}

static void a_missing_barrier_shows(void **)
{
    for (int i = 0; i < 20; i++) {
        assert_int_equal(wrong_neighbours(true), 0);
        assert_true(wrong_neighbours(false) > 0);
    }
}

static void a_barrier_that_not_all_reach_ends_the_program(void **)
{
    assert_says(last_words(64, 0,
                           [] {
                               if (threadIdx.x < 7)
                                   __syncwarp();
                           }),
                "warp");
    assert_says(last_words(64, 0,
                           [] {
                               if (threadIdx.x == 3)
                                   return;
                               __syncthreads();
                               shuffle(1.0f, 0);
                           }),
                "after 1 lanes have left");
    assert_says(last_words(64, 0,
                           [] {
                               if (threadIdx.x < 32)
                                   __syncthreads();
                               else if (threadIdx.x < 40)
                                   shuffle(1.0f, 0);
                               else
                                   __syncthreads();
                           }),
                "waits for its warp");
}

static void lanes_in_different_operations_end_the_program(void **)
{
    assert_says(last_words(32, 0, [] { threadIdx.x % 2 ? (void)votes(true) : (void)shuffle(1.0f, 0); }),
                "where others wait in");
    assert_string_equal(last_words(32, 0, [] { votes(threadIdx.x > 4); }).c_str(), "");
}

/* ---- memory ---------------------------------------------------------------------------------------------------------------- */

static void shared_memory_has_an_end(void **)
{
    assert_string_equal(last_words(32, 32, [] { shared_memory<uint8_t>()[threadIdx.x] = 1; }).c_str(), "");
    const std::string said = last_words(32, 32, [] { shared_memory<uint8_t>()[threadIdx.x + 8] = 1; });
#if defined(__SANITIZE_ADDRESS__)
    assert_says(said, "AddressSanitizer");
#else
    assert_says(said, "shared memory of 32 bytes is written at byte 32");
#endif
}

static void shared_memory_begins_as_junk(void **)
{
    int zeros = 0;
    run(32, 128, [&] { zeros += shared_memory<uint32_t>()[threadIdx.x] == 0; });
    assert_int_equal(zeros, 0);
}

static void asynchronous_copies_come_late(void **)
{
    alignas(16) static uint32_t from[64];
    for (uint32_t i = 0; i < 64; i++)
        from[i] = i + 1;
    int early = 0, wrong = 0, zeros = 0;
    run(16, sizeof from, [&] {
        uint32_t *to = shared_memory<uint32_t>() + 4 * threadIdx.x;
        copy_async(to, from + 4 * threadIdx.x, threadIdx.x != 5);
        copy_commit();
        early += to[0] == 4 * threadIdx.x + 1;
        copy_wait<1>(); /* one group may be under way: this one */
        early += to[0] == 4 * threadIdx.x + 1;
        copy_wait<0>();
        __syncthreads();
        const uint32_t i = (threadIdx.x + 1) % 16;
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t v = shared_memory<uint32_t>()[4 * i + j];
            zeros += i == 5 && v == 0;
            wrong += i != 5 && v != 4 * i + j + 1;
        }
    });
    assert_int_equal(early, 0);
    assert_int_equal(wrong, 0);
    assert_int_equal(zeros, 4);
    assert_says(last_words(1, 64, [] { copy_async(shared_memory<uint8_t>() + 4, from, true); }), "16");
    assert_says(last_words(1, 0, [] { load_once((const uint8_t *)from + 8); }), "16");
}

/* ---- tensor cores ---------------------------------------------------------------------------------------------------------- */

/* Whole numbers that are exact in either format, and so are sums of 16 products. */
static float whole(int i)
{
    return (float)((i * 37 + 11) % 17 - 8);
}

static void check_mma(bool is_bf16)
{
    float c[16][8] = {};
    run(32, 0, [&] {
        const int lane = (int)threadIdx.x, group = lane >> 2, in_group = lane & 3;
        auto pack = [&](float lo, float hi) { return is_bf16 ? pack_bf16(lo, hi) : pack_f16(lo, hi); };
        uint32_t a[4], b[2];
        float d[4];
        /* PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type": element i of a and b, two in a register */
        for (int r = 0; r < 4; r++) {
            float e[2];
            for (int h = 0; h < 2; h++) {
                const int i = 2 * r + h, row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
                e[h] = whole(100 * row + in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0));
            }
            a[r] = pack(e[0], e[1]);
        }
        for (int r = 0; r < 2; r++) {
            float e[2];
            for (int h = 0; h < 2; h++)
                e[h] = whole(7 * (in_group * 2 + h + 8 * r) + group + 1000);
            b[r] = pack(e[0], e[1]);
        }
        for (int i = 0; i < 4; i++)
            d[i] = whole(i < 2 ? group : group + 8);
        is_bf16 ? mma_bf16(d, a, b) : mma_f16(d, a, b);
        for (int i = 0; i < 4; i++)
            c[i < 2 ? group : group + 8][in_group * 2 + (i & 1)] = d[i];
    });
    for (int row = 0; row < 16; row++)
        for (int col = 0; col < 8; col++) {
            float want = whole(row);
            for (int k = 0; k < 16; k++)
                want += whole(100 * row + k) * whole(7 * k + col + 1000);
            if (c[row][col] != want)
                fail_msg("row %d, column %d: %g instead of %g", row, col, (double)c[row][col], (double)want);
        }
}

static void products_are_laid_out_as_ptx_says(void **)
{
    check_mma(false);
    check_mma(true);
}

/* PTX ISA, ldmatrix: lane 4 r + c / 2 gets row r, columns c and c + 1, of each 8 x 8 matrix; with .trans of the transposed one. */
static void matrices_are_loaded_as_ptx_says(void **)
{
    int wrong = 0;
    run(32, 4 * 64 * sizeof(uint16_t), [&] {
        uint16_t *room = shared_memory<uint16_t>();
        for (int i = (int)threadIdx.x; i < 256; i += 32)
            room[i] = (uint16_t)(i / 64 * 1000 + i / 8 % 8 * 10 + i % 8);
        __syncthreads();
        const int lane = (int)threadIdx.x, r = lane / 4, c = lane % 4 * 2;
        uint32_t plain[4], turned[4];
        load_matrix(plain, room + lane * 8);
        load_matrix_transposed(turned, room + lane * 8);
        for (int m = 0; m < 4; m++) {
            wrong += plain[m] != (uint32_t)((m * 1000 + r * 10 + c) | (m * 1000 + r * 10 + c + 1) << 16);
            wrong += turned[m] != (uint32_t)((m * 1000 + c * 10 + r) | (m * 1000 + (c + 1) * 10 + r) << 16);
        }
    });
    assert_int_equal(wrong, 0);
}

static void halves_are_rounded_once(void **)
{
    int wrong = 0;
    run(1, 0, [&] {
        for (uint32_t h = 0; h < 0x10000; h++) { /* there and back: every number that is one */
            const float v = unpack_f16(h).x;
            wrong += v == v && (pack_f16(v, 0) & 0xffff) != h;
        }
        /* 1 + 2^-11 lies between two halves and goes to the even one; a hair more goes up */
        wrong += pack_f16(1.00048828125f, 0) != 0x3c00;
        wrong += pack_f16(1.0004884f, 0) != 0x3c01;
        wrong += pack_f16(65519.0f, 65520.0f) != (0x7bffu | 0x7c00u << 16); /* the largest, and infinity */
        wrong += pack_f16(0x1p-24f, 0x1p-25f) != 1u;                        /* the smallest, and the tie below it */
    });
    assert_int_equal(wrong, 0);
}

/* ---- graphs ---------------------------------------------------------------------------------------------------------------- */

static void what_is_captured_runs_when_it_is_launched(void **)
{
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    int count = 0, from = 5, to = 0;
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    shim_launch(stream, dim3(3), 2, 0, [&] { count++; });
    assert_int_equal(cudaMemcpyAsync(&to, &from, sizeof to, cudaMemcpyDeviceToDevice, stream), cudaSuccess);
    assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
    assert_int_equal(count, 0);
    assert_int_equal(to, 0);
    assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
    for (int i = 1; i <= 2; i++) {
        from = 5 * i; /* what is there when it runs, not when it was captured */
        assert_int_equal(cudaGraphLaunch(exec, stream), cudaSuccess);
        assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
        assert_int_equal(count, 6 * i);
        assert_int_equal(to, 5 * i);
    }
    cudaGraphExecDestroy(exec);
    cudaStreamDestroy(stream);
}

/* ---- streams --------------------------------------------------------------------------------------------------------------- */

/* Who changes pinned memory before a copy was waited for sends what he wrote last; other memory is read before the call returns. */
static void what_a_stream_is_given_is_done_late(void **)
{
    cudaStream_t stream;
    cudaEvent_t event;
    int *pinned, to = 0, count = 0, plain = 1;
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    assert_int_equal(cudaMallocHost((void **)&pinned, 4 * sizeof *pinned), cudaSuccess);
    pinned[3] = 1;
    assert_int_equal(cudaMemcpyAsync(&to, &pinned[3], sizeof to, cudaMemcpyHostToDevice, stream), cudaSuccess);
    assert_int_equal(cudaEventRecord(event, stream), cudaSuccess);
    shim_launch(stream, dim3(1), 1, 0, [&] { count++; });
    assert_int_equal(to, 0);
    pinned[3] = 2;
    assert_int_equal(cudaEventSynchronize(event), cudaSuccess);
    assert_int_equal(to, 2);
    assert_int_equal(count, 0); /* it comes behind the event */
    assert_int_equal(cudaMemcpyAsync(&to, &plain, sizeof to, cudaMemcpyHostToDevice, stream), cudaSuccess);
    plain = 3;
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    assert_int_equal(to, 1);
    assert_int_equal(count, 1);
    cudaFreeHost(pinned);
    cudaEventDestroy(event);
    cudaStreamDestroy(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_barrier_shows),
        cmocka_unit_test(a_barrier_that_not_all_reach_ends_the_program),
        cmocka_unit_test(lanes_in_different_operations_end_the_program),
        cmocka_unit_test(shared_memory_has_an_end),
        cmocka_unit_test(shared_memory_begins_as_junk),
        cmocka_unit_test(asynchronous_copies_come_late),
        cmocka_unit_test(products_are_laid_out_as_ptx_says),
        cmocka_unit_test(matrices_are_loaded_as_ptx_says),
        cmocka_unit_test(halves_are_rounded_once),
        cmocka_unit_test(what_is_captured_runs_when_it_is_launched),
        cmocka_unit_test(what_a_stream_is_given_is_done_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
