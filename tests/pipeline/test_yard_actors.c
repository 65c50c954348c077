/* The actors of the yard: each is as large as it says, cut or not, from all sides; shadows, light, colours. */
#include "tests/support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "pipeline/draw.h"
#include "pipeline/yard.h"

enum { W = 341, H = 192 };

struct stage {
    struct yard yard;
    struct canvas c;
    struct yard_sky sky;
    uint8_t rgb[H * W * 3];
};

static void stage_init(struct stage *s, uint64_t seed)
{
    struct err err = {0};
    memset(s, 0, sizeof *s);
    yard_init(&s->yard, seed, W, H);
    assert_ok(canvas_init(&s->c, W, H, true, &err), &err);
    s->c.rgb = s->rgb;
    s->c.stride_bytes = W * 3;
    s->sky = (struct yard_sky){.day = 1, .sun = 0.1, .wind = 0.5, .exposure = 1};
}

static void stage_clear(struct stage *s, int grey)
{
    memset(s->rgb, grey, sizeof s->rgb);
    memset(s->c.map, 0, (size_t)W * H);
    s->c.id = 1;
}

static int stage_count(const struct stage *s, int id)
{
    int n = 0;
    for (int i = 0; i < W * H; i++)
        n += s->c.map[i] == id;
    return n;
}

static const struct kind {
    enum scene_type type;
    enum scene_pose pose;
    enum scene_colour colour;
    double least_m2, most_m2; /* of its outline, from whichever side */
} kinds[] = {
    {SCENE_PERSON, SCENE_STANDING, SCENE_RED, 0.25, 1.0},    {SCENE_PERSON, SCENE_WALKING, SCENE_VEST, 0.3, 1.0},
    {SCENE_PERSON, SCENE_LYING, SCENE_BLUE, 0.18, 0.8},      {SCENE_CAR, SCENE_PARKED, SCENE_GREY, 2.3, 8.0},
    {SCENE_VAN, SCENE_DRIVING, SCENE_WHITE, 4.5, 17.0},      {SCENE_DOG, SCENE_STANDING, SCENE_BROWN, 0.2, 0.8},
    {SCENE_DOG, SCENE_WALKING, SCENE_BLACK, 0.2, 0.8},       {SCENE_BIRD, SCENE_STANDING, SCENE_GREY, 0.09, 0.36},
    {SCENE_BIRD, SCENE_WALKING, SCENE_WHITE, 0.13, 0.48},    {SCENE_BIRD, SCENE_FLYING, SCENE_GREY, 0.1, 0.55},
    {SCENE_BIRD, SCENE_FLYING, SCENE_WHITE, 0.12, 0.6},      {SCENE_BOX, SCENE_NO_POSE, SCENE_BROWN, 0.35, 1.0},
    {SCENE_BAG, SCENE_NO_POSE, SCENE_RED, 0.12, 0.5},        {SCENE_FIRE, SCENE_NO_POSE, SCENE_NO_COLOUR, 0.6, 2.0},
    {SCENE_SMOKE, SCENE_NO_POSE, SCENE_NO_COLOUR, 3.0, 6.5},
};

enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static struct yard_actor actor_of(const struct kind *k, double x, double z, double turn, double phase)
{
    return (struct yard_actor){.type = k->type,
                               .colour = k->colour,
                               .pose = k->pose,
                               .id = 1,
                               .at = {x, k->pose == SCENE_FLYING ? 2.0 : 0, z},
                               .dx = draw_cos(turn),
                               .dz = draw_sin(turn),
                               .phase = phase,
                               .size = 1,
                               .look = rng_at(77, (uint64_t)(z * 8 + turn * 64))};
}

/* Uncovered and uncut, what it says that it would show is what the map has of it, and that is about what its outline has in metres. */
static void size(void **state)
{
    struct stage *s = test_malloc(sizeof *s);
    for (uint64_t seed = 1; seed <= 2; seed++) {
        stage_init(s, seed);
        for (int i = 0; i < N_KINDS; i++)
            for (int z = 14; z <= 24; z += 5)
                for (int turn = 0; turn < 8; turn++) {
                    const struct kind *k = &kinds[i];
                    bool is_flame = k->type == SCENE_FIRE || k->type == SCENE_SMOKE;
                    struct yard_actor a = actor_of(k, -2, z, turn / 8.0, is_flame ? 8 + turn : turn * 0.13);
                    struct yard_trace trace = {0};
                    stage_clear(s, 100);
                    yard_actor_draw(&s->yard, &s->c, &a, &s->sky, &trace);
                    double seen = stage_count(s, 1), m = scene_view_scale(&s->yard.view, a.at), share = seen / trace.full_px;
                    if (share < 0.85 || share > 1.0001 || seen < k->least_m2 * m * m || seen > k->most_m2 * m * m)
                        fail_msg("kind %d at %d m, turn %d/8: %.0f pixels, %.3f m2, share %.3f", i, z, turn, seen,
                                 seen / (m * m), share);
                }
        canvas_release(&s->c);
    }
    test_free(s);
}

