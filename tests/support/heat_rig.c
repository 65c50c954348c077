#include "tests/support/heat_rig.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define TREES 64

char heat_library[512];
static const char *folder;   /* of all trees */
static char state_path[512]; /* of the file that tells the library what to answer */
static unsigned (*fake_calls)(const char *name);

const char *heat_tree(void)
{
    static char trees[TREES][512];
    static int n;
    assert_true(n < TREES);
    snprintf(trees[n], sizeof trees[n], "%s/sys%d", folder, n);
    assert_int_equal(mkdir(trees[n], 0755), 0);
    return trees[n++];
}

static void make_parents(const char *path)
{
    char text[1024];
    snprintf(text, sizeof text, "%s", path);
    for (char *p = strchr(text + 1, '/'); p; p = strchr(p + 1, '/')) {
        *p = 0;
        mkdir(text, 0755);
        *p = '/';
    }
}

/* Whole or not at all, as sysfs does it. */
static void put_file(const char *path, const char *text)
{
    struct err err = {0};
    make_parents(path);
    assert_ok(file_write(path, text, strlen(text), &err), &err);
}

/* "zone3/temp" and the like: where that is in sysfs. */
static const char *path_in(const char *tree, const char *name)
{
    static char paths[4][1024];
    static int at;
    static const char *const classes[][2] = {
        {"zone", "class/thermal/thermal_zone"}, {"hwmon", "class/hwmon/hwmon"}, {"rapl", "class/powercap/intel-rapl:"}};
    char *path = paths[at++ % 4];
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strncmp(name, classes[i][0], strlen(classes[i][0])) == 0) {
            snprintf(path, sizeof paths[0], "%s/%s%s", tree, classes[i][1], name + strlen(classes[i][0]));
            return path;
        }
    snprintf(path, sizeof paths[0], "%s/%s", tree, name);
    return path;
}

void heat_put(const char *tree, const char *name, const char *text)
{
    put_file(path_in(tree, name), text);
}

void heat_link(const char *tree, const char *name, const char *target)
{
    const char *path = path_in(tree, name), *to = path_in(tree, target);
    char inside[1100];
    snprintf(inside, sizeof inside, "%s/.", to);
    make_parents(path);
    make_parents(inside);
    unlink(path);
    assert_int_equal(symlink(to, path), 0);
}

void heat_lay(const char *tree, const char *format, ...)
{
    char text[2048], name[256], *lines = NULL, *words = NULL;
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *line = strtok_r(text, "\n", &lines); line; line = strtok_r(NULL, "\n", &lines)) {
        const char *where = strtok_r(line, " ", &words);
        for (char *word; (word = strtok_r(NULL, " ", &words));) {
            char *at = word + strcspn(word, "=@");
            const bool is_link = *at == '@';
            *at++ = 0;
            for (char *p = at; *p; p++)
                *p = *p == '+' ? ' ' : *p;
            snprintf(name, sizeof name, "%s/%s", where, word);
            char content[256];
            snprintf(content, sizeof content, "%s\n", at);
            if (is_link)
                heat_link(tree, name, at);
            else
                heat_put(tree, name, content);
        }
    }
}

void heat_move(const char *tree, const char *from, const char *to)
{
    assert_int_equal(rename(path_in(tree, from), path_in(tree, to)), 0);
}

void heat_hang(const char *tree, const char *name)
{
    const char *path = path_in(tree, name);
    char pipe[1100];
    snprintf(pipe, sizeof pipe, "%s.pipe", path);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(rename(pipe, path), 0);
}

void heat_let_go(const char *tree, const char *name, const char *text)
{
    const int fd = open(path_in(tree, name), O_RDWR | O_CLOEXEC); /* never waits for the other end */
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    heat_put(tree, name, text);
    close(fd);
}

void heat_say(const char *lines)
{
    put_file(state_path, lines);
}

unsigned heat_calls(const char *function)
{
    return fake_calls(function);
}

struct sensors *heat_open(struct sensors_options options)
{
    struct sensors *s = NULL;
    struct err err = {0};
    options.period_ns = options.period_ns ? options.period_ns : 20 * CLOCK_MS;
    options.timeout_ns = options.timeout_ns ? options.timeout_ns : 500 * CLOCK_MS;
    options.nvml = options.nvml ? options.nvml : HEAT_NO_NVML;
    options.sysfs = options.sysfs ? options.sysfs : "/nonexistent/sys";
    assert_ok(sensors_open(&options, &s, &err), &err);
    return s;
}

struct sensors *heat_open_tree(const char *tree, bool is_gpu)
{
    return heat_open((struct sensors_options){.sysfs = tree, .is_gpu = is_gpu});
}

struct sensors *heat_open_nvml(void)
{
    return heat_open((struct sensors_options){.nvml = heat_library, .is_gpu = true});
}

int heat_place(const struct sensors *s, const char *name)
{
    for (int i = 0; i < sensors_count(s); i++)
        if (strcmp(sensors_place(s, i)->name, name) == 0)
            return i;
    return -1;
}

const char *heat_names(const struct sensors *s)
{
    static char text[2048];
    size_t n = 0;
    text[0] = 0;
    for (int i = 0; i < sensors_count(s); i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s%s", i ? ", " : "", sensors_place(s, i)->name,
                              sensors_place(s, i)->governs ? "!" : "");
    return text;
}

double heat_limit(const struct sensors *s, const char *name)
{
    assert_true(heat_place(s, name) >= 0);
    return sensors_place(s, heat_place(s, name))->limit_c;
}

bool heat_is(double a, double b)
{
    return fabs(a - b) < 1e-6;
}

double heat_c(const struct sensors *s, const struct sensors_reading *r, const char *name)
{
    const int i = heat_place(s, name);
    if (i < 0)
        fail_msg("there is no %s among %s", name, heat_names(s));
    return r->c[i];
}

int heat_set_up(void **state)
{
    char exe[400];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return -1;
    exe[n] = 0;
    *strrchr(exe, '/') = 0;
    snprintf(heat_library, sizeof heat_library, "%s/../support/fake_nvml.so", exe);
    folder = test_temp_dir();
    snprintf(state_path, sizeof state_path, "%s/nvml", folder);
    setenv("FAKE_NVML", state_path, 1);
    void *handle = dlopen(heat_library, RTLD_NOW); /* stays, so that its counts do */
    void *address = handle ? dlsym(handle, "fake_nvml_calls") : NULL;
    memcpy(&fake_calls, &address, sizeof address);
    return address ? 0 : -1;
}
