#include "appliance/nearest.h"

#include <stdbool.h>
#include <string.h>

#define WORD_MAX  63
#define START_MIN 3

static int min3(int a, int b, int c)
{
    const int ab = a < b ? a : b;
    return ab < c ? ab : c;
}

int nearest_distance(const char *a, const char *b)
{
    const int n = (int)strnlen(a, WORD_MAX), m = (int)strnlen(b, WORD_MAX);
    int rows[3][WORD_MAX + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (int j = 0; j <= m; j++)
        last[j] = j;
    for (int i = 1; i <= n; i++) {
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
        int *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[m];
}

void nearest_offer(struct nearest *n, const char *candidate)
{
    /* a word cut short is meant whole, however much is missing: `warn` for `warning` */
    const bool is_start = strlen(n->word) >= START_MIN && strncmp(candidate, n->word, strlen(n->word)) == 0;
    const int d = is_start && candidate[strlen(n->word)] ? 1 : nearest_distance(n->word, candidate);
    /* a third of the word may be wrong, and two letters of a short one */
    const int allowed = (int)strlen(n->word) / 3 > 2 ? (int)strlen(n->word) / 3 : 2;
    if (d <= allowed && d < (int)strlen(candidate) && (!n->best || d < n->distance)) {
        n->best = candidate;
        n->distance = d;
    }
}