/* Cut by the picture's edge it still says how large it is, which a wider picture of the same camera shows; beyond the edge it writes nothing. */
static void cut(void **state)
{
    enum { MARGIN = 160, WIDE = W + 2 * MARGIN };
    struct stage *s = test_malloc(sizeof *s);
    uint8_t *wide_rgb = test_malloc(WIDE * H * 3);
    struct err err = {0};
    struct canvas wide;
    stage_init(s, 3);
    assert_ok(canvas_init(&wide, WIDE, H, true, &err), &err);
    memset(wide_rgb, 100, WIDE * H * 3);
    wide.rgb = wide_rgb;
    wide.stride_bytes = WIDE * 3;
    wide.id = 1;
    struct yard wide_yard = s->yard;
    wide_yard.view.cx += MARGIN;
    for (int i = 0; i < N_KINDS; i++) {
        int n_cut = 0;
        for (double x = 8; x < 16; x += 0.1) {
            struct yard_actor a = actor_of(&kinds[i], x, 18, 0.04, 8.1);
            a.look = 5;
            struct yard_trace trace = {0}, whole = {0};
            stage_clear(s, 100);
            memset(wide.map, 0, (size_t)WIDE * H);
            yard_actor_draw(&s->yard, &s->c, &a, &s->sky, &trace);
            yard_actor_draw(&wide_yard, &wide, &a, &s->sky, &whole);
            double seen = stage_count(s, 1), share = seen / whole.full_px;
            n_cut += share > 0.3 && share < 0.8;
            /* what decides is whether at least 0.4 of it is visible */
            if (fabs(seen / trace.full_px - share) > 0.15)
                fail_msg("kind %d at x %.1f: %.0f pixels seen, says %.0f, has %.0f", i, x, seen, trace.full_px, whole.full_px);
        }
        assert_true(n_cut > 0);
        struct yard_actor a = actor_of(&kinds[i], 60, 18, 0.04, 8.1);
        struct yard_trace trace = {0};
        stage_clear(s, 100);
        yard_actor_draw(&s->yard, &s->c, &a, &s->sky, &trace);
        assert_int_equal(stage_count(s, 1), 0);
        assert_true(trace.full_px >= 1);
    }
    canvas_release(&wide);
    canvas_release(&s->c);
    test_free(wide_rgb);
    test_free(s);
}

/* Drawn twice, the same bytes. */
static void pure(void **state)
{
    struct stage *s = test_malloc(sizeof *s);
    uint8_t *first = test_malloc(sizeof s->rgb);
    stage_init(s, 4);
    for (int i = 0; i < N_KINDS; i++) {
        struct yard_actor a = actor_of(&kinds[i], 1, 17, 0.3, 6.3);
        struct yard_trace one = {0}, two = {0};
        stage_clear(s, 90);
        yard_actor_draw_shadow(&s->yard, &s->c, &a, &s->sky);
        assert_int_equal(stage_count(s, 1), 0); /* a shadow is nobody's */
        yard_actor_draw(&s->yard, &s->c, &a, &s->sky, &one);
        memcpy(first, s->rgb, sizeof s->rgb);
        stage_clear(s, 90);
        yard_actor_draw_shadow(&s->yard, &s->c, &a, &s->sky);
        yard_actor_draw(&s->yard, &s->c, &a, &s->sky, &two);
        assert_memory_equal(first, s->rgb, sizeof s->rgb);
        assert_true(one.full_px == two.full_px);
        assert_int_equal(s->c.map_opacity, 128); /* smoke puts back what it borrowed */
    }
    canvas_release(&s->c);
    test_free(first);
    test_free(s);
}

/* The sun casts a shadow to its side; rain, fog and night do not. */
static void shadows(void **state)
{
    struct stage *s = test_malloc(sizeof *s);
    stage_init(s, 5);
    struct yard_actor a = actor_of(&kinds[3], 0, 17, 0.5, 0);
    int dark[4];
    for (int k = 0; k < 4; k++) {
        s->sky = (struct yard_sky){.day = k == 3 ? 0 : 1, .sun = 0.2, .rain = k == 1, .fog = k == 2, .exposure = 1};
        stage_clear(s, 100);
        yard_actor_draw_shadow(&s->yard, &s->c, &a, &s->sky);
        dark[k] = 0;
        for (int i = 0; i < W * H; i++)
            dark[k] += s->rgb[i * 3] < 90;
    }
    assert_true(dark[0] > dark[1] * 1.2 && dark[1] > 50);
    assert_int_equal(dark[1], dark[2]);
    assert_int_equal(dark[1], dark[3]);
    canvas_release(&s->c);
    test_free(s);
}

