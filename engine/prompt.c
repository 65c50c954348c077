#include "engine/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "engine/unicode.h"

static const char image_triple[] = "<|vision_start|><|image_pad|><|vision_end|>";

/* ---- building text --------------------------------------------------------------------------------------------------------- */

/* A text under construction; once something went wrong, the rest is ignored and rc says what. */
struct builder {
    struct prompt_text text;
    int rc;
    struct err *err;
};

/* Part of a builder's text. */
struct slice {
    const char *bytes;
    const uint8_t *is_format;
    size_t n;
};

static bool reserve(struct builder *b, size_t more)
{
    struct prompt_text *t = &b->text;
    if (b->rc)
        return false;
    if (more > TOKENIZER_TEXT_MAX || t->n_bytes > TOKENIZER_TEXT_MAX - more) {
        b->rc = err_set(b->err, ERR_INVAL, "the conversation is longer than %u bytes", TOKENIZER_TEXT_MAX);
        return false;
    }
    const size_t need = t->n_bytes + more;
    if (need <= t->capacity)
        return true;
    size_t want = t->capacity ? 2 * t->capacity : 1024;
    if (want < need)
        want = need;
    char *bytes = realloc(t->bytes, want);
    if (bytes)
        t->bytes = bytes;
    uint8_t *is_format = realloc(t->is_format, want);
    if (is_format)
        t->is_format = is_format;
    if (!bytes || !is_format) {
        b->rc = err_set(b->err, ERR_NOMEM, "no memory for a conversation of %zu bytes", want);
        return false;
    }
    t->capacity = want;
    return true;
}

static void put(struct builder *b, const char *bytes, size_t n, bool is_format)
{
    if (n == 0 || !reserve(b, n))
        return;
    memcpy(b->text.bytes + b->text.n_bytes, bytes, n);
    memset(b->text.is_format + b->text.n_bytes, is_format, n);
    b->text.n_bytes += n;
}

/* The format's own text. */
static void put_format(struct builder *b, const char *text)
{
    put(b, text, strlen(text), true);
}

/* Text of a message. */
static void put_message(struct builder *b, const char *text)
{
    put(b, text, strlen(text), false);
}

static void put_slice(struct builder *b, struct slice s)
{
    if (s.n == 0 || !reserve(b, s.n))
        return;
    memcpy(b->text.bytes + b->text.n_bytes, s.bytes, s.n);
    memcpy(b->text.is_format + b->text.n_bytes, s.is_format, s.n);
    b->text.n_bytes += s.n;
}

/* ---- slices ---------------------------------------------------------------------------------------------------------------- */

static struct slice slice_of(struct slice s, size_t begin, size_t end)
{
    return (struct slice){s.bytes + begin, s.is_format + begin, end - begin};
}

/* White space off both ends, as the template's `trim`. */
static struct slice trimmed(struct slice s)
{
    size_t begin = 0, end = s.n;
    while (begin < end) {
        uint32_t cp;
        const size_t n = utf8_decode(s.bytes + begin, end - begin, &cp);
        if (!unicode_is_trimmed(cp))
            break;
        begin += n;
    }
    while (end > begin) {
        size_t cut = 0; /* all white space has one to three bytes */
        for (size_t n = 1; cut == 0 && n <= 3 && n <= end - begin; n++) {
            uint32_t cp;
            if (utf8_decode(s.bytes + end - n, n, &cp) == n && unicode_is_trimmed(cp))
                cut = n;
        }
        if (cut == 0)
            break;
        end -= cut;
    }
    return slice_of(s, begin, end);
}

static struct slice without_newlines_before(struct slice s)
{
    size_t begin = 0;
    while (begin < s.n && s.bytes[begin] == '\n')
        begin++;
    return slice_of(s, begin, s.n);
}

static bool starts_with(struct slice s, const char *text)
{
    const size_t n = strlen(text);
    return s.n >= n && memcmp(s.bytes, text, n) == 0;
}

static bool ends_with(struct slice s, const char *text)
{
    const size_t n = strlen(text);
    return s.n >= n && memcmp(s.bytes + s.n - n, text, n) == 0;
}

