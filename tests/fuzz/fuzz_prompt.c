/*
 * Conversations from anywhere: the first byte holds the options; then items of a kind, a length, and that many bytes. Kinds by
 * their low three bits: 0 to 3 begin a message of that role, 4 text, 5 a picture, 6 a thought, 7 a call. Checked: what renders can be
 * tokenized, and has exactly the control tokens that the format wrote; the same bytes as a raw prompt.
 */
#include <string.h>

#include "base/utf8.h"
#include "engine/prompt.h"
#include "tests/fuzz/fuzz.h"

enum { MESSAGES_MAX = 16, PARTS_MAX = 8, CALLS_MAX = 2 };

static const char *const controls[] = {"<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"};

static struct tokenizer *fixed_tokenizer(void)
{
    static struct tokenizer *t; /* kept for all inputs */
    static char storage[256][4];
    struct tokenizer_text tokens[264];
    int32_t types[264];
    if (t)
        return t;
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; b++) {
        const uint32_t cp = (b >= 33 && b <= 126) || (b >= 161 && b != 173) ? b : next++;
        tokens[b] = (struct tokenizer_text){storage[b], utf8_encode(cp, storage[b])};
        types[b] = TOKENIZER_NORMAL;
    }
    const char *const others[] = {"<think>", "</think>", "<tool_call>"};
    for (int i = 0; i < 8; i++) {
        const char *name = i < 5 ? controls[i] : others[i - 5];
        tokens[256 + i] = (struct tokenizer_text){name, strlen(name)};
        types[256 + i] = i < 5 ? TOKENIZER_CONTROL : TOKENIZER_USER_DEFINED;
    }
    const struct tokenizer_vocab v = {
        .tokens = tokens, .types = types, .n_tokens = 264, .eos_id = -1, .pad_id = -1, .bos_id = -1};
    REQUIRE(tokenizer_create(&v, &t, NULL) == 0);
    return t;
}

static void check(const struct tokenizer *t, const struct prompt_text *text)
{
    struct prompt p = {0};
    struct err err = {0};
    REQUIRE(prompt_tokenize(t, NULL, text, &p, &err) == 0);
    size_t want[5] = {0};
    for (int k = 0; k < 5; k++)
        for (size_t i = 0, n = strlen(controls[k]); i + n <= text->n_bytes; i++)
            want[k] += text->is_format[i] && memcmp(text->bytes + i, controls[k], n) == 0;
    for (size_t i = 0; i < p.n_ids; i++)
        if (p.ids[i] >= 256 && p.ids[i] < 261)
            want[p.ids[i] - 256]--;
    for (int k = 0; k < 5; k++)
        REQUIRE(want[k] == 0);
    for (int32_t i = 0; i < p.n_images; i++)
        REQUIRE(p.ids[p.image_at[i]] == 256 + 3);
    prompt_release(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct tokenizer *t = fixed_tokenizer();
    struct err err = {0};
    struct prompt raw = {0};
    const int32_t n_raw = size ? data[0] % 4 : 0;
    const int rc_raw = prompt_tokenize_raw(t, NULL, (const char *)data, size, n_raw, &raw, &err);
    REQUIRE(rc_raw == 0 || (rc_raw == ERR_INVAL && raw.ids == NULL && err.text[0]));
    for (int32_t i = 0; i < raw.n_images; i++)
        REQUIRE(raw.ids[raw.image_at[i]] == 256 + 3);
    prompt_release(&raw);
    if (size < 1)
        return 0;

    static struct prompt_message messages[MESSAGES_MAX];
    static struct prompt_part parts[MESSAGES_MAX][PARTS_MAX];
    static struct prompt_call calls[MESSAGES_MAX][CALLS_MAX];
    struct prompt_argument argument = {0};
    char *names[MESSAGES_MAX * CALLS_MAX];
    int32_t n = 0, n_names = 0;
    const struct prompt_options options = {data[0] & 16, data[0] & 32, data[0] & 64};
    data++;
    size--;
    for (; size >= 2;) {
        const unsigned kind = data[0] & 7;
        const size_t len = data[1] < size - 2 ? data[1] : size - 2;
        const char *bytes = (const char *)data + 2;
        struct prompt_message *m = n ? &messages[n - 1] : NULL;
        if (kind < 4 && n < MESSAGES_MAX) {
            messages[n] = (struct prompt_message){.role = (enum prompt_role)kind, .parts = parts[n], .calls = calls[n]};
            if (len)
                parts[n][messages[n].n_parts++] = (struct prompt_part){bytes, len};
            n++;
        } else if ((kind == 4 || kind == 5) && m && m->n_parts < PARTS_MAX) {
            parts[n - 1][m->n_parts++] = (struct prompt_part){kind == 4 ? bytes : NULL, len};
        } else if (kind == 6 && m) {
            m->reasoning = bytes;
            m->n_reasoning = len;
        } else if (kind == 7 && m && m->n_calls < CALLS_MAX) {
            char *name = names[n_names++] = strndup(bytes, len);
            REQUIRE(name);
            argument = (struct prompt_argument){name, name};
            calls[n - 1][m->n_calls++] = (struct prompt_call){name, &argument, len & 1};
        }
        data += 2 + len;
        size -= 2 + len;
    }
    struct prompt_text text = {0};
    const int rc = prompt_render(messages, n, &options, &text, &err);
    REQUIRE(rc == 0 || (rc == ERR_INVAL && text.bytes == NULL && err.text[0]));
    if (rc == 0)
        check(t, &text);

    /* the same in a room that has seen other conversations */
    static struct prompt_room room;
    struct prompt kept = {0}, fresh = {0};
    const int rc_kept = prompt_make(&room, t, NULL, messages, n, &options, &kept, NULL);
    const int rc_fresh = rc == 0 ? prompt_tokenize(t, NULL, &text, &fresh, NULL) : rc;
    REQUIRE(rc_kept == rc_fresh && kept.n_ids == fresh.n_ids && kept.n_images == fresh.n_images);
    REQUIRE(!fresh.n_ids || memcmp(kept.ids, fresh.ids, fresh.n_ids * sizeof *fresh.ids) == 0);
    REQUIRE(!fresh.n_images || memcmp(kept.image_at, fresh.image_at, (size_t)fresh.n_images * sizeof *fresh.image_at) == 0);
    prompt_release(&fresh);
    prompt_text_release(&text);
    for (int32_t i = 0; i < n_names; i++)
        free(names[i]);
    return 0;
}
