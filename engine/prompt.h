/*
 * prompt - a conversation as the text and the token ids that the model was trained on: the family's chat format, without a
 * template language.
 *
 * Rendering keeps apart what is the format's own text and what came from the messages: control tokens such as <|im_end|> are
 * recognised in the first only, so a message cannot end its own turn. Pictures become <|vision_start|><|image_pad|><|vision_end|>,
 * and the prompt says at which ids the pads stand, for the engine to put the rows of the picture there.
 *
 * Life cycle: prompt_render -> prompt_tokenize -> prompt_text_release, prompt_release; or prompt_tokenize_raw -> prompt_release.
 * Threads: pure functions of their arguments. Memory: results are on the heap and belong to the caller.
 * Source: the chat template of the official model; definitions of tools are not rendered, since Heron offers none.
 */
#ifndef HERON_ENGINE_PROMPT_H
#define HERON_ENGINE_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/tokenizer.h"

enum prompt_role { PROMPT_SYSTEM, PROMPT_USER, PROMPT_ASSISTANT, PROMPT_TOOL };

/* A piece of a message: text, or with text NULL a picture. */
struct prompt_part {
    const char *text;
    size_t n_bytes;
};

/* A call that the assistant made. Values are text as it is to appear: JSON for lists and objects, the bare string otherwise. */
struct prompt_argument {
    const char *name, *value; /* NUL-terminated */
};
struct prompt_call {
    const char *name; /* NUL-terminated */
    const struct prompt_argument *arguments;
    int32_t n_arguments;
};

struct prompt_message {
    enum prompt_role role;
    const struct prompt_part *parts;
    int32_t n_parts;
    /* read from assistant messages only: */
    const char *reasoning; /* NULL: taken from between <think> and </think> in the text, if they are there */
    size_t n_reasoning;
    const struct prompt_call *calls;
    int32_t n_calls;
};

struct prompt_options {
    bool generate;  /* end with the opening of the assistant's turn */
    bool thinking;  /* leave <think> open in it, instead of writing an empty thought */
    bool vision_id; /* "Picture N: " in front of each picture */
};

/* A rendered conversation. */
struct prompt_text {
    char *bytes;
    uint8_t *is_format; /* [n_bytes] 1: the format's own text, 0: from a message */
    size_t n_bytes, capacity;
    int32_t n_images;
};

/* Token ids with places for pictures. */
struct prompt {
    int32_t *ids; /* [n_ids] */
    size_t n_ids;
    size_t *image_at; /* [n_images] index in ids of each picture's <|image_pad|>, in order */
    int32_t n_images;
};

/*
 * Render a conversation. *ret_text is untouched on failure.
 * Errors: ERR_INVAL (no message; an unknown role; no question by the user; a system message that is not the first; a picture in one, or in a thought that is left out; text longer
 * than TOKENIZER_TEXT_MAX), ERR_NOMEM.
 */
int prompt_render(const struct prompt_message *messages, int32_t n_messages, const struct prompt_options *options,
                  struct prompt_text *ret_text, struct err *err);
void prompt_text_release(struct prompt_text *text);

/*
 * The ids of a rendered conversation, one <|image_pad|> for each picture. The cache may be NULL.
 * Errors: ERR_UNSUPPORTED (the vocabulary lacks the format's tokens), ERR_NOMEM, and those of tokenizer_encode_spans.
 */
int prompt_tokenize(const struct tokenizer *tokenizer, struct tokenizer_cache *cache, const struct prompt_text *text,
                    struct prompt *ret_prompt, struct err *err);

/*
 * The ids of a prompt byte for byte: `<image>` stands for vision start, the next picture's pad, vision end; special tokens are
 * parsed. A pad that is spelt out is an ordinary token and no picture's place.
 * Errors: ERR_INVAL (markers and n_images differ), ERR_UNSUPPORTED (no vision tokens), those of tokenizer_encode.
 * For `heron eval`.
 */
int prompt_tokenize_raw(const struct tokenizer *tokenizer, struct tokenizer_cache *cache, const char *text, size_t n_bytes,
                        int32_t n_images, struct prompt *ret_prompt, struct err *err);

void prompt_release(struct prompt *prompt);

/* Working memory of prompt_make: grows to the longest conversation. Zeroed by its owner before the first use. */
struct prompt_room {
    struct prompt_text text, content;
    struct tokenizer_span *spans;
    size_t cap_spans;
    struct tokenizer_ids ids;
    size_t *image_at;
    size_t cap_images;
};
void prompt_room_release(struct prompt_room *room);

/*
 * prompt_render and prompt_tokenize in one, for conversations without end: *ret_prompt lies in the room, valid until its next use, and is not to be released.
 * Allocates nothing when the room has seen a conversation of that length. Errors: those of the two.
 */
int prompt_make(struct prompt_room *room, const struct tokenizer *tokenizer, struct tokenizer_cache *cache,
                const struct prompt_message *messages, int32_t n_messages, const struct prompt_options *options,
                struct prompt *ret_prompt, struct err *err);

/* Ids more, behind a prompt that lies in the room. Errors: ERR_NOMEM. */
int prompt_append(struct prompt_room *room, struct prompt *prompt, const int32_t *ids, int32_t n, struct err *err);

#endif