/* Where `text` first (or, with `last`, last) stands in s; SIZE_MAX: nowhere. */
static size_t find(struct slice s, const char *text, bool last)
{
    const size_t n = strlen(text);
    size_t found = SIZE_MAX;
    for (size_t i = 0; i + n <= s.n; i++) {
        const char *p = memmem(s.bytes + i, s.n - i, text, n);
        if (!p)
            break;
        i = found = (size_t)(p - s.bytes);
        if (!last)
            break;
    }
    return found;
}

/* ---- rendering ------------------------------------------------------------------------------------------------------------- */

/*
 * The content of a message, trimmed, in scratch, which is emptied before. images counts the conversation's pictures.
 */
static struct slice render_content(struct builder *scratch, const struct prompt_message *m, const struct prompt_options *o,
                                   int32_t *images)
{
    scratch->text.n_bytes = 0;
    for (int32_t i = 0; i < m->n_parts; i++) {
        const struct prompt_part *part = &m->parts[i];
        if (part->text) {
            put(scratch, part->text, part->n_bytes, false);
            continue;
        }
        ++*images;
        if (o->vision_id) {
            char words[32];
            snprintf(words, sizeof words, "Picture %d: ", *images);
            put_format(scratch, words);
        }
        put_format(scratch, image_triple);
    }
    if (scratch->text.n_bytes == 0)
        return (struct slice){"", (const uint8_t *)"", 0};
    return trimmed((struct slice){scratch->text.bytes, scratch->text.is_format, scratch->text.n_bytes});
}

/* Cut an assistant's text into its thought and the answer behind it. */
static void split_thought(struct slice *content, struct slice *ret_reasoning)
{
    const size_t first = find(*content, "</think>", false);
    if (first == SIZE_MAX)
        return;
    struct slice thought = slice_of(*content, 0, first);
    const size_t open = find(thought, "<think>", true);
    if (open != SIZE_MAX)
        thought = slice_of(thought, open + strlen("<think>"), thought.n);
    *ret_reasoning = thought; /* it is trimmed later, which takes the newlines too */
    const size_t last = find(*content, "</think>", true);
    *content = without_newlines_before(slice_of(*content, last + strlen("</think>"), content->n));
}

static void put_calls(struct builder *b, const struct prompt_message *m, bool has_content)
{
    for (int32_t i = 0; i < m->n_calls; i++) {
        const struct prompt_call *call = &m->calls[i];
        put_format(b, i > 0         ? "\n<tool_call>\n<function="
                      : has_content ? "\n\n<tool_call>\n<function="
                                    : "<tool_call>\n<function=");
        put_message(b, call->name);
        put_format(b, ">\n");
        for (int32_t k = 0; k < call->n_arguments; k++) {
            put_format(b, "<parameter=");
            put_message(b, call->arguments[k].name);
            put_format(b, ">\n");
            put_message(b, call->arguments[k].value);
            put_format(b, "\n</parameter>\n");
        }
        put_format(b, "</function>\n</tool_call>");
    }
}

static void put_assistant(struct builder *b, const struct prompt_message *m, struct slice content, bool after_question)
{
    struct slice reasoning = {"", (const uint8_t *)"", 0};
    char *marks = NULL; /* all zero: a given reasoning is the message's text */
    if (!m->reasoning) {
        split_thought(&content, &reasoning);
    } else if (after_question && m->n_reasoning) {
        marks = calloc(1, m->n_reasoning);
        if (!marks) {
            b->rc = err_set(b->err, ERR_NOMEM, "no memory for a thought of %zu bytes", m->n_reasoning);
            return;
        }
        reasoning = (struct slice){m->reasoning, (const uint8_t *)marks, m->n_reasoning};
    }
    put_format(b, "<|im_start|>assistant\n");
    if (after_question) {
        put_format(b, "<think>\n");
        put_slice(b, trimmed(reasoning));
        put_format(b, "\n</think>\n\n");
    }
    put_slice(b, content);
    put_calls(b, m, content.n > 0); /* trimmed before: it is not white space alone */
    put_format(b, "<|im_end|>\n");
    free(marks);
}

