#include "appliance/demo_look.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "appliance/watch.h"
#include "base/clock.h"
#include "base/utf8.h"

#define LINE_SUMMARY_MAX 60 /* characters: a line of the screen has room for no more */

const char *demo_field_name(enum demo_field field)
{
    static const char *const names[DEMO_FIELD_COUNT] = {"people", "vehicles", "animals", "hazard"};
    return names[field];
}

const char *demo_part_name(enum demo_part part)
{
    static const char *const names[DEMO_PART_COUNT] = {"queue", "vision", "prefill", "decode", "total"};
    return names[part];
}

/* Copy UTF-8, cut between characters. What could steer a terminal becomes a space. */
static void copy_text(char *out, size_t cap, const char *text)
{
    size_t o = 0, left = text ? strlen(text) : 0;
    while (left > 0) {
        uint32_t point;
        const size_t n = utf8_decode(text, left, &point);
        char bytes[4];
        const size_t n_bytes = utf8_encode(point < 0x20 || (point >= 0x7f && point < 0xa0) ? ' ' : point, bytes);
        if (o + n_bytes >= cap)
            break;
        memcpy(out + o, bytes, n_bytes);
        o += n_bytes;
        text += n;
        left -= n;
    }
    out[o] = 0;
}

/* A field's value as a word; fallback where there is none. */
static void copy_value(char *out, size_t cap, const json_t *value, const char *fallback)
{
    if (json_is_integer(value))
        snprintf(out, cap, "%lld", (long long)json_integer_value(value));
    else
        copy_text(out, cap, json_is_string(value) ? json_string_value(value) : fallback);
}

void demo_look_read(const json_t *scene, int64_t arrived_ns, struct demo_look *ret_look)
{
    const json_t *result = json_object_get(scene, "result"), *truth = json_object_get(scene, "truth");
    const json_t *latency = json_object_get(scene, "latency_ms");
    struct demo_look look = {.arrived_ns = arrived_ns, .has_truth = json_is_object(truth)};
    copy_text(look.camera, sizeof look.camera, json_string_value(json_object_get(scene, "camera")));
    copy_text(look.summary, sizeof look.summary, json_string_value(json_object_get(result, "summary")));
    copy_text(look.true_summary, sizeof look.true_summary, json_string_value(json_object_get(truth, "summary")));
    copy_text(look.light, sizeof look.light, json_string_value(json_object_get(truth, "light")));
    copy_text(look.weather, sizeof look.weather, json_string_value(json_object_get(truth, "weather")));
    for (enum demo_field f = 0; f < DEMO_FIELD_COUNT; f++) {
        copy_value(look.answer[f], sizeof look.answer[f], json_object_get(result, demo_field_name(f)), "-");
        copy_value(look.truth[f], sizeof look.truth[f], json_object_get(truth, demo_field_name(f)), "");
    }
    for (enum demo_part p = 0; p < DEMO_PART_COUNT; p++)
        look.latency_ms[p] = json_number_value(json_object_get(latency, demo_part_name(p)));
    const json_int_t i_frame = json_integer_value(json_object_get(truth, "frame"));
    look.i_frame = i_frame > 0 ? (uint64_t)i_frame : 0;
    /* milliseconds on the wire; a time that no clock shows says nothing */
    const double frame_time_s = json_number_value(json_object_get(scene, "frame_time"));
    look.frame_wall_ns = frame_time_s > 0 && frame_time_s < 9e9 ? llround(frame_time_s * 1e3) * CLOCK_MS : arrived_ns;
    look.is_untrained = json_is_true(json_object_get(scene, "untrained"));
    const json_t *score =
        json_object_get(json_object_get(json_object_get(scene, "scores"), "/hazard"), look.answer[DEMO_HAZARD]);
    look.hazard_score = json_is_number(score) ? json_number_value(score) : -1;
    *ret_look = look;
}

bool demo_look_is_right_in(const struct demo_look *look, enum demo_field field)
{
    return look->has_truth && strcmp(look->answer[field], look->truth[field]) == 0;
}

bool demo_look_is_right(const struct demo_look *look)
{
    bool is_right = true;
    for (enum demo_field f = 0; f < DEMO_FIELD_COUNT; f++)
        is_right &= demo_look_is_right_in(look, f);
    return is_right;
}

/* Bytes of the first LINE_SUMMARY_MAX characters of a text. */
static int clip(const char *text)
{
    int n = 0, characters = 0;
    while (text[n] && (characters += ((unsigned char)text[n] & 0xc0) != 0x80) <= LINE_SUMMARY_MAX)
        n++;
    return n;
}

