/*
 * Memory of a device that has little of it, as the shim gives it out (HERON_SHIM_MEMORY): what the engine's plan lets through fits, what it refuses it refuses with figures before anything
 * is loaded, and all of it lies in one piece.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "tests/support/test.h"

#define LOADING_BYTES ((int64_t)16 << 20) /* the buffers through which weights come: the device's from the beginning */
#define MIB           ((int64_t)1 << 20)

static int open_with(const char *shape, int64_t bytes, struct err *err)
{
    char text[32];
    struct en_engine *e = NULL;
    snprintf(text, sizeof text, "%lld", (long long)bytes);
    setenv("HERON_SHIM_MEMORY", text, 1);
    const struct en_options o = {
        .synthetic = shape, .device = "cuda:0", .context_tokens = 512, .sessions = 2, .step_rows = 64, .kv = EN_KV_F16};
    *err = (struct err){0};
    const int rc = en_open(&o, &e, err);
    en_close(e);
    unsetenv("HERON_SHIM_MEMORY");
    return rc;
}

static void what_the_plan_lets_through_fits(void **state)
{
    static const char *const shapes[] = {"tiny-dense:q4_k_m", "tiny-moe:q8_0"};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct err err;
        int64_t too_little = LOADING_BYTES + MIB, enough = 1024 * MIB;
        assert_int_not_equal(open_with(shapes[i], too_little, &err), 0);
        assert_ok(open_with(shapes[i], enough, &err), &err);
        while (enough - too_little > MIB) {
            const int64_t bytes = (too_little + enough) / 2;
            if (open_with(shapes[i], bytes, &err) == 0) {
                enough = bytes;
                continue;
            }
            too_little = bytes;
            if (err.code != ERR_NOMEM || !strstr(err.text, "does not fit: it needs") || !strstr(err.text, "and cuda:0 has"))
                fail_msg("%s in %lld bytes: %s", shapes[i], (long long)bytes, err.text);
        }
    }
}

static void a_device_without_room_for_loading_says_so(void **state)
{
    struct err err;
    assert_err(open_with("tiny-dense:q8_0", 4 * MIB, &err), ERR_NOMEM, &err, "buffers for loading");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_plan_lets_through_fits),
        cmocka_unit_test(a_device_without_room_for_loading_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