/* Check the order of roles, and find the last message that is a question by the user; -1 on failure. */
static int32_t find_question(struct builder *scratch, const struct prompt_message *messages, int32_t n,
                             const struct prompt_options *o)
{
    int32_t question = -1, images = 0;
    for (int32_t i = 0; i < n && !scratch->rc; i++) {
        const struct prompt_message *m = &messages[i];
        if (m->role != PROMPT_SYSTEM && m->role != PROMPT_USER && m->role != PROMPT_ASSISTANT && m->role != PROMPT_TOOL)
            scratch->rc = err_set(scratch->err, ERR_INVAL, "message %d has the unknown role %d", i, (int)m->role);
        if (m->role == PROMPT_SYSTEM && i > 0)
            scratch->rc = err_set(scratch->err, ERR_INVAL, "message %d is a system message; only the first may be", i);
        for (int32_t k = 0; m->role == PROMPT_SYSTEM && k < m->n_parts; k++)
            if (!m->parts[k].text)
                scratch->rc = err_set(scratch->err, ERR_INVAL, "the system message has a picture");
        if (m->role != PROMPT_USER)
            continue;
        const struct slice content = render_content(scratch, m, o, &images);
        if (!(starts_with(content, "<tool_response>") && ends_with(content, "</tool_response>")))
            question = i;
    }
    if (!scratch->rc && question < 0)
        scratch->rc = err_set(scratch->err, ERR_INVAL, "the conversation has no question by the user");
    return scratch->rc ? -1 : question;
}

static void put_turn(struct builder *b, const struct prompt_message *messages, int32_t n, int32_t i, int32_t question,
                     struct slice content)
{
    const struct prompt_message *m = &messages[i];
    switch (m->role) {
    case PROMPT_SYSTEM:
    case PROMPT_USER:
        put_format(b, m->role == PROMPT_SYSTEM ? "<|im_start|>system\n" : "<|im_start|>user\n");
        put_slice(b, content);
        put_format(b, "<|im_end|>\n");
        break;
    case PROMPT_ASSISTANT: put_assistant(b, m, content, i > question); break;
    case PROMPT_TOOL:
        if (i > 0 && messages[i - 1].role != PROMPT_TOOL)
            put_format(b, "<|im_start|>user");
        put_format(b, "\n<tool_response>\n");
        put_slice(b, content);
        put_format(b, "\n</tool_response>");
        if (i + 1 == n || messages[i + 1].role != PROMPT_TOOL)
            put_format(b, "<|im_end|>\n");
        break;
    }
}

/* Pictures that are in the text: not those of a thought that was left out. */
static int32_t count_images(const struct prompt_text *t)
{
    int32_t n = 0;
    const char *const end = t->bytes + t->n_bytes, *p = t->bytes;
    while (t->n_images && (p = memmem(p, (size_t)(end - p), image_triple, sizeof(image_triple) - 1)) != NULL) {
        n += t->is_format[p - t->bytes];
        p += sizeof(image_triple) - 1;
    }
    return n;
}

/* Render into texts that may have memory from before; `content` is working memory. Both are the caller's to release, on failure too. */
static int render(const struct prompt_message *messages, int32_t n_messages, const struct prompt_options *options,
                  struct prompt_text *text, struct prompt_text *content, struct err *err)
{
    if (n_messages <= 0)
        return err_set(err, ERR_INVAL, "the conversation has no message");
    struct builder b = {.text = *text, .err = err}, scratch = {.text = *content, .err = err};
    b.text.n_bytes = 0;
    b.text.n_images = 0;
    const int32_t question = find_question(&scratch, messages, n_messages, options);
    for (int32_t i = 0; i < n_messages && !scratch.rc && !b.rc; i++) {
        const struct slice slice = render_content(&scratch, &messages[i], options, &b.text.n_images);
        put_turn(&b, messages, n_messages, i, question, slice);
    }
    if (options->generate) {
        put_format(&b, "<|im_start|>assistant\n<think>\n");
        if (!options->thinking)
            put_format(&b, "\n</think>\n\n");
    }
    *text = b.text;
    *content = scratch.text;
    const int rc = scratch.rc ? scratch.rc : b.rc;
    if (rc == 0 && count_images(&b.text) != b.text.n_images)
        return err_set(err, ERR_INVAL, "a picture stands in an assistant's thought, which the format leaves out");
    return rc;
}

