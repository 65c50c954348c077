#include "appliance/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define FILE_BYTES_MAX (1 << 20)
#define NAME_BYTES_MAX 32 /* of a file in the folder */

struct boot {
    char path[PATH_MAX - NAME_BYTES_MAX];
    uint64_t count;
    char why[200];
    json_t *switches; /* an object of objects of booleans */
    json_t *cameras;  /* an array of strings */
    bool is_unsaved;  /* the file is older than they are */
};

/* ---- the folder ------------------------------------------------------------------------------------------------------------ */

/* Make `path` and what leads to it. False: not there, or not to be written; errno says why. */
static bool make_folder(char *path)
{
    for (char *p = path + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        const int rc = mkdir(path, 0755);
        *p = '/';
        if (rc != 0 && errno != EEXIST)
            return false;
    }
    if (mkdir(path, 0750) != 0 && errno != EEXIST)
        return false;
    return access(path, R_OK | W_OK | X_OK) == 0;
}

static bool try_folder(struct boot *b, const char *format, const char *begin)
{
    char path[sizeof b->path];
    if (!begin || !begin[0])
        return false;
    if (snprintf(path, sizeof path, format, begin) >= (int)sizeof path || path[0] != '/')
        return false;
    if (!make_folder(path)) {
        snprintf(b->why, sizeof b->why, "%.120s: %s", path, strerror(errno));
        return false;
    }
    strcpy(b->path, path);
    return true;
}

static void find_folder(struct boot *b, const char *path)
{
    if (path) {
        char whole[PATH_MAX];
        if (path[0] == '/' || !getcwd(whole, sizeof whole)) {
            try_folder(b, "%s", path);
            return;
        }
        const size_t n = strlen(whole);
        snprintf(whole + n, sizeof whole - n, "/%s", path);
        try_folder(b, "%s", whole);
        return;
    }
    const char *state = getenv("STATE_DIRECTORY");
    if (state && state[0]) { /* systemd's word is final */
        char first[sizeof b->path];
        snprintf(first, sizeof first, "%.*s", (int)strcspn(state, ":"), state);
        try_folder(b, "%s", first);
        return;
    }
    if (try_folder(b, "%s", "/var/lib/heron"))
        return;
    const char *xdg = getenv("XDG_STATE_HOME");
    if (xdg && xdg[0] ? try_folder(b, "%s/heron", xdg) : try_folder(b, "%s/.local/state/heron", getenv("HOME")))
        return;
    if (!b->why[0])
        snprintf(b->why, sizeof b->why, "no folder to write in: set STATE_DIRECTORY");
}

/* ---- files --------------------------------------------------------------------------------------------------------------------- */

static void file_path(const struct boot *b, const char *name, const char *suffix, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/%s%s", b->path, name, suffix);
}

/* Malloc'ed, NUL-terminated; NULL with errno: it is not there (ENOENT), or cannot be read. */
static char *read_file(const struct boot *b, const char *name, size_t *ret_n)
{
    char path[PATH_MAX];
    file_path(b, name, "", path);
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL;
    char *bytes = malloc(FILE_BYTES_MAX + 1);
    const size_t n = bytes ? fread(bytes, 1, FILE_BYTES_MAX, f) : 0;
    const int error = !bytes ? ENOMEM : ferror(f) ? EIO : 0;
    fclose(f);
    if (error) {
        free(bytes);
        errno = error;
        return NULL;
    }
    bytes[n] = 0;
    *ret_n = n;
    return bytes;
}

static bool sync_folder(const struct boot *b)
{
    const int fd = open(b->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    const bool ok = fsync(fd) == 0;
    close(fd);
    return ok;
}

static int replace_file(const struct boot *b, const char *name, const char *text, struct err *err)
{
    char path[PATH_MAX], beside[PATH_MAX];
    file_path(b, name, "", path);
    file_path(b, name, ".new", beside);
    const size_t n = strlen(text);
    const int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return err_set_errno(err, ERR_IO, "cannot write %s", beside);
    const bool is_written = write(fd, text, n) == (ssize_t)n && fsync(fd) == 0;
    const int error = errno;
    close(fd);
    if (!is_written) {
        errno = error;
        err_set_errno(err, ERR_IO, "cannot write %s", beside);
        unlink(beside);
        return ERR_IO;
    }
    if (rename(beside, path) != 0 || !sync_folder(b))
        return err_set_errno(err, ERR_IO, "cannot replace %s", path);
    return 0;
}

static void set_aside(const struct boot *b, const char *name, const char *why)
{
    char path[PATH_MAX], aside[PATH_MAX];
    file_path(b, name, "", path);
    file_path(b, name, ".damaged", aside);
    log_warning("%s cannot be used (%s): set aside as %s%s", path, why, aside, rename(path, aside) == 0 ? "" : ", in vain");
}

/* ---- starts -------------------------------------------------------------------------------------------------------------------- */

/* A number that a lost count cannot have reached: one start a second since 1970. */
static uint64_t count_of_clock(void)
{
    return (uint64_t)(clock_wall_ns() / CLOCK_S);
}

static void count_start(struct boot *b)
{
    size_t n = 0;
    struct err err = {0};
    uint64_t before = 0;
    char *text = read_file(b, "boot", &n);
    if (text) {
        char *end = text;
        errno = 0;
        const unsigned long long value = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
        if (end == text || errno != 0 || (size_t)(end - text) + (*end == '\n') != n || value >= INT64_MAX) {
            set_aside(b, "boot", "no count of starts");
            before = count_of_clock();
        } else {
            before = value;
        }
        free(text);
    } else if (errno != ENOENT) {
        set_aside(b, "boot", strerror(errno));
        before = count_of_clock();
    }
    char line[32];
    snprintf(line, sizeof line, "%llu\n", (unsigned long long)(before + 1));
    if (replace_file(b, "boot", line, &err) != 0)
        snprintf(b->why, sizeof b->why, "%.190s", err.text);
    else
        b->count = before + 1;
}

/* ---- switches ------------------------------------------------------------------------------------------------------------------ */

static bool is_switches(const json_t *root)
{
    const char *camera, *name;
    json_t *entry, *value;
    if (!json_is_object(root))
        return false;
    json_object_foreach((json_t *)root, camera, entry)
    {
        if (!json_is_object(entry))
            return false;
        json_object_foreach(entry, name, value) if (!json_is_boolean(value)) return false;
    }
    return true;
}

static bool is_names(const json_t *root)
{
    for (size_t i = 0; i < json_array_size(root); i++)
        if (!json_is_string(json_array_get(root, i)))
            return false;
    return json_is_array(root);
}

/* Replace *value by what a file holds, if that is what it should be. */
static void read_json(struct boot *b, const char *name, bool (*is_right)(const json_t *root), json_t **value)
{
    size_t n = 0;
    char *text = read_file(b, name, &n);
    if (!text) {
        if (errno != ENOENT)
            set_aside(b, name, strerror(errno));
        return;
    }
    json_error_t why;
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (is_right(root)) {
        json_decref(*value);
        *value = root;
    } else {
        set_aside(b, name, root ? "not what is written there" : why.text);
        json_decref(root);
    }
    free(text);
}

static int write_json(const struct boot *b, const char *name, const json_t *value, struct err *err)
{
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_SORT_KEYS);
    if (!text)
        return err_set(err, ERR_NOMEM, "out of memory: %s", name);
    const int rc = replace_file(b, name, text, err);
    free(text);
    return rc;
}

