/*
 * heron synth: frames of the synthetic camera as PNG files, each with its truth as JSON beside it.
 *
 * The options become those of a `synth:` source, whose parser judges them: what is right here is right in a configuration.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "appliance/commands.h"
#include "base/clock.h"
#include "base/file.h"
#include "pipeline/pipeline.h"

#define FRAMES_MAX 1000000
#define START_MAX  1000000000000 /* 260 years at 120 a second; at any rate a double still tells two frames' times apart */
#define PATH_BYTES 4096
#define SOURCE_MAX 1024

const struct cli_command cmd_synth_command = {"synth", "SCENE --out DIR [--frames N]",
                                              "frames of the synthetic camera as PNG, with their truth as JSON", cmd_synth};

struct synth_args {
    const char *scene; /* a scene's name, with or without options behind `?`, or a whole synth: source */
    const char *out, *size, *seed, *codec;
    int64_t frames, start, quality; /* below 0: not given */
    double fps;                     /* NAN: not given */
    bool has_questions;
};

/* Put an option behind a source; false: no room. */
static bool add_option(char source[SOURCE_MAX], const char *key, const char *value)
{
    const size_t n = strlen(source);
    const int added = snprintf(source + n, SOURCE_MAX - n, "%c%s=%s", strchr(source, '?') ? '&' : '?', key, value);
    return added > 0 && n + (size_t)added < SOURCE_MAX;
}

static int make_source(const struct synth_args *args, char source[SOURCE_MAX], struct err *err)
{
    char number[32];
    const bool is_whole = strncmp(args->scene, "synth:", 6) == 0;
    int n = snprintf(source, SOURCE_MAX, "%s%s", is_whole ? "" : "synth:", args->scene);
    bool is_room = n < SOURCE_MAX;
    const struct {
        const char *key, *value;
    } words[] = {{"size", args->size}, {"seed", args->seed}, {"codec", args->codec}};
    for (size_t i = 0; i < sizeof words / sizeof *words && is_room; i++) {
        if (!words[i].value)
            continue;
        if (words[i].value[strcspn(words[i].value, "&%")]) /* would be read as another option */
            return err_set(err, ERR_INVAL, "--%s %s: not a %s", words[i].key, words[i].value, words[i].key);
        is_room = add_option(source, words[i].key, words[i].value);
    }
    if (is_room && !isnan(args->fps)) {
        snprintf(number, sizeof number, "%.10g", args->fps);
        is_room = add_option(source, "fps", number);
    }
    if (is_room && args->quality >= 0) {
        snprintf(number, sizeof number, "%lld", (long long)args->quality);
        is_room = add_option(source, "quality", number);
    }
    return is_room ? 0 : err_set(err, ERR_INVAL, "the scene with its options is longer than %d bytes", SOURCE_MAX - 1);
}

