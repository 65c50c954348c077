#include "tests/support/schema_judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/test.h"

bool schema_judge_is_there(void)
{
    return system("/usr/bin/python3 -c 'import jsonschema' 2>/dev/null") == 0;
}

/* The judge's last line is "N judged, N refused". */
static int ask(const char *mode, const char *what, const char *path, char *verdict, size_t cap)
{
    char command[1200];
    snprintf(command, sizeof command, "/usr/bin/python3 tests/support/judge_payload.py %s '%s' '%s' 2>&1", mode, what, path);
    FILE *judge = popen(command, "r");
    if (!judge) {
        snprintf(verdict, cap, "python3 does not start");
        return -1;
    }
    size_t n = 0;
    int judged = 0, refused = -1;
    for (char line[2048]; fgets(line, sizeof line, judge);) {
        if (sscanf(line, "%d judged, %d refused", &judged, &refused) != 2)
            refused = -1;
        const int wrote = snprintf(verdict + n, cap - n, "%s", line);
        n = wrote > 0 && n + (size_t)wrote < cap ? n + (size_t)wrote : cap - 1;
    }
    verdict[n] = '\0';
    return pclose(judge) == 0 && refused == 0 ? judged : -1;
}

int schema_judge(const char *schema, const char *const *payloads, int n, char *verdict, size_t cap)
{
    static const char *dir; /* one for all questions: a test program has few */
    char path[300];
    if (!dir)
        dir = test_temp_dir();
    snprintf(path, sizeof path, "%s/payloads", dir);
    FILE *f = fopen(path, "w");
    if (!f)
        fail_msg("cannot write %s", path);
    for (int i = 0; i < n; i++) {
        if (!payloads[i] || strchr(payloads[i], '\n'))
            fail_msg("payload %d: %s", i, payloads[i] ? "a newline" : "none");
        fprintf(f, "%s\n", payloads[i]);
    }
    if (fclose(f) != 0)
        fail_msg("cannot write %s", path);
    return ask("schema", schema, path, verdict, cap);
}

int schema_judge_topics(const char *prefix, const char *path, char *verdict, size_t cap)
{
    return ask("topics", prefix, path, verdict, cap);
}
