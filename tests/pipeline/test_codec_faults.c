/*
 * A codec that fails: it says why, leaves the picture alone, and the next picture that comes out is the one that went in, never one from before.
 *
 * This program has functions of libavcodec's names before the library's own: they pass every call on, but for the one that shall fail.
 */
#include "tests/support/test.h"

#include <dlfcn.h>
#include <libavcodec/avcodec.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/codec.h"
#include "pipeline/pipeline.h"

/* The call that fails next: its name, how many more pass before it, what it answers. */
static struct {
    const char *name;
    int n_pass;
    int answer; /* 0: it works, and what it gives carries another picture's time */
    int n_failed;
} fault;

static void fail_in(const char *name, int n_pass, int answer)
{
    fault.name = name;
    fault.n_pass = n_pass;
    fault.answer = answer;
    fault.n_failed = 0;
}

static bool fails_now(const char *name)
{
    if (!fault.name || strcmp(fault.name, name) != 0 || fault.n_pass-- > 0)
        return false;
    fault.name = NULL;
    fault.n_failed++;
    return true;
}

/* The library's own. ISO C has no cast from an object to a function. */
#define REAL(name, ...)                                                                                                        \
    static int (*real)(__VA_ARGS__);                                                                                           \
    if (!real)                                                                                                                 \
        *(void **)&real = dlsym(RTLD_NEXT, name);                                                                              \
    if (!real)                                                                                                                 \
    abort()

int avcodec_open2(AVCodecContext *context, const AVCodec *codec, AVDictionary **options)
{
    REAL("avcodec_open2", AVCodecContext *, const AVCodec *, AVDictionary **);
    return fails_now("avcodec_open2") ? fault.answer : real(context, codec, options);
}

int avcodec_send_frame(AVCodecContext *context, const AVFrame *frame)
{
    REAL("avcodec_send_frame", AVCodecContext *, const AVFrame *);
    return fails_now("avcodec_send_frame") ? fault.answer : real(context, frame);
}

/* The packet stays in the encoder. */
int avcodec_receive_packet(AVCodecContext *context, AVPacket *packet)
{
    REAL("avcodec_receive_packet", AVCodecContext *, AVPacket *);
    return fails_now("avcodec_receive_packet") ? fault.answer : real(context, packet);
}

int avcodec_send_packet(AVCodecContext *context, const AVPacket *packet)
{
    REAL("avcodec_send_packet", AVCodecContext *, const AVPacket *);
    return fails_now("avcodec_send_packet") ? fault.answer : real(context, packet);
}

/* The picture stays in the decoder; or comes out as an older one. */
int avcodec_receive_frame(AVCodecContext *context, AVFrame *frame)
{
    REAL("avcodec_receive_frame", AVCodecContext *, AVFrame *);
    if (!fails_now("avcodec_receive_frame"))
        return real(context, frame);
    if (fault.answer != 0)
        return fault.answer;
    const int rc = real(context, frame);
    frame->pts -= 1;
    return rc;
}

#define SCENE "synth:yard?seed=7&size=160x90&fps=5"

enum { W = 160, H = 90, N_BYTES = W * H * 3 };

static void need_h264(void)
{
    struct err err = {0};
    if (codec_loop_check(&err) != 0)
        skip_because("%s", err.text);
}

static int no_fault(void **state)
{
    (void)state;
    fault.name = NULL;
    codec_set_encoders(NULL);
    return 0;
}

/* A picture that is unlike those of other numbers: grey with a bright bar that moves by its own width. */
static void paint(uint8_t rgb[N_BYTES], int number)
{
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++)
            memset(rgb + (y * W + x) * 3, x / 16 == number % 10 ? 235 : 60 + y, 3);
}

/* Which of paint's pictures this is. */
static int number_of(const uint8_t rgb[N_BYTES])
{
    int found = -1;
    for (int k = 0; k < 10; k++)
        if (rgb[(H / 2 * W + k * 16 + 8) * 3] > 180) {
            assert_int_equal(found, -1);
            found = k;
        }
    return found;
}

/* What went wrong with picture 3 is told, and pictures 4 to 9 are their own, as those of a loop that begins with them. */
static void goes_on_behind(const char *name, int answer, int code, const char *words)
{
    struct codec_loop *loop = NULL, *fresh = NULL;
    struct err err = {0};
    static uint8_t rgb[N_BYTES], drawn[N_BYTES], want[N_BYTES];
    assert_ok(codec_loop_open(W, H, 5, 28, &loop, &err), &err);
    assert_ok(codec_loop_open(W, H, 5, 28, &fresh, &err), &err);
    for (int i = 0; i < 10; i++) {
        paint(drawn, i);
        memcpy(rgb, drawn, N_BYTES);
        if (i == 3) {
            fail_in(name, 0, answer);
            assert_err(codec_loop_run(loop, false, rgb, W * 3, &err), code, &err, words);
            assert_int_equal(fault.n_failed, 1);
            assert_memory_equal(rgb, drawn, N_BYTES);
            continue;
        }
        assert_ok(codec_loop_run(loop, i == 0, rgb, W * 3, &err), &err);
        if (number_of(rgb) != i)
            fail_msg("%s: picture %d came out as %d", name, i, number_of(rgb));
        if (i < 4)
            continue;
        memcpy(want, drawn, N_BYTES);
        assert_ok(codec_loop_run(fresh, false, want, W * 3, &err), &err);
        assert_memory_equal(rgb, want, N_BYTES);
    }
    codec_loop_close(loop);
    codec_loop_close(fresh);
}

