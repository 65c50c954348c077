/* The yard's world: the same at any time asked in any order, nobody jumps, nobody runs into vehicles, the gate is open for who passes. */
#include "tests/support/test.h"

#include <math.h>
#include <string.h>

#include "pipeline/yard.h"
#include "pipeline/yard_traffic.h"

enum { SEEDS = 12 };

static const struct yard_actor *actor_of(const struct yard_moment *m, int id)
{
    for (int i = 0; i < m->n_actors; i++)
        if (m->actor[i].id == id)
            return &m->actor[i];
    return NULL;
}

static bool is_vehicle(const struct yard_actor *a)
{
    return a->type == SCENE_CAR || a->type == SCENE_VAN;
}

static void pure(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct yard a, b;
        yard_init(&a, seed, 341, 192);
        yard_init(&b, seed, 341, 192);
        struct yard_moment m, n, other;
        memset(&m, 0, sizeof m);
        memset(&n, 0xFF, sizeof n);
        for (int i = 0; i < 20; i++) {
            yard_at(&a, i * 61.7, &m);
            yard_at(&b, 5000 - i * 13.0, &other);
            yard_at(&b, i * 61.7, &n);
            assert_int_equal(m.n_actors, n.n_actors);
            const struct yard_sky *u = &m.sky, *v = &n.sky;
            assert_true(u->day == v->day && u->dusk == v->dusk && u->sun == v->sun && u->rain == v->rain && u->fog == v->fog &&
                        u->wind == v->wind && u->exposure == v->exposure && m.t_s == n.t_s);
            assert_true(m.gate_open == n.gate_open && m.dock_open == n.dock_open &&
                        memcmp(m.is_bay_taken, n.is_bay_taken, sizeof m.is_bay_taken) == 0);
            for (int k = 0; k < m.n_actors; k++) {
                const struct yard_actor *p = &m.actor[k], *q = &n.actor[k];
                assert_true(p->id == q->id && p->at.x == q->at.x && p->at.y == q->at.y && p->at.z == q->at.z);
                assert_true(p->dx == q->dx && p->dz == q->dz && p->phase == q->phase && p->size == q->size);
                assert_true(p->type == q->type && p->colour == q->colour && p->pose == q->pose && p->look == q->look &&
                            p->has_lights == q->has_lights);
            }
        }
    }
}

/* Far before the beginning, and far beyond any demonstration: to frame number 2^64 - 1 at a frame every ten seconds. */
static void any_time(void **state)
{
    static const double times[] = {-1e300, -1e16, -1e12, -2e5, -100, 0, 1e6, 1e9, 1e12, 1e16, 2e17, 1.8e20, 1e300};
    struct yard y;
    yard_init(&y, 3, 341, 192);
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        struct yard_moment m;
        yard_at(&y, times[i], &m);
        assert_true(m.t_s == times[i]);
        assert_true(m.n_actors >= 0 && m.n_actors <= SCENE_MAX_THINGS);
        for (int k = 0; k < m.n_actors; k++)
            assert_true(isfinite(m.actor[k].at.x) && isfinite(m.actor[k].at.z) && m.actor[k].at.z > 5 && m.actor[k].at.z < 60);
    }
}

/* From one tenth of a second to the next everybody with the same id is near, faces about the same way, and looks the same. */
static void nobody_jumps(void **state)
{
    int n = 0;
    for (uint64_t seed = 1; seed <= SEEDS / 3; seed++) {
        struct yard y;
        yard_init(&y, seed, 341, 192);
        struct yard_moment m, before;
        yard_at(&y, 0, &before);
        for (int i = 1; i < 3000; i++) {
            yard_at(&y, i * 0.1, &m);
            for (int k = 0; k < m.n_actors; k++) {
                const struct yard_actor *a = &m.actor[k], *b = actor_of(&before, a->id);
                for (int j = 0; j < k; j++)
                    assert_int_not_equal(m.actor[j].id, a->id);
                if (!b)
                    continue;
                n++;
                double dx = a->at.x - b->at.x, dy = a->at.y - b->at.y, dz = a->at.z - b->at.z,
                       d = sqrt(dx * dx + dy * dy + dz * dz);
                double turn = a->dx * b->dx + a->dz * b->dz;
                double fast = is_vehicle(a) ? 0.95 : a->pose == SCENE_FLYING || b->pose == SCENE_FLYING ? 0.8 : 0.3;
                assert_true(a->type == b->type && a->colour == b->colour && a->look == b->look);
                assert_true(fabs(a->dx * a->dx + a->dz * a->dz - 1) < 1e-5);
                if (d > fast || (is_vehicle(a) && turn < 0.9))
                    fail_msg("seed %d, t %.1f: a %s (id %d) moves %.2f m, turns to %.2f", (int)seed, i * 0.1,
                             scene_type_name(a->type), a->id, d, turn);
            }
            if (fabs(m.gate_open - before.gate_open) > 0.06)
                fail_msg("seed %d, t %.1f: the gate jumps from %.2f to %.2f", (int)seed, i * 0.1, before.gate_open,
                         m.gate_open);
            assert_true(fabs(m.gate_open - before.gate_open) < 0.06 && fabs(m.dock_open - before.dock_open) < 0.06);
            assert_true(fabs(m.sky.day - before.sky.day) < 0.01 && fabs(m.sky.rain - before.sky.rain) < 0.02);
            before = m;
        }
    }
    assert_true(n > 20000);
}

