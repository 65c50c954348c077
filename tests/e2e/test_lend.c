/*
 * One model on two machines: `heron lend` here stands for the other one. What two compute does not depend on where the second is; and a daemon whose second machine comes late or goes away
 * says so, and works again when it is back.
 */
#include "tests/support/test.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "tests/support/box.h"

#define YARD                                                                                                                   \
    "cameras:\n  yard: { source: 'synth:yard?seed=1&size=320x180&fps=5', watch: { every: 500ms, max_pixels: 65536, "           \
    "max_tokens: 64 } }\n"

struct lender {
    struct program program;
    char address[40];
};

static void lender_start(struct lender *l)
{
    if (!l->address[0])
        snprintf(l->address, sizeof l->address, "127.0.0.1:%d", broker_free_port());
    program_start(&l->program, program_heron(), PROGRAM_ARGS("lend", "--listen", l->address, "--device", "cpu", "-t", "1"),
                  NULL, NULL);
    if (!program_await_text(&l->program, false, "lending cpu", BOX_PATIENCE_MS))
        fail_msg("heron lend says: %s%s", program_text(&l->program, false), program_text(&l->program, true));
}

/* The logits of a few tokens by `heron eval`; malloc'ed. */
static unsigned char *logits_on(const char *device, size_t *ret_n)
{
    static int n_files;
    char path[400];
    struct program_result r;
    snprintf(path, sizeof path, "%s/logits%d", test_temp_dir(), n_files++);
    program_run(PROGRAM_ARGS("eval", "-m", box_model(), "-t", "1", "--device", device, "--tokens", "5,6,7,300,301,9,11",
                             "--logits", path),
                NULL, BOX_PATIENCE_MS, &r);
    if (r.status != 0)
        fail_msg("heron eval --device %s: %s", device, r.err);
    program_result_free(&r);
    FILE *f = fopen(path, "rbe");
    assert_non_null(f);
    unsigned char *bytes = test_malloc(1 << 20);
    *ret_n = fread(bytes, 1, 1 << 20, f);
    fclose(f);
    return bytes;
}

static void expect_error(const char *device, int status, const char *words)
{
    struct program_result r;
    program_run(PROGRAM_ARGS("eval", "-m", box_model(), "--device", device, "--tokens", "1", "--logits", "/dev/null"), NULL,
                BOX_PATIENCE_MS, &r);
    if (r.status != status || !test_contains(r.err, words))
        fail_msg("heron eval --device %s: %d, %s; expected %d and \"%s\"", device, r.status, r.err, status, words);
    program_result_free(&r);
}

static void test_another_machine_computes_the_same(void **state)
{
    struct lender l = {0};
    char device[64];
    size_t n_here, n_there;
    lender_start(&l);
    snprintf(device, sizeof device, "cpu+%s", l.address);
    unsigned char *here = logits_on("cpu+cpu", &n_here);
    for (int i = 0; i < 2; i++) { /* it is lent again */
        unsigned char *there = logits_on(device, &n_there);
        assert_true(n_here > 7 * sizeof(float) && n_there == n_here);
        assert_memory_equal(there, here, n_here);
        test_free(there);
    }
    test_free(here);
    char *said = program_text(&l.program, false);
    assert_true(test_contains(said, "has the device") && test_contains(said, "gave it back"));
    free(said);

    char wrong[64];
    snprintf(wrong, sizeof wrong, "ref+%s", l.address);
    expect_error(wrong, EX_DATAERR, "two devices that compute alike are needed: ref is");
    expect_error("cpu+127.0.0.1:1", EX_IOERR, "nobody lends a device at 127.0.0.1:1: Connection refused");
    expect_error("cpu+cup", EX_USAGE, "\"cup\" is no address: expected HOST:PORT");
    program_release(&l.program);
    expect_error(device, EX_IOERR, "nobody lends a device at");
}