int boot_switch_set(struct boot *b, const char *camera, const char *name, bool is_on, struct err *err)
{
    json_t *entry = json_object_get(b->switches, camera);
    if (!entry && json_object_set_new(b->switches, camera, entry = json_object()) != 0)
        return err_set(err, ERR_NOMEM, "out of memory: a switch");
    const json_t *value = json_object_get(entry, name);
    if (value && json_is_true(value) == is_on && !b->is_unsaved)
        return 0;
    if (json_object_set_new(entry, name, json_boolean(is_on)) != 0)
        return err_set(err, ERR_NOMEM, "out of memory: a switch");
    b->is_unsaved = true;
    if (!b->path[0])
        return err_set(err, ERR_IO, "the switch holds until the next restart only: %s", b->why);
    const int rc = write_json(b, "switches.json", b->switches, err);
    b->is_unsaved = rc != 0;
    return rc;
}

bool boot_switch_get(const struct boot *b, const char *camera, const char *name, bool otherwise)
{
    const json_t *value = json_object_get(json_object_get(b->switches, camera), name);
    return value ? json_is_true(value) : otherwise;
}

/* ---- cameras ------------------------------------------------------------------------------------------------------------------- */

const char *boot_camera(const struct boot *b, size_t i)
{
    return json_string_value(json_array_get(b->cameras, i));
}

int boot_cameras_set(struct boot *b, const char *const *ids, size_t n, struct err *err)
{
    json_t *cameras = json_array();
    bool is_bad = !cameras;
    for (size_t i = 0; i < n && !is_bad; i++)
        is_bad = json_array_append_new(cameras, json_string(ids[i])) != 0;
    if (is_bad || json_equal(cameras, b->cameras)) {
        json_decref(cameras);
        return is_bad ? err_set(err, ERR_NOMEM, "out of memory: the names of cameras") : 0;
    }
    json_decref(b->cameras);
    b->cameras = cameras;
    return b->path[0] ? write_json(b, "cameras.json", cameras, err) : 0;
}

/* ---- texts of others ------------------------------------------------------------------------------------------------------------ */

char *boot_text_read(const struct boot *b, const char *name)
{
    size_t n = 0;
    return b->path[0] ? read_file(b, name, &n) : NULL;
}

int boot_text_write(const struct boot *b, const char *name, const char *text, struct err *err)
{
    return b->path[0] ? replace_file(b, name, text, err) : err_set(err, ERR_IO, "%s", b->why);
}

/* ---- life ---------------------------------------------------------------------------------------------------------------------- */

int boot_open(const char *path, struct boot **ret_boot, struct err *err)
{
    struct boot *b = calloc(1, sizeof *b);
    if (b) {
        b->switches = json_object();
        b->cameras = json_array();
    }
    if (!b || !b->switches || !b->cameras) {
        boot_close(b);
        return err_set(err, ERR_NOMEM, "out of memory: the count of starts");
    }
    find_folder(b, path);
    if (b->path[0]) {
        b->why[0] = 0;
        count_start(b);
        read_json(b, "switches.json", is_switches, &b->switches);
        read_json(b, "cameras.json", is_names, &b->cameras);
    }
    *ret_boot = b;
    return 0;
}

void boot_close(struct boot *b)
{
    if (!b)
        return;
    json_decref(b->switches);
    json_decref(b->cameras);
    free(b);
}

uint64_t boot_count(const struct boot *b)
{
    return b->count;
}

const char *boot_why(const struct boot *b)
{
    return b->why;
}

const char *boot_path(const struct boot *b)
{
    return b->path;
}