static void each_step_may_fail(void **state)
{
    need_h264();
    goes_on_behind("avcodec_receive_packet", AVERROR(EAGAIN), ERR_IO, "the encoder gave nothing for a picture");
    goes_on_behind("avcodec_receive_frame", AVERROR(EAGAIN), ERR_IO, "the decoder gave nothing for a picture");
    goes_on_behind("avcodec_receive_frame", AVERROR_INVALIDDATA, ERR_IO, "Invalid data");
    goes_on_behind("avcodec_receive_frame", 0, ERR_IO, "another picture came back");
    goes_on_behind("avcodec_send_frame", AVERROR(ENOMEM), ERR_NOMEM, "Cannot allocate memory");
    goes_on_behind("avcodec_send_packet", AVERROR_INVALIDDATA, ERR_IO, "Invalid data");
}

/* Starting anew may fail as well, as often as it likes. */
static void cannot_start_anew(void **state)
{
    need_h264();
    static const char *const none[] = {"no-such-encoder", NULL};
    struct codec_loop *loop = NULL;
    struct err err = {0};
    static uint8_t rgb[N_BYTES], drawn[N_BYTES];
    assert_ok(codec_loop_open(W, H, 5, 28, &loop, &err), &err);
    for (int i = 0; i < 6; i++) {
        err_clear(&err);
        paint(drawn, i);
        memcpy(rgb, drawn, N_BYTES);
        codec_set_encoders(i == 2 ? none : NULL);
        if (i == 1)
            fail_in("avcodec_send_frame", 0, AVERROR_EXTERNAL);
        if (i == 3 || i == 4)
            fail_in("avcodec_open2", i - 3, AVERROR_EXTERNAL); /* the encoder's, then the decoder's */
        const int rc = codec_loop_run(loop, false, rgb, W * 3, &err);
        switch (i) {
        case 1: assert_err(rc, ERR_IO, &err, "external library"); break;
        case 2: assert_err(rc, ERR_UNSUPPORTED, &err, "no-such-encoder"); break;
        case 3: assert_err(rc, ERR_IO, &err, "the encoder does not start"); break;
        case 4: assert_err(rc, ERR_IO, &err, "the decoder does not start"); break;
        default: assert_ok(rc, &err); assert_int_equal(number_of(rgb), i);
        }
        if (rc != 0)
            assert_memory_equal(rgb, drawn, N_BYTES);
    }
    codec_loop_close(loop);
}

/* By hand: the number and the cause are told, no truth is handed out, the picture is the one without marks, and the next stands alone. */
static void a_frame_by_hand(void **state)
{
    need_h264();
    struct pl_synth *plain = NULL, *coded = NULL, *fresh = NULL;
    struct err err = {0};
    static uint8_t a[N_BYTES], b[N_BYTES];
    const char *truth = NULL, *want = NULL, *untouched = "untouched";
    assert_ok(pl_synth_open(SCENE, &plain, &err), &err);
    assert_ok(pl_synth_open(SCENE "&codec=h264", &coded, &err), &err);
    assert_ok(pl_synth_open(SCENE "&codec=h264", &fresh, &err), &err);
    for (uint64_t i = 0; i < 3; i++)
        assert_ok(pl_synth_draw(coded, i, a, W * 3, &truth, &err), &err);
    truth = untouched;
    fail_in("avcodec_receive_packet", 0, AVERROR(EAGAIN));
    assert_err(pl_synth_draw(coded, 3, a, W * 3, &truth, &err), ERR_IO, &err, "frame 3: codec=h264: the encoder gave nothing");
    assert_ptr_equal(truth, untouched);
    assert_ok(pl_synth_draw(plain, 3, b, W * 3, NULL, &err), &err);
    assert_memory_equal(a, b, N_BYTES);
    for (uint64_t i = 4; i < 7; i++) {
        assert_ok(pl_synth_draw(coded, i, a, W * 3, &truth, &err), &err);
        assert_ok(pl_synth_draw(fresh, i, b, W * 3, &want, &err), &err);
        assert_memory_equal(a, b, N_BYTES);
        assert_string_equal(truth, want);
    }
    fail_in("avcodec_send_packet", 0, AVERROR_INVALIDDATA); /* who wants no text gets none */
    assert_int_equal(pl_synth_draw(coded, 7, a, W * 3, NULL, NULL), ERR_IO);
    pl_synth_close(plain);
    pl_synth_close(coded);
    pl_synth_close(fresh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_step_may_fail, no_fault, no_fault),
        cmocka_unit_test_setup_teardown(cannot_start_anew, no_fault, no_fault),
        cmocka_unit_test_setup_teardown(a_frame_by_hand, no_fault, no_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