static bool is_inside(const struct yard_actor *v, double grow_m, double x, double z)
{
    double rx = x - v->at.x, rz = z - v->at.z, half = yard_vehicle_half_long_m(v->type),
           wide = v->type == SCENE_VAN ? 1.0 : 0.88;
    return fabs(rx * v->dx + rz * v->dz) < half + grow_m && fabs(rx * v->dz - rz * v->dx) < wide + grow_m;
}

/* One vehicle moves at a time; none drives through another, nor through people, animals, objects; and the gate is open where one is in it. */
static void nothing_collides(void **state)
{
    int n_moving = 0, n_gate = 0, n_walking = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct yard y;
        yard_init(&y, seed, 341, 192);
        for (int i = 0; i < 600; i++) {
            struct yard_moment m;
            yard_at(&y, i * 0.5, &m);
            int moving = 0;
            for (int k = 0; k < m.n_actors; k++) {
                const struct yard_actor *a = &m.actor[k];
                bool is_in_gate = fabs(a->at.z - y.fence_z) < 0.5 && a->at.x > y.gate_x0 && a->at.x < y.gate_x1;
                if (is_in_gate && a->pose != SCENE_STANDING && m.gate_open < 0.99)
                    fail_msg("seed %d, t %.1f: a %s in the gate, open %.2f", (int)seed, i * 0.5, scene_type_name(a->type),
                             m.gate_open);
                n_gate += is_in_gate;
                n_walking += a->pose == SCENE_WALKING;
                bool is_at_wall = fabs(a->at.z - y.fence_z) < 0.15 && a->at.x < y.gate_x0;
                assert_false(is_at_wall);
                if (!is_vehicle(a))
                    continue;
                moving += a->pose == SCENE_DRIVING;
                for (int j = 0; j < m.n_actors; j++) {
                    const struct yard_actor *b = &m.actor[j];
                    if (j == k || b->type == SCENE_FIRE || b->pose == SCENE_FLYING ||
                        (is_vehicle(b) && a->pose != SCENE_DRIVING))
                        continue;
                    bool hits = is_inside(a, is_vehicle(b) ? 0 : -0.1, b->at.x, b->at.z);
                    for (int e = -1; e <= 1 && is_vehicle(b); e += 2)
                        hits |= is_inside(a, 0.3, b->at.x + e * b->dx * 2, b->at.z + e * b->dz * 2);
                    if (hits && b->at.z < y.fence_z)
                        fail_msg("seed %d, t %.1f: a %s at %.1f, %.1f and a %s at %.1f, %.1f", (int)seed, i * 0.5,
                                 scene_type_name(a->type), a->at.x, a->at.z, scene_type_name(b->type), b->at.x, b->at.z);
                }
            }
            assert_true(moving <= 1);
            n_moving += moving;
        }
    }
    assert_true(n_moving > 500 && n_gate > 20 && n_walking > 2000);
}

static double distance_m(const struct yard_actor *a, const struct yard_actor *b)
{
    return hypot(a->at.x - b->at.x, a->at.z - b->at.z);
}

/* How near b may come to a that lies, burns, smokes or stands there; 0: it is nothing of the kind, or the two belong together. */
static double keeps_off_m(const struct yard_actor *a, const struct yard_actor *b)
{
    bool is_hazard = a->type == SCENE_FIRE || a->type == SCENE_SMOKE || a->pose == SCENE_LYING;
    bool is_object = a->type == SCENE_BOX || a->type == SCENE_BAG, is_left = b->type == SCENE_BOX || b->type == SCENE_BAG;
    bool is_own = is_object && (b->id == a->id + 1 || b->id == a->id + 2); /* who brings it, who takes it away */
    /* walks are looked at every 0.8 s, in which a person goes 1.2 m: so nearer than 1.5 and 0.9 m in between */
    if (is_hazard)
        return is_left || b->pose == SCENE_LYING ? 1.45 : b->type == SCENE_PERSON ? 1.3 : 0;
    return is_object && !is_own && b->type == SCENE_PERSON ? 0.6 : 0;
}

