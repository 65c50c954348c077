#include "tests/support/random_schema.h"

json_t *test_random_schema(struct rng *r, int depth)
{
    const int kind = (int)rng_below(r, depth >= 3 ? 7 : 10);
    json_t *s = json_object();
    switch (kind) {
    case 0: {
        json_object_set_new(s, "type", json_string("string"));
        const int lo = (int)rng_below(r, 4);
        if (rng_below(r, 3))
            json_object_set_new(s, "maxLength", json_integer(lo + (int)rng_below(r, 30)));
        if (lo && rng_below(r, 2))
            json_object_set_new(s, "minLength", json_integer(lo));
        return s;
    }
    case 1: {
        json_object_set_new(s, "type", json_string("integer"));
        static const int64_t scales[] = {3, 20, 1000, 123456789, 99999999999};
        const int64_t scale = scales[rng_below(r, 5)];
        const int64_t lo = (int64_t)rng_below(r, (uint64_t)(2 * scale + 1)) - scale;
        if (rng_below(r, 4))
            json_object_set_new(s, rng_below(r, 2) ? "minimum" : "exclusiveMinimum", json_integer(lo));
        if (rng_below(r, 4))
            json_object_set_new(s, rng_below(r, 2) ? "maximum" : "exclusiveMaximum",
                                json_integer(lo + 2 + (int64_t)rng_below(r, (uint64_t)scale)));
        return s;
    }
    case 2: json_object_set_new(s, "type", json_string("number")); return s;
    case 3: json_object_set_new(s, "type", json_string("boolean")); return s;
    case 4: json_object_set_new(s, "type", json_string(rng_below(r, 4) ? "boolean" : "null")); return s;
    case 5: {
        static const char *const words[] = {"none", "fire", "smoke", "fi", "person_down", "", "a\"b", "caf\xc3\xa9", "firefly"};
        json_t *list = json_array();
        const size_t first = rng_below(r, 9), n = 1 + rng_below(r, 5);
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, json_string(words[(first + i) % 9]));
        if (rng_below(r, 3) == 0)
            json_array_append_new(list, json_null());
        json_object_set_new(s, "enum", list);
        return s;
    }
    case 6: {
        json_t *list = json_array();
        static const int values[] = {1, 12, 123, -1, -12, 0, 7};
        const size_t first = rng_below(r, 7), n = 1 + rng_below(r, 6);
        for (size_t i = 0; i < n; i++)
            json_array_append_new(list, json_integer(values[(first + i) % 7]));
        json_object_set_new(s, "enum", list);
        return s;
    }
    case 7: {
        json_object_set_new(s, "type", json_string("array"));
        json_object_set_new(s, "items", test_random_schema(r, depth + 1));
        const int lo = (int)rng_below(r, 3);
        json_object_set_new(s, "maxItems", json_integer(lo + (int)rng_below(r, 4)));
        if (lo)
            json_object_set_new(s, "minItems", json_integer(lo));
        return s;
    }
    default: {
        json_object_set_new(s, "type", json_string("object"));
        json_t *properties = json_object(), *required = json_array();
        const int n = (int)rng_below(r, 5);
        for (int i = 0; i < n; i++) {
            static const char *const names[] = {"p0", "p1", "p", "b\"q", "caf\xc3\xa9"};
            json_object_set_new(properties, names[i], test_random_schema(r, depth + 1));
            if (rng_below(r, 3))
                json_array_append_new(required, json_string(names[i]));
        }
        json_object_set_new(s, "properties", properties);
        json_object_set_new(s, "required", required);
        return s;
    }
    }
}
