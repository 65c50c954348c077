/* The lens: what it says of a pixel is what it makes of it, and light, fog and rain do what they should. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "pipeline/scene_lens.h"

enum { W = 192, H = 108, PX = W * H };

struct rig {
    struct yard yard;
    struct scene_lens *lens;
    uint8_t glow[PX], map[PX], drawn[PX * 3], picture[PX * 3], emit[256];
    float depth_m[256];
};

static struct rig *rig_open(void)
{
    struct rig *r = test_malloc(sizeof *r);
    struct err err = {0};
    memset(r, 0, sizeof *r);
    yard_init(&r->yard, 5, W, H);
    assert_ok(scene_lens_open(&r->yard.view, 5, W, H, &r->lens, &err), &err);
    return r;
}

static void rig_close(struct rig *r)
{
    scene_lens_close(r->lens);
    test_free(r);
}

static void rig_apply(struct rig *r, const struct yard_sky *sky, uint64_t i_frame)
{
    memcpy(r->picture, r->drawn, sizeof r->picture);
    scene_lens_apply(r->lens, sky, i_frame, r->glow, r->map, r->depth_m, r->emit, r->picture, W * 3);
}

static void rig_look(const struct rig *r, int at, uint8_t ret_rgb[3])
{
    uint8_t id = r->map[at];
    scene_lens_look(r->lens, at % W, at / W, r->glow[at], id, r->emit[id], r->drawn + at * 3, ret_rgb);
}

/* The mean of the three channels over all pixels of an even scene, drawn in grey. */
static double rig_mean(struct rig *r, const struct yard_sky *sky, int grey, int id, int glow, int y0, int y1)
{
    memset(r->drawn, grey, sizeof r->drawn);
    memset(r->map, id, sizeof r->map);
    memset(r->glow, glow, sizeof r->glow);
    rig_apply(r, sky, 1);
    double sum = 0;
    for (int i = y0 * W; i < y1 * W; i++) {
        uint8_t v[3];
        rig_look(r, i, v);
        sum += v[0] + v[1] + v[2];
    }
    return sum / (3.0 * W * (y1 - y0));
}

static const struct yard_sky clear_day = {.day = 1, .exposure = 1}, dusk = {.day = 0.5, .dusk = 1, .exposure = 1.06},
                             night = {.exposure = 0.94}, fog = {.day = 0.9, .fog = 0.5, .exposure = 1},
                             rain_day = {.day = 0.8, .rain = 1, .wind = 0.4, .exposure = 1},
                             rain_night = {.day = 0.1, .dusk = 0.2, .rain = 0.6, .fog = 0.1, .exposure = 1};

/*
 * Whatever is drawn, lamps, things and all: the picture is within the noise of what the lens says of each pixel. Where it rains drops are before some pixels.
 */
static void look_is_the_picture(void **state)
{
    static const struct yard_sky *const skies[] = {&clear_day, &dusk, &night, &fog, &rain_day, &rain_night};
    struct rig *r = rig_open();
    struct rng rng = {.seed = 77};
    for (int i = 1; i < 256; i++) {
        r->depth_m[i] = (float)(8 + 40 * rng_unit(&rng));
        r->emit[i] = i % 5 == 0 ? (uint8_t)(rng_next(&rng) & 255) : 0;
    }
    for (size_t k = 0; k < sizeof skies / sizeof skies[0]; k++) {
        /* patches: a mirror one byte beside the right one is seen, and no channel is clamped much */
        for (int i = 0; i < PX; i++) {
            uint64_t bits = rng_at(k, (uint64_t)(i / W / 3 * W + i % W / 3));
            r->map[i] = bits & 1 ? 0 : (uint8_t)(bits >> 8);
            r->glow[i] = bits & 2 ? 0 : (uint8_t)(bits >> 16);
            for (int c = 0; c < 3; c++)
                r->drawn[i * 3 + c] = (uint8_t)(30 + (bits >> (24 + 8 * c) & 255) * 190 / 255);
        }
        rig_apply(r, skies[k], k);
        double is_most = skies[k]->day > 0.5 ? 6 : 12; /* the noise has no more, and one step is rounding */
        int n_above = 0;
        double sum = 0;
        int n = 0;
        for (int i = 0; i < PX; i++) {
            uint8_t v[3];
            rig_look(r, i, v);
            bool is_above = false;
            for (int c = 0; c < 3; c++) {
                int d = r->picture[i * 3 + c] - v[c];
                if (d < -is_most)
                    fail_msg("sky %zu, pixel %d, %d: %d in the picture, %d by the lens", k, i % W, i / W, r->picture[i * 3 + c],
                             v[c]);
                is_above |= d > is_most;
                if (d <= is_most && v[c] > 20 && v[c] < 235) {
                    sum += d;
                    n++;
                }
            }
            n_above += is_above;
        }
        if (skies[k]->rain > 0)
            assert_true(n_above > 0 && n_above < PX * 6 / 10);
        else
            assert_int_equal(n_above, 0);
        assert_true(n > PX);
        if (skies[k]->rain == 0 && (sum / n > 0.15 || sum / n < -0.15))
            fail_msg("sky %zu: on the mean the picture is %.2f brighter", k, sum / n);
    }
    rig_close(r);
}