int prompt_render(const struct prompt_message *messages, int32_t n_messages, const struct prompt_options *options,
                  struct prompt_text *ret_text, struct err *err)
{
    struct prompt_text text = {0}, content = {0};
    const int rc = render(messages, n_messages, options, &text, &content, err);
    prompt_text_release(&content);
    if (rc)
        prompt_text_release(&text);
    else
        *ret_text = text;
    return rc;
}

void prompt_text_release(struct prompt_text *text)
{
    free(text->bytes);
    free(text->is_format);
    *text = (struct prompt_text){0};
}

/* ---- ids ------------------------------------------------------------------------------------------------------------------- */

static int need_token(const struct tokenizer *t, const char *name, int32_t *ret_id, struct err *err)
{
    const int32_t id = tokenizer_find(t, name, strlen(name));
    if (id < 0)
        return err_set(err, ERR_UNSUPPORTED, "the vocabulary has no token %s, which prompts are made with", name);
    *ret_id = id;
    return 0;
}

/* The runs of equal origin in a rendered text as spans of the room; their number, or -1: out of memory. */
static ptrdiff_t find_spans(struct prompt_room *room, const struct prompt_text *text)
{
    size_t n = 0;
    for (size_t i = 0; i < text->n_bytes;) {
        if (n == room->cap_spans) {
            const size_t cap = n ? 2 * n : 64;
            struct tokenizer_span *p = realloc(room->spans, cap * sizeof(*p));
            if (!p)
                return -1;
            room->spans = p;
            room->cap_spans = cap;
        }
        size_t end = i;
        while (end < text->n_bytes && text->is_format[end] == text->is_format[i])
            end++;
        room->spans[n++] = (struct tokenizer_span){text->bytes + i, end - i, text->is_format[i]};
        i = end;
    }
    return (ptrdiff_t)n;
}

static bool reserve_images(struct prompt_room *room, int32_t n)
{
    const size_t want = (size_t)n + 1;
    if (want <= room->cap_images)
        return true;
    size_t *p = realloc(room->image_at, want * sizeof(*p));
    if (!p)
        return false;
    room->image_at = p;
    room->cap_images = want;
    return true;
}

/* A rendered text's ids and places, in the room. */
static int tokenize(struct prompt_room *room, const struct tokenizer *tokenizer, struct tokenizer_cache *cache,
                    const struct prompt_text *text, struct prompt *ret_prompt, struct err *err)
{
    static const char *const names[] = {"<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"};
    int32_t id = -1; /* the last one's, where there are pictures */
    for (size_t i = 0; i < (text->n_images ? 5 : 2); i++) {
        const int rc = need_token(tokenizer, names[i], &id, err);
        if (rc)
            return rc;
    }
    const ptrdiff_t n_spans = find_spans(room, text);
    if (n_spans < 0 || !reserve_images(room, text->n_images))
        return err_set(err, ERR_NOMEM, "no memory for a prompt of %zu bytes", text->n_bytes);
    struct tokenizer_ids *list = &room->ids;
    list->n = 0;
    const int rc = tokenizer_encode_spans(tokenizer, cache, room->spans, (size_t)n_spans, list, err);
    if (rc)
        return rc;
    int32_t found = 0;
    for (size_t i = 0; text->n_images && i < list->n; i++) {
        if (list->ids[i] != id)
            continue;
        if (found < text->n_images)
            room->image_at[found] = i;
        found++;
    }
    /* message text cannot give a pad, unless the vocabulary says that everybody may write it */
    if (found != text->n_images)
        return err_set(err, ERR_UNSUPPORTED, "the prompt has %d pictures, but %d <|image_pad|> tokens", text->n_images, found);
    *ret_prompt = (struct prompt){list->ids, list->n, room->image_at, text->n_images};
    return 0;
}

