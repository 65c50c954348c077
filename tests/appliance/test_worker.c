/* What the daemon says to a model, and that the shipped model is trained on these very words. */
#include "tests/support/test.h"

#include <stdlib.h>
#include <string.h>

#include "appliance/config.h"
#include "appliance/worker.h"

#define RECIPE "config/model/texts.py"

/* Text as it stands in a Python literal: line ends escaped. */
static char *escaped(const char *text)
{
    char *out = calloc(2 * strlen(text) + 1, 1), *at = out;
    assert_non_null(out);
    for (; *text; text++) {
        if (*text == '\n') {
            *at++ = '\\';
            *at++ = 'n';
        } else {
            *at++ = *text;
        }
    }
    return out;
}

static void holds(const char *line)
{
    char *recipe = test_read_file(RECIPE, NULL);
    if (!test_contains(recipe, line))
        fail_msg(RECIPE " does not hold: %s", line);
    free(recipe);
}

/* The system text around the watch's prompt and schema. */
static void is_trained_on_the_system_text(void **state)
{
    (void)state;
    const struct config_camera camera = {.prompt = (char *)"{watch_prompt}", .schema_text = (char *)"{SCHEMA}"};
    char *text = worker_system_text(&camera), *literal = escaped(text), line[300];
    assert_int_equal(strncmp(text, "{watch_prompt}\n", 15), 0);
    assert_true((size_t)snprintf(line, sizeof line, "return f\"%s\"", literal) < sizeof line);
    holds(line);
    free(literal);
    free(text);
}

/* The question beside the picture. */
static void is_trained_on_the_question(void **state)
{
    (void)state;
    holds("\nWORKER_ASK = \"" WORKER_ASK "\"\n");
}

/* The recipe reads the schema's file; test_config_text holds that it is what a camera without a schema of its own has. */
static void is_trained_on_the_default_schema(void **state)
{
    (void)state;
    holds("\"schemas\" / \"observation-default.json\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_trained_on_the_system_text),
        cmocka_unit_test(is_trained_on_the_question),
        cmocka_unit_test(is_trained_on_the_default_schema),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
