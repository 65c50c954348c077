/* heron synth: pictures that hold exactly what the scene draws, their truth beside them, and one clear line where that cannot be. */
#include "tests/support/test.h"

#include <jansson.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "engine/engine.h"
#include "pipeline/pipeline.h"
#include "pipeline/scene_truth.h"
#include "tests/support/program.h"

#define LIMIT_MS 60000

static const char *out_of(const char *const *args)
{
    static char out[2000];
    struct program_result r;
    program_run(args, NULL, LIMIT_MS, &r);
    if (r.status != 0)
        fail_msg("status %d: %s", r.status, r.err);
    assert_string_equal(r.err, "");
    snprintf(out, sizeof out, "%s", r.out);
    program_result_free(&r);
    return out;
}

static void refused(const char *const *args, int status, const char *words)
{
    struct program_result r;
    program_run(args, NULL, LIMIT_MS, &r);
    if (r.status != status || !test_contains(r.err, words))
        fail_msg("status %d, expected %d and \"%s\": %s", r.status, status, words, r.err);
    assert_ptr_equal(strchr(r.err, '\n'), r.err + r.n_err - 1); /* one line */
    assert_string_equal(r.out, "");
    program_result_free(&r);
}

static const char *in(const char *folder, const char *name)
{
    static char path[700];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int n_files(const char *folder)
{
    char command[400];
    int n = -1;
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", folder);
    FILE *f = popen(command, "r");
    assert_true(f && fscanf(f, "%d", &n) == 1);
    pclose(f);
    return n;
}

static struct pl_synth *synth_of(const char *source)
{
    struct pl_synth *s = NULL;
    struct err err = {0};
    assert_ok(pl_synth_open(source, &s, &err), &err);
    return s;
}

/* The files of one frame are what pl_synth_draw says. Returns the truth, to be freed with json_decref. */
static json_t *same_frame(const char *folder, uint64_t i_frame, struct pl_synth *synth)
{
    struct pl_synth_info info;
    struct en_picture picture;
    struct err err = {0};
    const char *truth;
    char name[32];
    size_t n;
    pl_synth_get_info(synth, &info);
    const size_t row = (size_t)info.width_px * 3;
    uint8_t *rgb = malloc(row * (size_t)info.height_px);
    assert_non_null(rgb);
    assert_int_equal(pl_synth_draw(synth, i_frame, rgb, row, &truth, NULL), 0);

    snprintf(name, sizeof name, "%06llu.png", (unsigned long long)i_frame);
    assert_ok(en_picture_read(in(folder, name), &picture, &err), &err);
    assert_true(picture.view.width_px == info.width_px && picture.view.height_px == info.height_px);
    for (int y = 0; y < info.height_px; y++)
        assert_memory_equal(picture.view.plane[0] + (size_t)y * picture.view.stride_bytes[0], rgb + (size_t)y * row, row);
    en_picture_free(&picture);
    free(rgb);

    snprintf(name, sizeof name, "%06llu.json", (unsigned long long)i_frame);
    char *text = test_read_file(in(folder, name), &n);
    assert_true(n > 0 && text[n - 1] == '\n');
    json_t *told = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *want = json_loads(truth, JSON_REJECT_DUPLICATES, NULL);
    if (!told || !want || !json_equal(told, want))
        fail_msg("%s\nis not\n%s", text, truth);
    free(text);
    json_decref(want);
    return told;
}

static void frames_with_their_truth(void **state)
{
    char folder[400];
    snprintf(folder, sizeof folder, "%s/new", test_temp_dir());
    const char *said = out_of(PROGRAM_ARGS("synth", "yard", "--out", folder, "--frames", "3", "--start", "40", "--seed", "7",
                                           "--size", "161x91", "--fps", "2.5"));
    assert_true(test_contains(said, folder) && test_contains(said, "3 frames of yard, 000040.png to 000042.png"));
    assert_true(test_contains(said, "seed 7, 161 x 91, 2.5 a second\n"));
    assert_int_equal(n_files(folder), 6);
    struct pl_synth *synth = synth_of("synth:yard?seed=7&size=161x91&fps=2.5");
    for (uint64_t i = 40; i < 43; i++) {
        json_t *truth = same_frame(folder, i, synth);
        assert_int_equal(json_integer_value(json_object_get(truth, "frame")), i);
        const char *summary = json_string_value(json_object_get(truth, "summary"));
        assert_true(summary && *summary && strlen(summary) <= 160);
        json_decref(truth);
    }
    pl_synth_close(synth);

    /* over the same folder: ours are replaced, the rest stays */
    test_write_text(in(folder, "notes.txt"), "mine");
    out_of(PROGRAM_ARGS("synth", "synth:yard?seed=8&size=64x48", "--out", folder, "--frames", "1", "--start", "41"));
    assert_int_equal(n_files(folder), 7);
    synth = synth_of("synth:yard?seed=8&size=64x48");
    json_decref(same_frame(folder, 41, synth));
    pl_synth_close(synth);
}

/* Questions stand behind the truth, which stays as it is; each topic once, and the same at every run. */
static void questions(void **state)
{
    const char *folder = test_temp_dir();
    size_t n, i, n_yes = 0, n_no = 0, n_asked = 0;
    struct pl_synth *synth = synth_of("synth:yard?seed=7&size=64x48&fps=0.1");
    static uint8_t rgb[64 * 48 * 3];
    assert_null(pl_synth_describe(synth));
    out_of(PROGRAM_ARGS("synth", "yard?seed=7&size=64x48&fps=0.1", "-o", folder, "-n", "12", "--questions"));
    for (uint64_t i_frame = 0; i_frame < 12; i_frame++) {
        const char *truth;
        char name[32];
        snprintf(name, sizeof name, "%06llu.json", (unsigned long long)i_frame);
        char *text = test_read_file(in(folder, name), &n);
        json_t *told = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *list = json_incref(json_object_get(told, "questions")),
               *q;
        assert_int_equal(pl_synth_draw(synth, i_frame, rgb, 64 * 3, &truth, NULL), 0);
        text[n - 1] = '\0';
        assert_string_equal(text, pl_synth_describe(synth));
        assert_int_equal(strncmp(text, truth, strlen(truth) - 1), 0);
        json_t *topics = json_object();
        json_array_foreach(list, i, q)
        {
            const char *topic = json_string_value(json_object_get(q, "topic")),
                       *ask = json_string_value(json_object_get(q, "ask")),
                       *answer = json_string_value(json_object_get(q, "answer"));
            assert_true(topic && ask && answer && *topic && *ask && *answer && json_object_size(q) == 3);
            assert_null(json_object_get(topics, topic));
            json_object_set_new(topics, topic, json_true());
            n_yes += strcmp(answer, "yes") == 0;
            n_no += strcmp(answer, "no") == 0;
            n_asked++;
        }
        json_decref(topics);
        json_decref(list);
        json_object_del(told, "questions");
        json_t *want = json_loads(truth, 0, NULL);
        assert_true(json_equal(told, want));
        json_decref(want);
        json_decref(told);
        free(text);
    }
    assert_true(n_asked >= 12 * 10 && n_yes > 0 && n_no > 0);
    pl_synth_close(synth);
}

/* A source's own options hold unless the command's say otherwise. */
static void options_of_a_source(void **state)
{
    const char *folder = test_temp_dir();
    const char *said =
        out_of(PROGRAM_ARGS("synth", "synth:yard?seed=7&size=64x48&fps=3", "--seed", "9", "-o", folder, "-n", "1"));
    assert_true(test_contains(said, "seed 9, 64 x 48, 3 a second"));
    said = out_of(PROGRAM_ARGS("synth", "yard?size=64x48", "-o", folder, "-n", "1"));
    assert_true(test_contains(said, "seed 0, 64 x 48, 5 a second"));
    /* every seed that a configuration may have */
    said = out_of(PROGRAM_ARGS("synth", "yard?size=64x48", "--seed", "18446744073709551615", "-o", folder, "-n", "1"));
    assert_true(test_contains(said, "seed 18446744073709551615, 64 x 48"));
    struct pl_synth *synth = synth_of("synth:yard?size=64x48&seed=18446744073709551615");
    json_decref(same_frame(folder, 0, synth));
    pl_synth_close(synth);
}

/* The last number that may be asked for is drawn like any other. */
static void far_away(void **state)
{
    const char *folder = test_temp_dir();
    out_of(PROGRAM_ARGS("synth", "yard?size=64x48&fps=0.1", "-o", folder, "-n", "1", "--start", "1000000000000"));
    struct pl_synth *synth = synth_of("synth:yard?size=64x48&fps=0.1");
    json_decref(same_frame(folder, 1000000000000, synth));
    pl_synth_close(synth);
}

/* Who sits before it sees that it goes on; the line is gone at the end. */
static void on_a_terminal(void **state)
{
    const char *const args[] = {program_heron(), "synth", "yard?size=64x48", "-n", "3", "-o", test_temp_dir(), NULL};
    char text[1000] = "";
    size_t n_text = 0;
    int terminal, slave, status;
    assert_int_equal(openpty(&terminal, &slave, NULL, NULL, NULL), 0);
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(slave, STDERR_FILENO);
        if (!freopen("/dev/null", "w", stdout))
            _exit(126);
        execv(args[0], (char *const *)args);
        _exit(127);
    }
    close(slave);
    for (ssize_t n; (n = read(terminal, text + n_text, sizeof text - 1 - n_text)) > 0;) /* until nobody has the other end */
        n_text += (size_t)n;
    close(terminal);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_true(test_contains(text, "\r1 of 3 frames"));
    assert_true(n_text > 4 && strcmp(text + n_text - 4, "\r\033[K") == 0);
}