int prompt_tokenize(const struct tokenizer *tokenizer, struct tokenizer_cache *cache, const struct prompt_text *text,
                    struct prompt *ret_prompt, struct err *err)
{
    struct prompt_room room = {0};
    const int rc = tokenize(&room, tokenizer, cache, text, ret_prompt, err);
    if (rc == 0) { /* these go to the caller */
        room.ids = (struct tokenizer_ids){0};
        room.image_at = NULL;
    }
    prompt_room_release(&room);
    return rc;
}

int prompt_make(struct prompt_room *room, const struct tokenizer *tokenizer, struct tokenizer_cache *cache,
                const struct prompt_message *messages, int32_t n_messages, const struct prompt_options *options,
                struct prompt *ret_prompt, struct err *err)
{
    const int rc = render(messages, n_messages, options, &room->text, &room->content, err);
    return rc ? rc : tokenize(room, tokenizer, cache, &room->text, ret_prompt, err);
}

int prompt_append(struct prompt_room *room, struct prompt *prompt, const int32_t *ids, int32_t n, struct err *err)
{
    int rc = 0;
    for (int32_t i = 0; rc == 0 && i < n; i++)
        rc = tokenizer_ids_push(&room->ids, ids[i], err);
    prompt->ids = room->ids.ids;
    prompt->n_ids = room->ids.n;
    return rc;
}

void prompt_room_release(struct prompt_room *room)
{
    prompt_text_release(&room->text);
    prompt_text_release(&room->content);
    free(room->spans);
    tokenizer_ids_release(&room->ids);
    free(room->image_at);
    *room = (struct prompt_room){0};
}

int prompt_tokenize_raw(const struct tokenizer *tokenizer, struct tokenizer_cache *cache, const char *text, size_t n_bytes,
                        int32_t n_images, struct prompt *ret_prompt, struct err *err)
{
    static const char marker[] = "<image>";
    const size_t n_marker = sizeof(marker) - 1;
    static const char *const names[3] = {"<|vision_start|>", "<|image_pad|>", "<|vision_end|>"};
    int32_t triple[3] = {-1, -1, -1}, n_markers = 0;
    const char *const end = text + n_bytes;
    for (const char *p = text; n_bytes && (p = memmem(p, (size_t)(end - p), marker, n_marker)); p += n_marker)
        n_markers++;
    if (n_markers != n_images)
        return err_set(err, ERR_INVAL, "the prompt has %d %s markers for %d pictures", n_markers, marker, n_images);
    int rc = 0;
    for (int i = 0; rc == 0 && n_images && i < 3; i++)
        rc = need_token(tokenizer, names[i], &triple[i], err);
    if (rc)
        return rc;
    struct tokenizer_ids list = {0};
    size_t *image_at = calloc((size_t)n_images + 1, sizeof(*image_at));
    if (!image_at)
        return err_set(err, ERR_NOMEM, "no memory for %d pictures", n_images);
    for (int32_t i = 0; rc == 0 && i <= n_images; i++) {
        const char *stop = i < n_images ? memmem(text, (size_t)(end - text), marker, n_marker) : end;
        rc = tokenizer_encode(tokenizer, cache, text, (size_t)(stop - text), true, &list, err);
        if (i == n_images)
            break;
        image_at[i] = list.n + 1;
        for (int k = 0; rc == 0 && k < 3; k++)
            rc = tokenizer_ids_push(&list, triple[k], err);
        text = stop + n_marker;
    }
    if (rc) {
        tokenizer_ids_release(&list);
        free(image_at);
        return rc;
    }
    *ret_prompt = (struct prompt){list.ids, list.n, image_at, n_images};
    return 0;
}

void prompt_release(struct prompt *prompt)
{
    free(prompt->ids);
    free(prompt->image_at);
    *prompt = (struct prompt){0};
}