/* Nobody lies in a bag, no box stands in a fire, and who walks goes around them, also who belongs to another incident. */
static void incidents_keep_clear_of_each_other(void **state)
{
    int n = 0, n_objects = 0;
    for (uint64_t seed = 1; seed <= 2 * SEEDS; seed++) {
        struct yard y;
        yard_init(&y, seed, 341, 192);
        for (int i = 0; i < 400; i++) {
            struct yard_moment m;
            yard_at(&y, i * 3.0, &m);
            for (int k = 0; k < m.n_actors; k++)
                for (int j = 0; j < m.n_actors; j++) {
                    const struct yard_actor *a = &m.actor[k], *b = &m.actor[j];
                    double least_m = j == k ? 0 : keeps_off_m(a, b);
                    n += least_m > 0;
                    n_objects += least_m > 0 && (b->type == SCENE_BOX || b->type == SCENE_BAG);
                    if (distance_m(a, b) < least_m)
                        fail_msg("seed %d, t %d: a %s (%d) is %.2f m from a %s (%d)", (int)seed, i * 3,
                                 scene_type_name(b->type), b->id, distance_m(a, b), scene_type_name(a->type), a->id);
                }
        }
    }
    assert_true(n > 800 && n_objects > 40);
}

/* Bays count as taken while a vehicle stands in them. */
static void bays(void **state)
{
    int n_free = 0, n_all = 0;
    for (uint64_t seed = 1; seed <= 6 * SEEDS; seed++) {
        struct yard y;
        yard_init(&y, seed, 341, 192);
        for (int i = 0; i < 20; i++) {
            struct yard_moment m;
            yard_at(&y, i * 97.0, &m);
            int n = 0, n_taken = 0;
            for (int k = 0; k < m.n_actors; k++) {
                if (m.actor[k].pose != SCENE_PARKED || yard_place(&y, m.actor[k].type, m.actor[k].at) != SCENE_IN_BAY)
                    continue;
                n++;
                assert_true(m.is_bay_taken[(int)floor((m.actor[k].at.x - y.bay_x) / y.bay_pitch_m + 0.5)]);
            }
            for (int k = 0; k < YARD_MAX_BAYS; k++) {
                n_taken += m.is_bay_taken[k];
                assert_false(k >= y.n_bays && m.is_bay_taken[k]);
            }
            assert_true(n_taken == n || n_taken == n + 1); /* one may be driving in or out */
            n_free += y.n_bays - n_taken;
            n_all += y.n_bays;
        }
    }
    assert_true(n_free > n_all * 4 / 10 && n_free < n_all * 7 / 10);
}

static void places(void **state)
{
    struct yard y;
    yard_init(&y, 1, 341, 192);
    double door = (y.door_x0 + y.door_x1) / 2;
    assert_int_equal(yard_place(&y, SCENE_PERSON, (struct vec){10, 0, 25}), SCENE_AT_GATE);
    assert_int_equal(yard_place(&y, SCENE_VAN, (struct vec){10, 0, 27}), SCENE_AT_GATE);
    assert_int_equal(yard_place(&y, SCENE_PERSON, (struct vec){door, 0, 25}), SCENE_AT_DOOR);
    assert_int_equal(yard_place(&y, SCENE_BOX, (struct vec){door, 0, 25}), SCENE_IN_FIRE_LANE);
    assert_int_equal(yard_place(&y, SCENE_CAR, (struct vec){door, 0, 23}), SCENE_IN_FIRE_LANE);
    assert_int_equal(yard_place(&y, SCENE_PERSON, (struct vec){door, 0, 22.5}), SCENE_IN_YARD);
    assert_int_equal(yard_place(&y, SCENE_VAN, (struct vec){-7, 0, 23}), SCENE_AT_DOCK);
    assert_int_equal(yard_place(&y, SCENE_CAR, (struct vec){y.bay_x, 0, 15.5}), SCENE_IN_BAY);
    assert_int_equal(yard_place(&y, SCENE_DOG, (struct vec){0, 0, 11}), SCENE_IN_YARD);
    assert_int_equal(yard_place(&y, SCENE_CAR, (struct vec){14, 0, 35}), SCENE_OUTSIDE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pure),
        cmocka_unit_test(any_time),
        cmocka_unit_test(nobody_jumps),
        cmocka_unit_test(nothing_collides),
        cmocka_unit_test(incidents_keep_clear_of_each_other),
        cmocka_unit_test(bays),
        cmocka_unit_test(places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
