/*
 * make_model - write a small random model of the family: MODEL.gguf and, with --vision, its mmproj file.
 *
 *   make_model [options] SHAPE MODEL.gguf
 *
 * SHAPE is a preset of engine/synthetic.h (tiny-dense, tiny-moe, tiny-wide, tiny-wide-moe, or a published one, with "/LAYERS");
 * --NAME N changes one of its dimensions. Values: engine/synthetic.h. With SHAPE:TYPE it is the noise model that `heron bench --synthetic` takes, of any type and as fast as
 * the disk writes; --type and --seed do not count then. The model is untrained and says so.
 */
#include "engine/synthetic.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Dimensions that can be changed by name. */
static const struct dimension {
    const char *name;
    size_t offset;
    bool is_vision;
} dimensions[] = {
#define TEXT(option, field)                                                                                                    \
    {                                                                                                                          \
        option, offsetof(struct model_shape, field), false                                                                     \
    }
#define VISION(option, field)                                                                                                  \
    {                                                                                                                          \
        option, offsetof(struct vision_shape, field), true                                                                     \
    }
    TEXT("embd", n_embd),
    TEXT("ff", n_ff),
    TEXT("heads", n_head),
    TEXT("kv-heads", n_head_kv),
    TEXT("head-dim", head_dim),
    TEXT("rot", n_rot),
    TEXT("vocab", n_vocab),
    TEXT("k-heads", n_k),
    TEXT("v-heads", n_v),
    TEXT("k-dim", d_k),
    TEXT("v-dim", d_v),
    TEXT("experts", n_experts),
    TEXT("experts-used", n_experts_used),
    TEXT("expert-ff", n_ff_expert),
    TEXT("shared-ff", n_ff_shared),
    TEXT("context", trained_context),
    TEXT("mtp", n_nextn),
    VISION("vision-layers", n_layers),
    VISION("vision-embd", n_embd),
    VISION("vision-ff", n_ff),
    VISION("vision-heads", n_head),
    VISION("vision-grid", grid_side),
    VISION("vision-patch", patch_px),
#undef TEXT
#undef VISION
};

static int usage(FILE *out)
{
    fprintf(out, "usage: make_model [--type f32|f16|bf16|q8_0|q4_0] [--seed N] [--name TEXT] [--vision FILE] [--interval N] "
                 "[--tied 0|1]\n"
                 "                  [--merge-experts] [--bare-vocab] [--DIMENSION N]... SHAPE MODEL.gguf\n"
                 "SHAPE: ");
    for (size_t i = 0; synthetic_shape_name(i); i++)
        fprintf(out, "%s%s", i ? ", " : "", synthetic_shape_name(i));
    fprintf(out, "\nDIMENSION: ");
    for (size_t i = 0; i < sizeof dimensions / sizeof *dimensions; i++)
        fprintf(out, "%s%s", i ? ", " : "", dimensions[i].name);
    fprintf(out, "\n");
    return out == stderr ? 2 : 0;
}

static bool parse_number(const char *text, int64_t *ret_value)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end || v < 0 || v > INT32_MAX)
        return false;
    *ret_value = v;
    return true;
}

/* A head size that changes changes what is turned with it: a quarter of the head, in three even sections. */
static void settle_rotation(struct model_shape *s)
{
    const int32_t pairs = s->n_rot / 2;
    if (s->rope_sections[0] + s->rope_sections[1] + s->rope_sections[2] == pairs)
        return;
    s->rope_sections[1] = s->rope_sections[2] = pairs / 3;
    s->rope_sections[0] = pairs - 2 * (pairs / 3);
}

static bool set_dimension(struct synthetic *s, const char *name, int64_t value)
{
    for (size_t i = 0; i < sizeof dimensions / sizeof *dimensions; i++) {
        if (strcmp(dimensions[i].name, name) != 0)
            continue;
        char *base = dimensions[i].is_vision ? (char *)&s->vision : (char *)&s->shape;
        *(int32_t *)(void *)(base + dimensions[i].offset) = (int32_t)value;
        return true;
    }
    if (strcmp(name, "interval") == 0 && value > 0) {
        for (int32_t k = 0; k < s->shape.n_layers; k++)
            s->shape.is_linear[k] = (k + 1) % value != 0;
        return true;
    }
    if (strcmp(name, "tied") == 0) {
        s->shape.is_tied = value != 0;
        return true;
    }
    return false;
}

struct arguments {
    const char *shape, *path, *vision_path;
    const char *changes[64]; /* name, value, name, value */
    int n_changes;
    struct synthetic_file file;
};

static int parse_arguments(int argc, char **argv, struct arguments *a)
{
    for (int i = 1; i < argc; i++) {
        const char *s = argv[i];
        int64_t number = 0;
        if (strcmp(s, "--help") == 0)
            return usage(stdout) - 1;
        if (strncmp(s, "--", 2) != 0) {
            if (a->path)
                return usage(stderr);
            *(a->shape ? &a->path : &a->shape) = s;
        } else if (strcmp(s, "--merge-experts") == 0) {
            a->file.merge_experts = true;
        } else if (strcmp(s, "--bare-vocab") == 0) {
            a->file.bare_vocab = true;
        } else if (i + 1 == argc) {
            return usage(stderr);
        } else if (strcmp(s, "--type") == 0) {
            if (!kn_dtype_parse(argv[++i], &a->file.dtype))
                return usage(stderr);
        } else if (strcmp(s, "--name") == 0) {
            a->file.name = argv[++i];
        } else if (strcmp(s, "--vision") == 0) {
            a->vision_path = argv[++i];
        } else if (!parse_number(argv[++i], &number)) {
            fprintf(stderr, "make_model: %s: \"%s\" is no number\n", s, argv[i]);
            return 2;
        } else if (strcmp(s, "--seed") == 0) {
            a->file.seed = (uint64_t)number;
        } else if (a->n_changes + 2 <= (int)(sizeof a->changes / sizeof *a->changes)) {
            a->changes[a->n_changes++] = s + 2;
            a->changes[a->n_changes++] = argv[i];
        }
    }
    return a->path ? 0 : usage(stderr);
}

int main(int argc, char **argv)
{
    struct arguments a = {.file = {.seed = 1, .dtype = KN_F32}};
    struct synthetic s = {0};
    struct err err = {0};
    int rc = parse_arguments(argc, argv, &a);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    rc = synthetic_parse(a.shape, &s, &err);
    if (rc == 0 && strchr(a.shape, ':'))
        a.file.noise = &s;
    for (int i = 0; rc == 0 && i < a.n_changes; i += 2) {
        int64_t value;
        parse_number(a.changes[i + 1], &value);
        if (!set_dimension(&s, a.changes[i], value))
            rc = err_set(&err, ERR_INVAL, "no dimension is called --%s", a.changes[i]);
    }
    if (rc == 0) {
        settle_rotation(&s.shape);
        rc = synthetic_write_model(a.path, &s.shape, &a.file, &err);
    }
    if (rc == 0 && a.vision_path) {
        s.vision.n_out = s.shape.n_embd;
        rc = synthetic_write_vision(a.vision_path, &s.vision, &a.file, &err);
    }
    synthetic_release(&s);
    if (rc < 0)
        fprintf(stderr, "make_model: %s\n", err.text);
    return rc < 0;
}