void demo_clock_text(int64_t wall_ns, char out[DEMO_CLOCK_MAX])
{
    const time_t at = (time_t)(wall_ns / CLOCK_S);
    struct tm tm;
    strftime(out, DEMO_CLOCK_MAX, "%H:%M:%S", localtime_r(&at, &tm));
}

void demo_look_print(const struct demo_look *look, FILE *out)
{
    char clock[DEMO_CLOCK_MAX];
    demo_clock_text(look->arrived_ns, clock);
    fprintf(out, "%s  %s  %.2f s  ", clock, look->camera, look->latency_ms[DEMO_TOTAL] / 1e3);
    if (look->has_truth)
        fputs(demo_look_is_right(look) ? "right  " : "wrong  ", out);
    if (look->summary[0])
        fprintf(out, "\"%.*s%s\"%s  ", clip(look->summary), look->summary,
                look->summary[clip(look->summary)] ? "..." : "", /* any terminal shows it */
                look->is_untrained ? " (untrained)" : "");
    for (enum demo_field f = 0; f < DEMO_FIELD_COUNT; f++) {
        fprintf(out, "%s%s %s", f > 0 ? ", " : "", demo_field_name(f), look->answer[f]);
        if (demo_look_is_right_in(look, f))
            fputs(" ok", out);
        else if (look->has_truth)
            fprintf(out, " (truth %s)", look->truth[f]);
    }
    fputs("  (", out);
    for (enum demo_part p = 0; p < DEMO_TOTAL; p++)
        fprintf(out, "%s%s %.0f", p > 0 ? ", " : "", demo_part_name(p), look->latency_ms[p]);
    fputs(" ms)\n", out);
}

/* ---- the tally -------------------------------------------------------------------------------------------------------------- */

void demo_tally_add(struct demo_tally *tally, const struct demo_look *look)
{
    tally->n_looks++;
    tally->n_untrained += look->is_untrained;
    if (look->has_truth) {
        tally->n_judged++;
        tally->n_right += demo_look_is_right(look);
        for (enum demo_field f = 0; f < DEMO_FIELD_COUNT; f++)
            tally->n_right_in[f] += demo_look_is_right_in(look, f);
    }
    if (tally->n_latencies == DEMO_LATENCIES_MAX)
        return;
    for (enum demo_part p = 0; p < DEMO_PART_COUNT; p++)
        tally->latency_ms[p][tally->n_latencies] = (float)look->latency_ms[p];
    tally->n_latencies++;
}

double demo_tally_pct(uint64_t n, uint64_t of)
{
    return of ? 100.0 * (double)n / (double)of : 0;
}

static void print_share(const char *name, uint64_t n, uint64_t of, FILE *out)
{
    fprintf(out, "  %-16s %5llu of %5llu  %5.1f %%\n", name, (unsigned long long)n, (unsigned long long)of,
            demo_tally_pct(n, of));
}

void demo_tally_print(struct demo_tally *tally, FILE *out)
{
    const int n = tally->n_latencies;
    fprintf(out, "\n%llu observations arrived", (unsigned long long)tally->n_looks);
    if (n > 0)
        fprintf(out, "; capture to publish: median %.2f s, slowest tenth above %.2f s",
                watch_quantile(tally->latency_ms[DEMO_TOTAL], n, 0.5) / 1e3,
                watch_quantile(tally->latency_ms[DEMO_TOTAL], n, 0.9) / 1e3);
    fputs("\n", out);
    if (tally->n_untrained > 0)
        fputs("the model is untrained: its answers mean nothing\n", out);
    if (tally->n_judged > 0) {
        fputs("\n  against the truth   right\n", out);
        for (enum demo_field f = 0; f < DEMO_FIELD_COUNT; f++)
            print_share(demo_field_name(f), tally->n_right_in[f], tally->n_judged, out);
        print_share("all four", tally->n_right, tally->n_judged, out);
    }
    if (n > 0) {
        fputs("\n  latency, ms        median   slowest tenth above\n", out);
        for (enum demo_part p = 0; p < DEMO_PART_COUNT; p++)
            fprintf(out, "  %-16s %8.0f   %8.0f\n", demo_part_name(p), watch_quantile(tally->latency_ms[p], n, 0.5),
                    watch_quantile(tally->latency_ms[p], n, 0.9));
    }
}