/* The codec leaves the truth alone; a frame from the middle is the one that the camera gives there. */
static void through_a_codec(void **state)
{
    struct err err = {0};
    const char *folder = test_temp_dir();
    if (pl_source_check("synth:yard?codec=h264", &err) != 0)
        skip_because("%s", err.text);
    const char *said = out_of(PROGRAM_ARGS("synth", "yard", "--codec", "h264", "--quality", "33", "--size", "160x90", "-o",
                                           folder, "--start", "23", "-n", "2"));
    assert_true(test_contains(said, ", through H.264\n"));
    struct pl_synth *coded = synth_of("synth:yard?codec=h264&quality=33&size=160x90"),
                    *plain = synth_of("synth:yard?size=160x90");
    static uint8_t a[160 * 90 * 3], b[160 * 90 * 3];
    const char *truth;
    for (uint64_t i = 0; i < 23; i++)
        assert_int_equal(pl_synth_draw(coded, i, a, 160 * 3, NULL, NULL), 0);
    for (uint64_t i = 23; i < 25; i++) {
        json_t *told = same_frame(folder, i, coded);
        assert_int_equal(pl_synth_draw(plain, i, b, 160 * 3, &truth, NULL), 0);
        json_t *want = json_loads(truth, 0, NULL);
        assert_true(json_equal(told, want));
        json_decref(told);
        json_decref(want);
    }
    assert_int_equal(pl_synth_draw(coded, 25, a, 160 * 3, NULL, NULL), 0);
    assert_int_equal(pl_synth_draw(plain, 25, b, 160 * 3, NULL, NULL), 0);
    assert_memory_not_equal(a, b, sizeof a);
    pl_synth_close(coded);
    pl_synth_close(plain);
}

