/*
 * Any bytes as a request line of the control socket: a command comes out that a C string holds, or an error in words.
 */
#include "appliance/control.h"

#include <string.h>

#include "base/utf8.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char command[CONTROL_COMMAND_MAX];
    struct err err = {0};
    if (size > CONTROL_LINE_MAX || memchr(data, '\n', size)) /* the server lets no such line through */
        return 0;
    memset(command, 0x55, sizeof command);
    const int rc = control_parse((const char *)data, size, command, &err);
    if (rc == 0) {
        const char *end = memchr(command, '\0', sizeof command);
        if (!end || end == command || !utf8_valid(command, (size_t)(end - command)))
            abort();
        return 0;
    }
    /* the error goes back as a JSON line: one line, not empty */
    if (rc != ERR_FORMAT || err.code != rc || !err.text[0] || strchr(err.text, '\n'))
        abort();
    for (size_t i = 0; i < sizeof command; i++) {
        if (command[i] != 0x55)
            abort();
    }
    return 0;
}
