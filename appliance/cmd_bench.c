/*
 * heron bench: how fast this machine runs a model, against the read bandwidth of its memory measured in the same minute.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "appliance/commands.h"
#include "appliance/model_args.h"
#include "base/clock.h"
#include "base/rng.h"

const struct cli_command cmd_bench_command = {
    "bench", "(-m MODEL [-v VISION] | --synthetic SHAPE[:TYPE]) [-p N] [-n N] [-d DEPTH] [-b SEQUENCES]",
    "prefill, decode, vision and load, against the memory's read bandwidth", cmd_bench};

#define SEQUENCES_MAX 256
#define PROBE_BYTES   (512u << 20)
#define READ_BYTES    (UINT64_C(2) << 30) /* of each file, to see what the disk gives */
#define STEP_ROWS     512                 /* of a prompt in one step */

struct bench {
    struct en_engine *engine;
    struct en_info info;
    struct en_session *sessions[SEQUENCES_MAX];
    int n_sessions;
    json_t *rows;        /* what was measured, in order */
    uint64_t read_bytes; /* of the files, by direct reads before and after loading */
    int64_t read_ns;
};

static int32_t random_id(uint64_t i, int32_t n_vocab)
{
    return (int32_t)(rng_at(1, i) % (uint64_t)n_vocab);
}

/* Evaluate n tokens in each session together; *ret_ns is how long it took. */
static int feed(struct bench *b, int32_t n, uint64_t seed, enum en_want want, int64_t *ret_ns, struct err *err)
{
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    if (!ids)
        return err_set(err, ERR_NOMEM, "out of memory: %d tokens", n);
    for (int32_t i = 0; i < n; i++)
        ids[i] = random_id(seed + (uint64_t)i, b->info.n_vocab);
    const struct en_chunk chunk = {.ids = ids, .n_ids = n};
    struct en_feed feeds[SEQUENCES_MAX];
    for (int s = 0; s < b->n_sessions; s++)
        feeds[s] = (struct en_feed){.session = b->sessions[s], .chunks = &chunk, .n_chunks = 1, .want = want};
    const int64_t start = clock_now_ns();
    const int rc = en_run(b->engine, feeds, b->n_sessions, NULL, NULL, err);
    *ret_ns = clock_now_ns() - start;
    free(ids);
    return rc;
}

static void consume(void *ctx, struct en_session *session, int32_t index, bool is_image, const int32_t pos[3],
                    const float *logits)
{
    *(float *)ctx += logits[0];
}

/* n decode steps: one token in each session, logits read. */
static int decode(struct bench *b, int32_t n, int64_t *ret_ns, struct err *err)
{
    float sink = 0;
    const int64_t start = clock_now_ns();
    for (int32_t i = 0; i < n; i++) {
        const int32_t id = random_id((uint64_t)i + 7777, b->info.n_vocab);
        const struct en_chunk chunk = {.ids = &id, .n_ids = 1};
        struct en_feed feeds[SEQUENCES_MAX];
        for (int s = 0; s < b->n_sessions; s++)
            feeds[s] = (struct en_feed){.session = b->sessions[s], .chunks = &chunk, .n_chunks = 1, .want = EN_WANT_LAST};
        const int rc = en_run(b->engine, feeds, b->n_sessions, consume, &sink, err);
        if (rc != 0)
            return rc;
    }
    *ret_ns = clock_now_ns() - start;
    return 0;
}