/* Somebody else on that port, and nobody's business on the lender's. */
static void test_strangers(void **state)
{
    static const char junk[] = "GET / HTTP/1.1\r\nHost: heron\r\n\r\n";
    struct lender l = {0};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char device[64], c;
    size_t n;
    lender_start(&l);
    at.sin_port = htons((uint16_t)atoi(strrchr(l.address, ':') + 1));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(send(fd, junk, sizeof junk - 1, MSG_NOSIGNAL), sizeof junk - 1);
    assert_true(recv(fd, &c, 1, 0) <= 0); /* shown the door */
    close(fd);
    assert_true(program_await_text(&l.program, false, "does not speak as Heron does", BOX_PATIENCE_MS));
    snprintf(device, sizeof device, "cpu+%s", l.address);
    test_free(logits_on(device, &n));
    program_release(&l.program);

    /* the other way round: a server that answers with something else */
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof at;
    at.sin_port = 0;
    assert_int_equal(bind(server, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(server, 1), 0);
    assert_int_equal(getsockname(server, (struct sockaddr *)&at, &size), 0);
    snprintf(device, sizeof device, "cpu+127.0.0.1:%d", ntohs(at.sin_port));
    struct program p = {0};
    program_start(&p, program_heron(),
                  PROGRAM_ARGS("eval", "-m", box_model(), "--device", device, "--tokens", "1", "--logits", "/dev/null"), NULL,
                  NULL);
    const int guest = accept(server, NULL, NULL);
    assert_int_equal(send(guest, junk, sizeof junk - 1, MSG_NOSIGNAL), sizeof junk - 1);
    assert_int_equal(program_await(&p, BOX_PATIENCE_MS), EX_DATAERR);
    char *err = program_text(&p, true);
    assert_true(test_contains(err, "does not speak as Heron does"));
    free(err);
    program_release(&p);
    close(guest);
    close(server);
}

static void expect_lend_error(const char *const *args, int status, const char *words)
{
    struct program_result r;
    program_run(args, NULL, BOX_PATIENCE_MS, &r);
    if (r.status != status || !test_contains(r.err, words))
        fail_msg("heron lend: %d, %s; expected %d and \"%s\"", r.status, r.err, status, words);
    program_result_free(&r);
}

static void test_what_cannot_be_lent(void **state)
{
    struct lender l = {0};
    lender_start(&l);
    expect_lend_error(PROGRAM_ARGS("lend"), EX_USAGE, "on which address? --listen HOST:PORT");
    expect_lend_error(PROGRAM_ARGS("lend", "--device", "cpu", "--listen", "7421"), EX_USAGE, "\"7421\" is no address");
    expect_lend_error(PROGRAM_ARGS("lend", "--device", "cpu", "--listen", l.address), EX_IOERR, "Address already in use");
    expect_lend_error(PROGRAM_ARGS("lend", "--device", "cpu+cpu", "--listen", "127.0.0.1:1"), EX_USAGE,
                      "cannot be lent: it is two devices already");
    expect_lend_error(PROGRAM_ARGS("lend", "--device", "cuda:63", "--listen", "127.0.0.1:1"), EX_NOINPUT, "no CUDA device 63");
    expect_lend_error(PROGRAM_ARGS("lend", "--listen", "127.0.0.1:1", "model.gguf"), EX_USAGE, "takes no files");
    program_release(&l.program);
}

/* Thirty looks a minute are worth nothing if a cable that is pulled ends them for good. */
static void test_the_other_machine_comes_late_and_goes(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    struct lender l = {0};
    char engine[1500];
    box_rig_open(r);
    snprintf(l.address, sizeof l.address, "127.0.0.1:%d", broker_free_port());
    snprintf(engine, sizeof engine, "engine: { model: '%s', vision: '%s', device: 'cpu+%s', threads: 1 }\n", box_model(),
             box_vision(), l.address);
    box_configure(&r->box, &r->broker, engine, YARD);
    box_start(&r->box, NULL);
    box_await_words(s, "heron/status", "nobody lends a device at 127.0.0.1");
    assert_string_equal(box_value(s, "heron/status", "/state"), "\"degraded\"");
    lender_start(&l);
    subscriber_await(s, 0, "heron/yard/scene", NULL);
    box_await_words(s, "heron/status", "\"state\":\"running\"");
    assert_non_null(strstr(box_value(s, "heron/status", "/engine/device"), l.address));

    program_release(&l.program); /* SIGKILL */
    box_await_words(s, "heron/status", "the connection to 127.0.0.1");
    size_t from = subscriber_mark(s);
    subscriber_await(s, from, "heron/status", NULL);
    assert_string_equal(box_value(s, "heron/status", "/engine/ready"), "false");
    lender_start(&l);
    from = subscriber_mark(s);
    subscriber_await(s, from, "heron/yard/scene", NULL);
    assert_int_equal(box_stop(&r->box), 0);
    assert_true(program_await_text(&l.program, false, "gave it back", BOX_PATIENCE_MS));
    box_judge(s, (const char *const[]){"status", "yard/scene", NULL});
    program_release(&l.program);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_another_machine_computes_the_same),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_what_cannot_be_lent),
        cmocka_unit_test_setup_teardown(test_the_other_machine_comes_late_and_goes, box_set_up, box_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