/* Lamps that are on and fires shine, what stands dark does not; light is added, never taken. */
static void light(void **state)
{
    struct stage *s = test_malloc(sizeof *s);
    uint8_t *glow = test_malloc(W * H);
    stage_init(s, 6);
    s->sky.day = 0;
    for (int i = 0; i < N_KINDS; i++)
        for (int on = 0; on < 2; on++) {
            struct yard_actor a = actor_of(&kinds[i], 0, 18, 0.75, 5);
            a.has_lights = on;
            memset(glow, 17, W * H);
            yard_actor_glow(&s->yard, &a, &s->sky, W, H, glow);
            int n_brighter = 0;
            for (int k = 0; k < W * H; k++) {
                assert_true(glow[k] >= 17);
                n_brighter += glow[k] > 17;
            }
            bool is_vehicle = a.type == SCENE_CAR || a.type == SCENE_VAN;
            bool shines = a.type == SCENE_FIRE || (is_vehicle && on);
            assert_true(shines ? n_brighter > 300 : n_brighter == 0);
        }
    test_free(glow);
    canvas_release(&s->c);
    test_free(s);
}

/* The mean of what it drew, by day. */
static void mean_of(struct stage *s, const struct yard_actor *a, double ret_mean[3])
{
    struct yard_trace trace = {0};
    stage_clear(s, 100);
    yard_actor_draw(&s->yard, &s->c, a, &s->sky, &trace);
    double n = stage_count(s, 1);
    for (int k = 0; k < 3; k++) {
        ret_mean[k] = 0;
        for (int i = 0; i < W * H; i++)
            ret_mean[k] += s->c.map[i] == 1 ? s->rgb[i * 3 + k] / n : 0;
    }
}

/* Two colours of the same thing are told apart by its mean alone, from every side. */
static void colours(void **state)
{
    static const enum scene_colour people[] = {SCENE_RED,   SCENE_BLUE,  SCENE_GREEN, SCENE_YELLOW,
                                               SCENE_WHITE, SCENE_BLACK, SCENE_VEST},
                                   vehicles[] = {SCENE_WHITE, SCENE_BLACK, SCENE_GREY, SCENE_RED, SCENE_BLUE, SCENE_GREEN};
    struct stage *s = test_malloc(sizeof *s);
    stage_init(s, 7);
    for (int what = 0; what < 3; what++) {
        struct kind kind = kinds[what == 0 ? 0 : what == 1 ? 2 : 3];
        int n = what < 2 ? 7 : 6;
        for (int turn = 0; turn < 4; turn++)
            for (int i = 0; i < n; i++)
                for (int j = 0; j < i; j++) {
                    double u[3], v[3], d = 0;
                    kind.colour = what < 2 ? people[i] : vehicles[i];
                    struct yard_actor a = actor_of(&kind, 0, 17, turn / 4.0, 0.1), b = a;
                    b.colour = what < 2 ? people[j] : vehicles[j];
                    mean_of(s, &a, u);
                    mean_of(s, &b, v);
                    for (int k = 0; k < 3; k++)
                        d += fabs(u[k] - v[k]);
                    if (d < 24)
                        fail_msg("colours %d and %d of kind %d, turn %d/4: %.1f apart", a.colour, b.colour, what, turn, d);
                }
    }
    canvas_release(&s->c);
    test_free(s);
}

/* Anything that a world may ask for is drawn without harm: near, far, behind the camera, tiny, huge, any phase (ASan and UBSan watch). */
static void anywhere(void **state)
{
    struct stage *s = test_malloc(sizeof *s);
    uint8_t *glow = test_malloc(W * H);
    stage_init(s, 8);
    struct rng r = {.seed = 9};
    stage_clear(s, 100);
    memset(glow, 0, W * H);
    int n_shown = 0;
    for (int i = 0; i < 600; i++) {
        struct yard_actor a = actor_of(&kinds[i % N_KINDS], (rng_unit(&r) - 0.5) * 200, (rng_unit(&r) - 0.2) * 120,
                                       rng_unit(&r), (rng_unit(&r) - 0.2) * 1e4);
        a.look = rng_next(&r);
        a.size = rng_unit(&r) * (i % 5 ? 1.3 : 4);
        a.colour = (enum scene_colour)rng_below(&r, SCENE_N_COLOURS);
        a.has_lights = i % 2;
        s->sky.sun = rng_unit(&r) * 0.5 - 0.25;
        s->sky.day = rng_unit(&r);
        s->sky.wind = rng_unit(&r) * 2 - 1;
        struct yard_trace trace = {0};
        memset(s->c.map, 0, (size_t)W * H);
        yard_actor_draw_shadow(&s->yard, &s->c, &a, &s->sky);
        yard_actor_draw(&s->yard, &s->c, &a, &s->sky, &trace);
        yard_actor_glow(&s->yard, &a, &s->sky, W, H, glow);
        /* what it shows is a part of what it says that it would show, and that is something */
        int seen_px = stage_count(s, 1);
        assert_true(trace.full_px >= 1 && trace.full_px < 1e9 && seen_px <= trace.full_px + 0.5);
        n_shown += seen_px > 0;
    }
    assert_true(n_shown > 100 && n_shown < 500);
    for (int i = 0; i < W + 2; i++)
        assert_int_equal(s->c.row[i], 0);
    test_free(glow);
    canvas_release(&s->c);
    test_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size),  cmocka_unit_test(cut),     cmocka_unit_test(pure),     cmocka_unit_test(shadows),
        cmocka_unit_test(light), cmocka_unit_test(colours), cmocka_unit_test(anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