static int open_sessions(struct bench *b, int n, struct err *err)
{
    for (b->n_sessions = 0; b->n_sessions < n; b->n_sessions++) {
        const int rc = en_session_open(b->engine, &b->sessions[b->n_sessions], err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static void close_sessions(struct bench *b)
{
    while (b->n_sessions > 0)
        en_session_close(b->sessions[--b->n_sessions]);
}

/* A row. bytes_per_token: what one token has to read, its share of what its step reads; 0: no tokens here, and bytes_per_s is the rate itself. */
static void note(struct bench *b, const char *what, double per_s, const char *unit, double ms, double bytes_per_token,
                 double bytes_per_s)
{
    json_t *row =
        json_pack("{s:s, s:f, s:s, s:f, s:f}", "what", what, "rate", per_s, "unit", unit, "ms", ms, "bytes_per_s", bytes_per_s);
    if (bytes_per_token > 0)
        json_object_set_new(row, "bytes_per_token", json_real(bytes_per_token));
    json_array_append_new(b->rows, row);
}

static void note_tokens(struct bench *b, const char *what, double tokens, double seconds, double ms, double bytes)
{
    note(b, what, tokens / seconds, "tokens/s", ms, bytes / tokens, bytes / seconds);
}

/* What the disk gives where there is nothing to do but to read. */
static int read_files(struct bench *b, const struct en_options *options, struct err *err)
{
    uint64_t bytes;
    int64_t took;
    const int rc = en_read_files(options, READ_BYTES, &bytes, &took, err);
    if (rc == 0) {
        b->read_bytes += bytes;
        b->read_ns += took;
    }
    return rc;
}

/* Bytes/s; 0: there is no file. */
static double disk_rate(const struct bench *b)
{
    return b->read_ns > 0 ? (double)b->read_bytes / ((double)b->read_ns / 1e9) : 0;
}

/* Loading is held against the disk, or against the memory where the weights are noise. */
static void note_load(struct bench *b)
{
    const double per_s = (double)b->info.load_bytes / ((double)b->info.load_ns / 1e9);
    const double disk = disk_rate(b);
    note(b, "load", per_s / 1e9, "GB/s", (double)b->info.load_ns / 1e6, 0, per_s);
    json_t *row = json_array_get(b->rows, json_array_size(b->rows) - 1);
    json_object_set_new(row, "bytes", json_integer((json_int_t)b->info.load_bytes));
    if (b->info.load_peak_bytes > 0) {
        json_object_set_new(row, "peak_bytes", json_integer((json_int_t)b->info.load_peak_bytes));
        json_object_set_new(row, "peak_over_weights",
                            json_real((double)b->info.load_peak_bytes / (double)b->info.weights_bytes));
    }
    if (disk > 0)
        json_object_set_new(row, "read_bandwidth", json_real(disk));
}

static void print_head(const struct bench *b, double bandwidth)
{
    const struct en_info *i = &b->info;
    printf("%s%s, %.2f G parameters, %.2f GB of weights, %.3f GB read per token and %.1f MB of state\n%s, memory reads %.1f "
           "GB/s\n",
           i->name, i->is_untrained ? " (untrained)" : "", (double)i->n_params / 1e9, (double)i->weights_bytes / 1e9,
           (double)i->bytes_per_token / 1e9, (double)i->state_bytes / 1e6, i->device, bandwidth / 1e9);
    if (b->read_ns > 0)
        printf("direct reads of the files give %.2f GB/s, what load is held against", disk_rate(b) / 1e9);
    if (b->read_ns > 0 && i->load_peak_bytes > 0)
        printf("; it took %.2f GB of memory at most, %.3f x the weights", (double)i->load_peak_bytes / 1e9,
               (double)i->load_peak_bytes / (double)i->weights_bytes);
    if (b->read_ns > 0)
        putchar('\n');
    putchar('\n');
}

/* Against the bandwidth that was measured before and after, of the memory where it is not said of what else. */
static void compare_rows(const struct bench *b, double memory_bandwidth)
{
    size_t i;
    json_t *row;
    json_array_foreach(b->rows, i, row)
    {
        const json_t *own = json_object_get(row, "read_bandwidth");
        const double bandwidth = own ? json_real_value(own) : memory_bandwidth;
        json_object_set_new(row, "read_bandwidth", json_real(bandwidth));
        json_object_set_new(row, "ratio", json_real(json_real_value(json_object_get(row, "bytes_per_s")) / bandwidth));
    }
}

static void print_rows(const struct bench *b)
{
    printf("%-28s %12s %-10s %10s %10s %10s %8s\n", "", "rate", "", "ms", "MB/token", "GB/s", "of read");
    size_t i;
    json_t *row;
    json_array_foreach(b->rows, i, row)
    {
        const json_t *per_token = json_object_get(row, "bytes_per_token");
        printf("%-28s %12.2f %-10s %10.1f", json_string_value(json_object_get(row, "what")),
               json_real_value(json_object_get(row, "rate")), json_string_value(json_object_get(row, "unit")),
               json_real_value(json_object_get(row, "ms")));
        if (per_token)
            printf(" %10.3f", json_real_value(per_token) / 1e6);
        else
            printf(" %10s", "");
        printf(" %10.2f %7.0f%%", json_real_value(json_object_get(row, "bytes_per_s")) / 1e9,
               100 * json_real_value(json_object_get(row, "ratio")));
        const json_t *launches = json_object_get(row, "launches");
        if (launches)
            printf("   %.1f launches a step", json_real_value(launches));
        putchar('\n');
    }
}

/* Bytes of weights that one step over so many rows reads: all, once; of a mixture at most what its rows ask for one by one. */
static double step_bytes(const struct bench *b, int64_t rows)
{
    const double all = (double)(b->info.weights_bytes - b->info.vision_bytes), one = (double)b->info.bytes_per_token;
    return b->info.n_experts == 0 ? one : one * (double)rows < all ? one * (double)rows : all;
}

/* And what a sequence of so many tokens so far adds to a step of `rows` more: its recurrent state, its keys and values. */
static double sequence_bytes(const struct bench *b, int64_t past, int64_t rows)
{
    return (double)b->info.state_bytes + (double)(past + rows) * (double)b->info.kv_bytes_per_token;
}

static double prompt_bytes(const struct bench *b, int64_t n)
{
    double bytes = 0;
    for (int64_t past = 0, rows; past < n; past += rows) {
        rows = n - past < STEP_ROWS ? n - past : STEP_ROWS;
        bytes += step_bytes(b, rows) + sequence_bytes(b, past, rows);
    }
    return bytes;
}

static double decode_bytes(const struct bench *b, int64_t depth, int64_t steps, int64_t sequences)
{
    double bytes = 0;
    for (int64_t i = 0; i < steps; i++)
        bytes += step_bytes(b, sequences) + (double)sequences * sequence_bytes(b, depth + i, 1);
    return bytes;
}

/* A picture of noise through the vision tower. */
static int bench_vision(struct bench *b, int width, int height, struct err *err)
{
    uint8_t *rgb = malloc((size_t)width * (size_t)height * 3);
    if (!rgb)
        return err_set(err, ERR_NOMEM, "out of memory: a picture of %d x %d", width, height);
    for (size_t i = 0; i < (size_t)width * (size_t)height * 3; i++)
        rgb[i] = (uint8_t)rng_at(2, i);
    const struct image_view view = {
        .format = IMAGE_RGB24, .width_px = width, .height_px = height, .plane = {rgb}, .stride_bytes = {(size_t)width * 3}};
    struct en_image *image = NULL;
    int rc = 0;
    int64_t best = INT64_MAX;
    int32_t tokens = 0;
    for (int i = 0; i < 3 && rc == 0; i++) {
        const int64_t start = clock_now_ns();
        rc = en_image_encode(b->engine, &view, 0, &image, err);
        const int64_t took = clock_now_ns() - start;
        if (rc == 0) {
            best = took < best ? took : best;
            tokens = en_image_tokens(image);
            en_image_unref(image);
        }
    }
    free(rgb);
    if (rc != 0)
        return rc;
    char what[64];
    snprintf(what, sizeof what, "vision %dx%d", width, height);
    note_tokens(b, what, tokens, (double)best / 1e9, (double)best / 1e6, (double)b->info.vision_bytes);
    return 0;
}

int cmd_bench(int argc, char **argv)
{
    const struct cli_command *self = &cmd_bench_command;
    struct model_args model = {0};
    const char *synthetic = NULL, *picture = NULL;
    int64_t n_prompt = 512, n_decode = 64, depth = 0, sequences = 1;
    bool as_json = false;
    const struct cli_option options[] = {
        MODEL_ARGS_OPTIONS(&model),
        {"synthetic", NULL, CLI_TEXT, &synthetic, 0, 0, "SHAPE[:TYPE]",
         "noise weights of a published shape, such as qwen3.5-0.8b:q4_k; f32 without a type"},
        {"p", "prompt", CLI_INT, &n_prompt, 0, 1000000, "N", "tokens of prefill (512)"},
        {"n", "decode", CLI_INT, &n_decode, 0, 1000000, "N", "tokens to decode (64)"},
        {"d", "depth", CLI_INT, &depth, 0, 1000000, "DEPTH", "tokens already in the context when decoding (0)"},
        {"b", "sequences", CLI_INT, &sequences, 1, SEQUENCES_MAX, "SEQUENCES", "sequences that decode together (1)"},
        {"image", NULL, CLI_TEXT, &picture, 0, 0, "WxH", "also time the vision tower on a picture of this size"},
        {"json", NULL, CLI_FLAG, &as_json, 0, 0, NULL, "print JSON"},
    };
    struct cli_list words;
    int status = cli_parse(self, argc, argv, options, sizeof options / sizeof *options, &words);
    if (status != 0)
        return status;
    int width = 0, height = 0, used = 0;
    if (picture && (sscanf(picture, "%dx%d%n", &width, &height, &used) != 2 || picture[used] || width < 1 || height < 1 ||
                    width > 16384 || height > 16384))
        return cli_fail(self, EX_USAGE, "--image takes WIDTHxHEIGHT, not \"%s\"", picture);
    if (picture && !synthetic && !model.vision)
        return cli_fail(self, EX_USAGE, "--image needs a vision file: name it with -v");
    if (synthetic && model.model)
        return cli_fail(self, EX_USAGE, "-m and --synthetic exclude each other");
    const int64_t longest = n_prompt > depth + n_decode ? n_prompt : depth + n_decode;
    struct en_options engine_options = {.synthetic = synthetic,
                                        .context_tokens = (int32_t)(longest > 0 ? longest : 1),
                                        .sessions = (int32_t)sequences,
                                        .step_rows = STEP_ROWS,
                                        .max_pixels = picture ? (int64_t)(width + 32) * (height + 32) : 65536};
    if ((status = model_args_apply(self, &model, &engine_options)) != 0)
        return status;
    struct bench b = {.rows = json_array()};
    struct err err = {0};
    int rc = read_files(&b, &engine_options, &err);
    if (rc == 0)
        status = model_args_open(self, &engine_options, &b.engine);
    if (rc != 0 || status != 0) {
        json_decref(b.rows);
        return rc != 0 ? cli_error(self, &err) : status;
    }
    en_get_info(b.engine, &b.info);
    if (picture && !b.info.has_vision) {
        json_decref(b.rows);
        en_close(b.engine);
        return cli_fail(self, EX_USAGE, "--image needs a vision file: name it with -v");
    }
    int64_t took = 0;
    double bandwidth = 0;
    if ((rc = read_files(&b, &engine_options, &err)) != 0)
        goto out;
    bandwidth = en_read_bandwidth(b.engine, PROBE_BYTES);
    if (!as_json)
        print_head(&b, bandwidth);
    note_load(&b);
    char what[64];
    if (n_prompt > 0 || n_decode > 0) { /* not timed: pages that nobody has touched yet */
        const int64_t n = n_prompt < 1 ? 1 : n_prompt < STEP_ROWS ? n_prompt : STEP_ROWS;
        if ((rc = open_sessions(&b, 1, &err)) != 0 || (rc = feed(&b, (int32_t)n, 1, EN_WANT_LAST, &took, &err)) != 0)
            goto out;
        close_sessions(&b);
    }
    if (n_prompt > 0) {
        if ((rc = open_sessions(&b, 1, &err)) != 0 || (rc = feed(&b, (int32_t)n_prompt, 1, EN_WANT_NONE, &took, &err)) != 0)
            goto out;
        close_sessions(&b);
        snprintf(what, sizeof what, "prefill %lld", (long long)n_prompt);
        note_tokens(&b, what, (double)n_prompt, (double)took / 1e9, (double)took / 1e6, prompt_bytes(&b, n_prompt));
    }
    if (n_decode > 0) {
        if ((rc = open_sessions(&b, (int)sequences, &err)) != 0)
            goto out;
        if (depth > 0 && (rc = feed(&b, (int32_t)depth, 1, EN_WANT_NONE, &took, &err)) != 0)
            goto out;
        const uint64_t launched = en_launches(b.engine);
        if ((rc = decode(&b, (int32_t)n_decode, &took, &err)) != 0)
            goto out;
        const uint64_t launches = en_launches(b.engine) - launched;
        close_sessions(&b);
        const double steps = (double)n_decode;
        snprintf(what, sizeof what, "decode %lld, depth %lld, x%lld", (long long)n_decode, (long long)depth,
                 (long long)sequences);
        note_tokens(&b, what, steps * (double)sequences, (double)took / 1e9, (double)took / 1e6 / steps,
                    decode_bytes(&b, depth, n_decode, sequences));
        if (launches > 0)
            json_object_set_new(json_array_get(b.rows, json_array_size(b.rows) - 1), "launches",
                                json_real((double)launches / steps));
    }
    if (picture)
        rc = bench_vision(&b, width, height, &err);
out:
    close_sessions(&b);
    if (rc == 0) {
        bandwidth = (bandwidth + en_read_bandwidth(b.engine, PROBE_BYTES)) / 2;
        compare_rows(&b, bandwidth);
    }
    if (rc == 0 && as_json) {
        json_t *root =
            json_pack("{s:s, s:s, s:b, s:I, s:I, s:f, s:O}", "model", b.info.name, "device", b.info.device, "untrained",
                      b.info.is_untrained, "weights_bytes", (json_int_t)b.info.weights_bytes, "bytes_per_token",
                      (json_int_t)b.info.bytes_per_token, "read_bandwidth", bandwidth, "results", b.rows);
        json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(root);
    } else if (rc == 0) {
        print_rows(&b);
    }
    json_decref(b.rows);
    en_close(b.engine);
    return rc == 0 ? 0 : cli_error(self, &err);
}
