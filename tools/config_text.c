/*
 * config_text - what is made from appliance/config.def, on standard output.
 *
 *   config_text sample > config/heron.yaml
 *   config_text schema > config/schemas/config.json
 *   config_text help
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "appliance/config.h"

int main(int argc, char **argv)
{
    const char *what = argc == 2 ? argv[1] : "";
    char *text = NULL;
    if (strcmp(what, "sample") == 0)
        text = config_sample();
    else if (strcmp(what, "schema") == 0)
        text = config_json_schema();
    else if (strcmp(what, "help") == 0)
        text = config_help();
    else {
        fprintf(stderr, "usage: config_text sample|schema|help\n");
        return 64;
    }
    if (!text || fputs(text, stdout) == EOF || fflush(stdout) != 0) {
        fprintf(stderr, "config_text: %s\n", text ? "cannot write" : "out of memory");
        free(text);
        return 74;
    }
    free(text);
    return 0;
}