/* The folder is there afterwards. Returns 0 or an exit status. */
static int make_folder(const char *path)
{
    struct stat st;
    if (mkdir(path, 0777) == 0)
        return 0;
    const int error = errno;
    if (error == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    return cli_fail(&cmd_synth_command, EX_CANTCREAT, "cannot make the folder %s: %s", path, strerror(error));
}

/* NUMBER.png and NUMBER.json: both or, where one cannot be written, neither. */
static int write_frame(const char *folder, uint64_t i_frame, const struct image_view *view, const char *truth, struct err *err)
{
    char picture[PATH_BYTES], words[PATH_BYTES], *line = NULL;
    snprintf(picture, sizeof picture, "%s/%06llu.png", folder, (unsigned long long)i_frame);
    if (snprintf(words, sizeof words, "%s/%06llu.json", folder, (unsigned long long)i_frame) >= (int)sizeof words)
        return err_set(err, ERR_INVAL, "--out: the path is longer than %d bytes", PATH_BYTES - 32);
    const int n = asprintf(&line, "%s\n", truth);
    if (n < 0)
        return err_set(err, ERR_NOMEM, "out of memory: the truth of frame %llu", (unsigned long long)i_frame);
    int rc = pl_picture_write(picture, view, err);
    if (rc == 0 && (rc = file_write(words, line, (size_t)n, err)) != 0) {
        unlink(picture); /* and what may lie there is the truth of the picture that it replaced */
        unlink(words);
    }
    free(line);
    return rc;
}

/* A terminal hears every second how far it is. */
static void print_progress(const struct synth_args *args, uint64_t n_written, int64_t *next_ns)
{
    const int64_t now = clock_now_ns();
    if (now < *next_ns || !isatty(STDERR_FILENO))
        return;
    *next_ns = now + CLOCK_S;
    fprintf(stderr, "\r%llu of %lld frames", (unsigned long long)n_written, (long long)args->frames);
}

static void end_progress(int64_t next_ns)
{
    if (next_ns != 0)
        fputs("\r\033[K", stderr);
}

static int write_frames(const struct synth_args *args, struct pl_synth *synth, const struct pl_synth_info *info,
                        struct err *err)
{
    const size_t row_bytes = (size_t)info->width_px * 3;
    uint8_t *rgb = malloc(row_bytes * (size_t)info->height_px);
    if (!rgb)
        return err_set(err, ERR_NOMEM, "out of memory: a picture of %d x %d", info->width_px, info->height_px);
    const struct image_view view = {.format = IMAGE_RGB24,
                                    .width_px = info->width_px,
                                    .height_px = info->height_px,
                                    .plane = {rgb},
                                    .stride_bytes = {row_bytes}};
    const uint64_t start = (uint64_t)args->start, end = start + (uint64_t)args->frames;
    /* what the camera gives at a frame rests on those since the last key frame */
    uint64_t i = info->key_frames ? start - start % (uint64_t)info->key_frames : start;
    int64_t next_ns = 0;
    int rc = 0;
    for (; i < end && rc == 0; i++) {
        const char *truth;
        rc = pl_synth_draw(synth, i, rgb, row_bytes, &truth, err);
        if (rc == 0 && i >= start)
            rc = write_frame(args->out, i, &view, args->has_questions ? pl_synth_describe(synth) : truth, err);
        if (rc == 0 && i >= start)
            print_progress(args, i - start + 1, &next_ns);
    }
    end_progress(next_ns);
    free(rgb);
    return rc;
}

static void print_done(const struct synth_args *args, const struct pl_synth_info *info)
{
    const long long n = args->frames, first = args->start;
    if (n == 1)
        printf("%s: 1 frame of %s, %06lld.png, with its truth (.json)", args->out, info->scene, first);
    else
        printf("%s: %lld frames of %s, %06lld.png to %06lld.png, each with its truth (.json)", args->out, n, info->scene, first,
               first + n - 1);
    printf("; seed %llu, %d x %d, %g a second%s\n", (unsigned long long)info->seed, info->width_px, info->height_px, info->fps,
           info->key_frames ? ", through H.264" : "");
}

int cmd_synth(int argc, char **argv)
{
    const struct cli_command *self = &cmd_synth_command;
    struct synth_args args = {.frames = 25, .quality = -1, .fps = NAN};
    const struct cli_option options[] = {
        {"out", "o", CLI_TEXT, &args.out, 0, 0, "DIR", "the folder to write to; made where it is not there"},
        {"frames", "n", CLI_INT, &args.frames, 1, FRAMES_MAX, "N", "how many (25)"},
        {"start", NULL, CLI_INT, &args.start, 0, START_MAX, "N", "number of the first (0); its time is N / fps"},
        {"seed", NULL, CLI_TEXT, &args.seed, 0, 0, "N", "another world (0)"},
        {"size", NULL, CLI_TEXT, &args.size, 0, 0, "WxH", "of the pictures (640x360)"},
        {"fps", NULL, CLI_FLOAT, &args.fps, 0, 0, "X", "frames a second of the scene (5)"},
        {"codec", NULL, CLI_TEXT, &args.codec, 0, 0, "h264", "let each picture go through a real encoder and decoder"},
        {"quality", NULL, CLI_INT, &args.quality, 0, 99, "N", "of that codec, 18 (best) to 40 (28)"},
        {"questions", NULL, CLI_FLAG, &args.has_questions, 0, 0, NULL,
         "with each truth questions about the picture and their answers"},
    };
    struct cli_list words;
    int status = cli_parse(self, argc, argv, options, sizeof options / sizeof *options, &words);
    if (status != 0)
        return status;
    if (words.n != 1)
        return cli_fail(self, EX_USAGE, words.n ? "takes one scene" : "SCENE is missing (yard)");
    if (!args.out || !*args.out)
        return cli_fail(self, EX_USAGE, "--out DIR is missing");
    args.scene = words.items[0];

    struct err err = {0};
    struct pl_synth *synth = NULL;
    struct pl_synth_info info;
    char source[SOURCE_MAX];
    int rc = make_source(&args, source, &err);
    if (rc == 0)
        rc = pl_synth_open(source, &synth, &err);
    if (rc == 0) {
        pl_synth_get_info(synth, &info);
        status = make_folder(args.out);
    }
    if (rc == 0 && status == 0)
        rc = write_frames(&args, synth, &info, &err);
    if (rc == 0 && status == 0)
        print_done(&args, &info);
    pl_synth_close(synth);
    return rc != 0 ? cli_error(self, &err) : status;
}