static void refuses(void **state)
{
    const char *folder = test_temp_dir();
    char file[400], below[440], long_name[1200];
    snprintf(file, sizeof file, "%s/file", folder);
    snprintf(below, sizeof below, "%s/no/such", folder);
    test_write_text(file, "");
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    refused(PROGRAM_ARGS("synth"), EX_USAGE, "SCENE is missing");
    refused(PROGRAM_ARGS("synth", "yard"), EX_USAGE, "--out DIR is missing");
    refused(PROGRAM_ARGS("synth", "yard", "yard", "--out", folder), EX_USAGE, "takes one scene");
    refused(PROGRAM_ARGS("synth", "yrad", "--out", folder), EX_USAGE, "did you mean `yard`");
    refused(PROGRAM_ARGS("synth", "file:a.mp4", "--out", folder), EX_USAGE, "file:a.mp4");
    refused(PROGRAM_ARGS("synth", long_name, "--out", folder), EX_USAGE, "longer than");
    refused(PROGRAM_ARGS("synth", "yard", "--size", "10x10", "--out", folder), EX_USAGE, "size=10x10: expected WIDTHxHEIGHT");
    refused(PROGRAM_ARGS("synth", "yard", "--size", "64x48&seed=3", "--out", folder), EX_USAGE, "not a size");
    refused(PROGRAM_ARGS("synth", "yard", "--fps", "0", "--out", folder), EX_USAGE, "fps=0: expected a number from 0.1");
    refused(PROGRAM_ARGS("synth", "yard", "--seed", "-1", "--out", folder), EX_USAGE,
            "seed=-1: expected a whole number below 2^64");
    refused(PROGRAM_ARGS("synth", "yard", "--seed", "18446744073709551616", "--out", folder), EX_USAGE, "below 2^64");
    refused(PROGRAM_ARGS("synth", "yard", "--seed", "1&fps=3", "--out", folder), EX_USAGE, "--seed 1&fps=3: not a seed");
    refused(PROGRAM_ARGS("synth", "yard", "--start", "1000000000001", "--out", folder), EX_USAGE, "from 0 to 1000000000000");
    refused(PROGRAM_ARGS("synth", "yard", "--frames", "0", "--out", folder), EX_USAGE, "--frames takes a whole number");
    refused(PROGRAM_ARGS("synth", "yard", "--codec", "h265", "--out", folder), EX_USAGE, "expected h264 or none");
    refused(PROGRAM_ARGS("synth", "yard", "--quality", "30", "--out", folder), EX_USAGE, "only codec=h264 has one");
    refused(PROGRAM_ARGS("synth", "yard", "--fraems", "3", "--out", folder), EX_USAGE, "--frames");
    refused(PROGRAM_ARGS("synth", "yard", "--out", file), EX_CANTCREAT, "/file: File exists");
    refused(PROGRAM_ARGS("synth", "yard", "--out", below), EX_CANTCREAT, "/no/such: No such file");
    assert_int_equal(n_files(folder), 1); /* nothing was begun */
    char taken[440];
    snprintf(taken, sizeof taken, "%s/000000.png", folder); /* something that is not ours stands there */
    assert_int_equal(mkdir(taken, 0700), 0);
    refused(PROGRAM_ARGS("synth", "yard", "--out", folder), EX_IOERR, "000000.png: Is a directory");
    assert_int_equal(n_files(folder), 2);
}