/* Night is darker than dusk, dusk than day; lamps help by night and do nothing by day; what shines itself is as bright as ever. */
static void light(void **state)
{
    struct rig *r = rig_open();
    r->depth_m[1] = 12;
    double by_day = rig_mean(r, &clear_day, 120, 1, 0, 60, H), by_dusk = rig_mean(r, &dusk, 120, 1, 0, 60, H),
           by_night = rig_mean(r, &night, 120, 1, 0, 60, H), lit = rig_mean(r, &night, 120, 1, 255, 60, H);
    assert_true(by_night < 0.5 * by_day && by_night < by_dusk && by_dusk < by_day);
    assert_true(lit > 2 * by_night);
    assert_true(rig_mean(r, &clear_day, 120, 1, 255, 60, H) == by_day);
    struct yard_sky bright = clear_day;
    bright.exposure = 1.1;
    double more = rig_mean(r, &bright, 120, 1, 0, 60, H) / by_day;
    assert_true(more > 1.07 && more < 1.13);
    r->emit[1] = 255;
    double shines = rig_mean(r, &night, 120, 1, 0, 60, H) / by_day;
    assert_true(shines > 0.9 && shines < 1);
    /* the sky has a light of its own by night: darker than the ground's */
    r->emit[1] = 0;
    int horizon = (int)scene_view_horizon(&r->yard.view);
    assert_true(horizon > 8);
    assert_true(rig_mean(r, &night, 120, 1, 0, 0, horizon / 2) < 0.85 * by_night);
    rig_close(r);
}

/* Fog takes contrast by distance; objects have their own distance, not the ground's behind them. */
static void fog_by_distance(void **state)
{
    struct rig *r = rig_open();
    r->depth_m[1] = 10;
    r->depth_m[2] = 30;
    double near = rig_mean(r, &fog, 220, 1, 0, 70, 90) - rig_mean(r, &fog, 20, 1, 0, 70, 90);
    double far = rig_mean(r, &fog, 220, 2, 0, 70, 90) - rig_mean(r, &fog, 20, 2, 0, 70, 90);
    assert_true(near > 1.3 * far && far > 40);
    double ground = rig_mean(r, &fog, 220, 0, 0, H - 4, H) - rig_mean(r, &fog, 20, 0, 0, H - 4, H);
    double up = rig_mean(r, &fog, 220, 0, 0, H / 2, H / 2 + 4) - rig_mean(r, &fog, 20, 0, 0, H / 2, H / 2 + 4);
    assert_true(ground > up);
    rig_close(r);
}

/* Rain: the ground is darker than an object drawn alike, mirrors what is above it, and colours fade. */
static void wet_ground(void **state)
{
    struct rig *r = rig_open();
    r->depth_m[1] = 12;
    double thing = rig_mean(r, &rain_day, 120, 1, 0, 80, H), ground = rig_mean(r, &rain_day, 120, 0, 0, 80, H);
    assert_true(ground < 0.95 * thing);
    assert_true(rig_mean(r, &clear_day, 120, 0, 0, 80, H) > 0.98 * rig_mean(r, &clear_day, 120, 1, 0, 80, H));
    /* the same ground below a dark and below a bright wall */
    double with[2];
    for (int i = 0; i < 2; i++) {
        memset(r->map, 0, sizeof r->map);
        memset(r->glow, 0, sizeof r->glow);
        memset(r->drawn, i ? 230 : 20, sizeof r->drawn);
        memset(r->drawn + 80 * W * 3, 120, (H - 80) * W * 3);
        rig_apply(r, &rain_day, 1);
        with[i] = 0;
        for (int at = 80 * W; at < PX; at++) {
            uint8_t v[3];
            rig_look(r, at, v);
            with[i] += v[1] / (double)(PX - 80 * W);
        }
    }
    assert_true(with[1] > with[0] + 4);
    uint8_t red[2][3];
    for (int i = 0; i < 2; i++) {
        for (int at = 0; at < PX; at++)
            memcpy(r->drawn + at * 3, (uint8_t[]){180, 60, 60}, 3);
        memset(r->map, 1, sizeof r->map);
        rig_apply(r, i ? &rain_day : &clear_day, 1);
        rig_look(r, 80 * W + W / 2, red[i]);
    }
    assert_true((red[1][0] - red[1][1]) * 10 < (red[0][0] - red[0][1]) * 8);
    rig_close(r);
}

/* The same frame has the same bytes, whatever was applied before; noise and drops are another frame's otherwise. */
static void by_frame(void **state)
{
    struct rig *r = rig_open();
    uint8_t *kept = test_malloc(sizeof r->picture);
    memset(r->drawn, 100, sizeof r->drawn);
    rig_apply(r, &rain_night, 7);
    memcpy(kept, r->picture, sizeof r->picture);
    rig_apply(r, &clear_day, 8);
    rig_apply(r, &rain_night, 8);
    assert_memory_not_equal(kept, r->picture, sizeof r->picture);
    rig_apply(r, &rain_night, 7);
    assert_memory_equal(kept, r->picture, sizeof r->picture);
    test_free(kept);
    rig_close(r);
    scene_lens_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(look_is_the_picture), cmocka_unit_test(light),    cmocka_unit_test(fog_by_distance),
        cmocka_unit_test(wet_ground),          cmocka_unit_test(by_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
