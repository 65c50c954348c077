/*
 * Threads that do not come back: the engine's is frozen by ptrace, which is as good as a driver that hangs or a disk that never delivers the model; and the governor's.
 */
#include "tests/support/test.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/support/box.h"
#include "tests/support/schema_judge.h"

#define CAMERA(id, seed)                                                                                                       \
    "  " id ": { source: 'synth:yard?seed=" seed                                                                               \
    "&size=320x180&fps=5', watch: { every: 500ms, max_pixels: 65536, max_tokens: 96 } }\n"

/* The thread of that name; 0: none. */
static pid_t thread_of(pid_t pid, const char *name)
{
    char path[400], comm[32];
    pid_t found = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; !found && (e = readdir(dir));) {
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/comm", (int)pid, e->d_name);
        FILE *f = fopen(path, "re");
        if (f && fgets(comm, sizeof comm, f) && strncmp(comm, name, strlen(name)) == 0)
            found = (pid_t)atoi(e->d_name);
        if (f)
            fclose(f);
    }
    closedir(dir);
    return found;
}

static pid_t freeze(const struct box *box, const char *thread)
{
    const pid_t tid = thread_of(box->daemon.pid, thread);
    int status;
    assert_true(tid > 0);
    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0) {
        if (errno == EPERM || errno == ENOSYS)
            skip_because("threads cannot be traced here");
        fail_msg("PTRACE_SEIZE: %s", strerror(errno));
    }
    assert_int_equal(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL), 0);
    assert_int_equal(waitpid(tid, &status, __WALL), tid);
    return tid;
}

static void thaw(pid_t tid)
{
    assert_int_equal(ptrace(PTRACE_DETACH, tid, NULL, NULL), 0);
}

static void nap_ms(int ms);

/* A traced thread that ended holds its process until the tracer has taken note. False: it has not ended in time. */
static bool reap(pid_t tid)
{
    int status;
    for (int waited_ms = 0; waited_ms < BOX_PATIENCE_MS; waited_ms += 20) {
        if (waitpid(tid, &status, __WALL | WNOHANG) != 0)
            return true;
        nap_ms(20);
    }
    return false;
}

static void nap_ms(int ms)
{
    clock_sleep_until_ns(clock_now_ns() + ms * CLOCK_MS);
}

/* Told to stop it ends all the same, with its last words; and nothing that is asked of it meanwhile takes them back. */
static void test_stop_with_a_hanging_engine(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, "cameras:\n" CAMERA("yard", "1"), NULL);
    subscriber_await(s, 0, "heron/yard/status/analysis", "online");
    subscriber_await(s, 0, "heron/yard/status/capture", "online");
    const pid_t tid = freeze(&r->box, "heron-engine");
    const size_t mark = subscriber_mark(s);
    program_signal(&r->box.daemon, SIGTERM);
    subscriber_await(s, mark, "heron/yard/status/capture", "offline");
    subscriber_await(s, mark, "heron/yard/status/analysis", "offline");
    char *overview = box_status(&r->box);
    assert_non_null(overview);
    assert_true(test_contains(overview, "stopping"));
    assert_false(test_contains(overview, "no picture"));
    free(overview);
    box_configure(&r->box, &r->broker, NULL, "cameras:\n" CAMERA("yard", "1") CAMERA("gate", "2"));
    program_signal(&r->box.daemon, SIGHUP);
    nap_ms(500);
    program_signal(&r->box.daemon, SIGTERM); /* again: the drain is not waited for */
    if (!reap(tid)) {
        thaw(tid);
        fail_msg("the daemon waits for an engine that hangs");
    }
    assert_int_equal(program_await(&r->box.daemon, BOX_PATIENCE_MS), 0);
    subscriber_await(s, mark, "heron/available", "offline");
    assert_string_equal(subscriber_last(s, "heron/yard/status/capture")->payload, "offline");
    assert_string_equal(subscriber_last(s, "heron/yard/status/analysis")->payload, "offline");
    assert_string_equal(box_value(s, "heron/status", "/state"), "\"stopping\"");
    assert_int_equal(subscriber_count(s, mark, "heron/config/state"), 0);
    assert_null(subscriber_last(s, "heron/gate/status/capture"));
}

/* A camera that left is forgotten when the engine has let go of it, not before: its last observation would stay at the broker. */
static void test_remove_a_camera_in_the_middle_of_a_look(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, "cameras:\n" CAMERA("yard", "1") CAMERA("gate", "2"), NULL);
    subscriber_await(s, 0, "heron/gate/scene", NULL);
    const pid_t tid = freeze(&r->box, "heron-engine");
    const size_t mark = subscriber_mark(s);
    box_configure(&r->box, &r->broker, NULL, "cameras:\n" CAMERA("yard", "1"));
    program_signal(&r->box.daemon, SIGHUP);
    subscriber_await(s, mark, "heron/config/state", NULL);
    nap_ms(1000); /* some ticks */
    subscriber_mark(s);
    assert_string_not_equal(subscriber_last(s, "heron/gate/scene")->payload, "");
    thaw(tid);
    subscriber_await(s, mark, "heron/gate/scene", "");
    subscriber_await(s, subscriber_mark(s), "heron/yard/scene", NULL);
    assert_string_equal(subscriber_last(s, "heron/gate/scene")->payload, "");
    assert_int_equal(box_stop(&r->box), 0);
}