/* No picture without its truth, and no truth of another picture. */
static void both_or_neither(void **state)
{
    const char *folder = test_temp_dir();
    out_of(PROGRAM_ARGS("synth", "yard?size=64x48", "--out", folder, "-n", "2"));
    assert_int_equal(unlink(in(folder, "000001.json")), 0);
    assert_int_equal(mkdir(in(folder, "000001.json"), 0700), 0);
    refused(PROGRAM_ARGS("synth", "yard?size=64x48&seed=2", "--out", folder, "-n", "2"), EX_IOERR,
            "000001.json: Is a directory");
    assert_int_equal(n_files(folder), 3);
    assert_int_equal(access(in(folder, "000000.png"), F_OK), 0);
    assert_int_equal(access(in(folder, "000001.png"), F_OK), -1);
}

static void a_folder_that_is_closed(void **state)
{
    if (geteuid() == 0)
        skip_because("root writes anywhere");
    const char *folder = test_temp_dir();
    assert_int_equal(chmod(folder, 0500), 0);
    refused(PROGRAM_ARGS("synth", "yard", "--start", "5", "--out", folder), EX_IOERR, "000005.png: Permission denied");
    assert_int_equal(chmod(folder, 0700), 0);
}

/* The page that says what the truth says knows each of its words, and each of its members. */
static void truth_is_described(void **state)
{
    char *page = test_read_file("pipeline/TRUTH.md", NULL), word[64];
    const char *words[64];
    int n = 0;
    for (int i = 0; i < SCENE_N_TYPES; i++)
        words[n++] = scene_type_name((enum scene_type)i);
    for (int i = 1; i < SCENE_N_COLOURS; i++)
        words[n++] = scene_colour_name((enum scene_colour)i);
    for (int i = 1; i < SCENE_N_POSES; i++)
        words[n++] = scene_pose_name((enum scene_pose)i);
    for (int i = 0; i < SCENE_N_PLACES; i++)
        words[n++] = scene_place_name((enum scene_place)i);
    for (int i = 0; i < SCENE_N_HAZARDS; i++)
        words[n++] = scene_hazard_name((enum scene_hazard)i);
    for (int i = 0; i < SCENE_N_LIGHTS; i++)
        words[n++] = scene_light_name((enum scene_light)i);
    for (int i = 0; i < SCENE_N_WEATHERS; i++)
        words[n++] = scene_weather_name((enum scene_weather)i);
    for (int i = 0; i < n; i++) {
        snprintf(word, sizeof word, "`%s`", words[i]);
        if (!test_contains(page, word))
            fail_msg("pipeline/TRUTH.md does not know %s", word);
    }
    static uint8_t rgb[64 * 48 * 3];
    struct pl_synth *synth = synth_of("synth:yard?seed=7&size=64x48");
    const char *key;
    json_t *value;
    assert_int_equal(pl_synth_draw(synth, 0, rgb, 64 * 3, NULL, NULL), 0);
    json_t *truth = json_loads(pl_synth_describe(synth), 0, NULL);
    json_object_foreach(truth, key, value)
    {
        snprintf(word, sizeof word, "`%s`", key);
        if (!test_contains(page, word))
            fail_msg("pipeline/TRUTH.md does not know the member %s", word);
    }
    snprintf(word, sizeof word, "%g %% of the picture, and %d pixels", SCENE_MIN_SHARE * 100, SCENE_MIN_PX);
    assert_true(test_contains(page, word));
    snprintf(word, sizeof word, "%g %% of it is visible", SCENE_MIN_VISIBLE * 100);
    assert_true(test_contains(page, word));
    snprintf(word, sizeof word, "by %g of 255", SCENE_MIN_CONTRAST);
    assert_true(test_contains(page, word));
    json_decref(truth);
    pl_synth_close(synth);
    free(page);
}

static void is_in_the_table(void **state)
{
    assert_true(test_contains(out_of(PROGRAM_ARGS("help")), "heron synth "));
    assert_true(test_contains(out_of(PROGRAM_ARGS("help", "synth")), "--frames"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_with_their_truth),
        cmocka_unit_test(questions),
        cmocka_unit_test(options_of_a_source),
        cmocka_unit_test(far_away),
        cmocka_unit_test(on_a_terminal),
        cmocka_unit_test(through_a_codec),
        cmocka_unit_test(refuses),
        cmocka_unit_test(both_or_neither),
        cmocka_unit_test(a_folder_that_is_closed),
        cmocka_unit_test(truth_is_described),
        cmocka_unit_test(is_in_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
