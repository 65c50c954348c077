#include "tests/thermal/chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define WIDTH   1200
#define LEFT    70
#define RIGHT   20
#define PANEL   150
#define GAP     34
#define TOP     56
#define EVERY_S 5 /* a point of a line */
#define POINTS  (TRIAL_SECONDS / EVERY_S)

struct samples {
    double c[POINTS], watts[POINTS], batch[POINTS], busy[POINTS];
    int n;
};

static void note(void *ctx, double t_s, const struct plant *plant, const struct act *act, const struct sight *sight)
{
    struct samples *s = ctx;
    if ((int)t_s % EVERY_S != 0 || s->n == POINTS)
        return;
    s->c[s->n] = plant->spot_c[0];
    s->watts[s->n] = sight->watts;
    s->batch[s->n] = act->duty > 0 ? act->batch : 0;
    s->busy[s->n++] = 100 * act->duty;
}

static double x_of(int i)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (double)i / (POINTS - 1);
}

/* A span of time as a band behind all panels. */
static void band(FILE *f, const struct world_span *span, const char *fill, const char *name, int bottom)
{
    if (span->to_s <= span->from_s || span->from_s > TRIAL_SECONDS || span->from_s < 0)
        return;
    const double a = x_of((int)(span->from_s / EVERY_S)), b = x_of((int)(fmin(span->to_s, TRIAL_SECONDS) / EVERY_S));
    fprintf(f,
            "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/><text x=\"%.1f\" y=\"%d\" "
            "fill=\"#777\">%s</text>\n",
            a, TOP, b - a, bottom - TOP, fill, a + 4, TOP + 12, name);
}

static void panel(FILE *f, int index, const char *name, const double *y, int n, double lo, double hi, double step,
                  const char *colour, double line)
{
    const double top = TOP + index * (PANEL + GAP), scale = PANEL / (hi - lo);
    fprintf(f, "<rect x=\"%d\" y=\"%.0f\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#ccc\"/>\n", LEFT, top,
            WIDTH - LEFT - RIGHT, PANEL);
    for (double tick = ceil(lo / step) * step; tick <= hi + 1e-9; tick += step)
        fprintf(f, "<path d=\"M%d %.1fH%d\" stroke=\"#eee\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", LEFT,
                top + (hi - tick) * scale, WIDTH - RIGHT, LEFT - 6, top + (hi - tick) * scale + 4, tick);
    if (!isnan(line))
        fprintf(f, "<path d=\"M%d %.1fH%d\" stroke=\"#c22\" stroke-dasharray=\"6 4\"/>\n", LEFT, top + (hi - line) * scale,
                WIDTH - RIGHT);
    fprintf(f,
            "<text x=\"%d\" y=\"%.0f\" font-weight=\"bold\">%s</text>\n<polyline fill=\"none\" stroke=\"%s\" "
            "stroke-width=\"1.2\" points=\"",
            LEFT, top - 6, name, colour);
    for (int i = 0; i < n; i++)
        fprintf(f, "%.1f,%.1f ", x_of(i), top + (hi - fmin(fmax(y[i], lo), hi)) * scale);
    fprintf(f, "\"/>\n");
}

int chart_write(const char *path, const struct control *control, const struct world *world, struct err *err)
{
    struct samples *s = calloc(1, sizeof *s);
    FILE *f = s ? fopen(path, "we") : NULL;
    if (!f) {
        free(s);
        return err_set(err, ERR_IO, "%s: cannot be written", path);
    }
    struct figures figures;
    trial_run(&(struct trial){.control = control, .world = world, .best = trial_oracle(world), .watch = note, .ctx = s},
              &figures);
    double watts = 0;
    for (int i = 0; i < s->n; i++)
        watts = fmax(watts, s->watts[i]);
    const double limit = world->plant.spots[0].limit_c;
    const int height = TOP + 4 * (PANEL + GAP);
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\" "
            "fill=\"#333\">\n",
            WIDTH, height);
    fprintf(f, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", WIDTH, height);
    fprintf(f,
            "<text x=\"%d\" y=\"24\" font-size=\"15\">%s, world %llu of set %s: %.2f K over the limit at most, %.1f %% of the "
            "oracle's tokens</text>\n",
            LEFT, control->name, (unsigned long long)world->seed, world_set_names[world->set], figures.over_k,
            100 * figures.speed / figures.best);
    band(f, &world->warm, "#fff4e0", "warm room", height - GAP);
    band(f, &world->vent, "#fde8e8", "vent blocked", height - GAP);
    band(f, &world->cup, "#e6f2ff", "cup of water", height - GAP);
    if (world->fault != FAULT_NONE)
        band(f, &world->fault_at, "#eee6ff", world_fault_names[world->fault], height - GAP);
    panel(f, 0, "junction, C", s->c, s->n, limit - 16, limit + 4, 4, "#c60", limit);
    panel(f, 1, "power, W", s->watts, s->n, 0, ceil(watts / 20) * 20, 20, "#26a", NAN);
    panel(f, 2, "batch", s->batch, s->n, 0, WORLD_BATCHES, 2, "#282", NAN);
    panel(f, 3, "busy, %", s->busy, s->n, 0, 100, 25, "#727", NAN);
    for (int h = 0; h <= 2 * WORLD_HOURS; h++)
        fprintf(f, "<text x=\"%.0f\" y=\"%d\" text-anchor=\"middle\">%g h</text>\n",
                x_of((int)(h * (POINTS - 1) / (2.0 * WORLD_HOURS))), height - GAP + 16, h / 2.0);
    fprintf(f, "</svg>\n");
    free(s);
    const bool is_cut = ferror(f);
    return fclose(f) != 0 || is_cut ? err_set(err, ERR_IO, "%s: was not written to its end", path) : 0;
}