/* Nobody renews the permit: the engine stops by itself, within seconds; and goes on when somebody does. */
static void test_nothing_runs_without_a_governor(void **state)
{
    struct box_rig *r = *state;
    struct subscriber *s = &r->subscriber;
    box_rig_start(r, "thermal: { sensors: 'simulated:spark' }\ncameras:\n" CAMERA("yard", "1"), NULL);
    subscriber_await(s, 0, "heron/yard/scene", NULL);
    const pid_t tid = freeze(&r->box, "heron-thermal");
    const int64_t until_ns = clock_now_ns() + BOX_PATIENCE_MS * CLOCK_MS;
    for (bool is_still = false; !is_still && clock_now_ns() < until_ns;) {
        const size_t mark = subscriber_mark(s);
        nap_ms(5000); /* ten looks' time, and more than a permit lasts */
        subscriber_mark(s);
        is_still = subscriber_count(s, mark, "heron/yard/scene") == 0;
        if (!is_still && clock_now_ns() > until_ns - 20 * CLOCK_S) {
            thaw(tid);
            fail_msg("it goes on without a governor");
        }
    }
    thaw(tid);
    subscriber_await(s, subscriber_mark(s), "heron/yard/scene", NULL);
    assert_int_equal(box_stop(&r->box), 0);
}

/* What systemd is told from now on, until it holds `words`; false: the time is over, or `other` came first. */
static bool await_word(int fd, const char *words, const char *other, int time_limit_ms)
{
    char text[4096];
    for (const int64_t until_ns = clock_now_ns() + time_limit_ms * CLOCK_MS; clock_now_ns() < until_ns;) {
        const ssize_t n = recv(fd, text, sizeof text - 1, 0); /* waits 100 ms */
        text[n > 0 ? n : 0] = 0;
        if (strstr(text, words))
            return true;
        if (other && strstr(text, other))
            return false;
    }
    return false;
}

/* A disk that is slow to give the model: the start may take longer, again and again, and says what it waits for. */
static void test_a_slow_disk(void **state)
{
    struct box_rig *r = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char env[200];
    pid_t tid = 0;
    if (!schema_judge_is_there())
        skip_because("python3-jsonschema is not installed");
    box_rig_open(r);
    box_configure(&r->box, &r->broker, NULL, "cameras:\n" CAMERA("yard", "1"));
    snprintf(address.sun_path, sizeof address.sun_path, "%.80s/notify", test_temp_dir());
    snprintf(env, sizeof env, "NOTIFY_SOCKET=%s", address.sun_path);
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_usec = 100000}, sizeof(struct timeval));
    for (int i = 0; !tid && i < 50; i++) { /* the tiny model is loaded in no time: until it was caught in the middle of that */
        box_start(&r->box, (const char *const[]){env, NULL});
        for (const int64_t until_ns = clock_now_ns() + 5 * CLOCK_S; !thread_of(r->box.daemon.pid, "heron-engine");)
            assert_true(clock_now_ns() < until_ns);
        tid = freeze(&r->box, "heron-engine");
        if (await_word(fd, "EXTEND_TIMEOUT_USEC=60000000", "READY=1", BOX_PATIENCE_MS) &&
            !await_word(fd, "READY=1", NULL, 1000)) /* it was about to say so */
            break;
        thaw(tid);
        tid = 0;
        assert_int_equal(box_stop(&r->box), 0);
        await_word(fd, "nothing", NULL, 200);
    }
    assert_true(tid);
    assert_true(await_word(fd, "STATUS=starting: 1 cameras", "READY=1", BOX_PATIENCE_MS));
    assert_true(await_word(fd, "EXTEND_TIMEOUT_USEC=60000000", "READY=1", BOX_PATIENCE_MS));
    thaw(tid);
    assert_true(await_word(fd, "READY=1", "EXTEND_TIMEOUT_USEC", BOX_PATIENCE_MS));
    assert_true(await_word(fd, "STATUS=running: 1 cameras", "EXTEND_TIMEOUT_USEC", BOX_PATIENCE_MS));
    assert_int_equal(box_stop(&r->box), 0);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_stop_with_a_hanging_engine, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_remove_a_camera_in_the_middle_of_a_look, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_runs_without_a_governor, box_set_up, box_tear_down),
        cmocka_unit_test_setup_teardown(test_a_slow_disk, box_set_up, box_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
