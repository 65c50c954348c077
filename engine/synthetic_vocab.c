/*
 * synthetic_vocab - a small vocabulary of the family's kind, grown from a word list by a fixed procedure.
 *
 * Ids: the 256 bytes in the family's order, merged tokens, added tokens, padding. Each entry of the list is cut into tokens by the
 * merges there are so far; what is left is joined from left to right, each join a new merge. So every beginning of the list of
 * merges is a vocabulary too, and a smaller n_vocab just stops earlier.
 */
#include "engine/synthetic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_BYTES  48
#define MERGES_MAX   2048
#define FAMILY_VOCAB 248320 /* the published size, whose added tokens begin at FAMILY_ADDED */
#define FAMILY_ADDED 248044

/* Texts that should be few tokens: English of scenes, chat roles, JSON as the schema writer lays it out. */
static const char *const words[] = {
    " the",        " a",        " is",        " in",      " and",       " of",       " to",         " on",      " at",
    " it",         " no",       " are",       " there",   " with",      " for",      " an",         " one",     " two",
    " three",      " person",   " people",    " man",     " woman",     " child",    " dog",        " cat",     " bird",
    " car",        " truck",    " van",       " bicycle", " bus",       " package",  " parcel",     " box",     " ball",
    " door",       " gate",     " garage",    " window",  " street",    " road",     " house",      " garden",  " yard",
    " front",      " back",     " left",      " right",   " top",       " bottom",   " center",     " corner",  " near",
    " next",       " behind",   " between",   " above",   " below",     " standing", " walking",    " running", " sitting",
    " lying",      " moving",   " holding",   " wearing", " carrying",  " red",      " green",      " blue",    " yellow",
    " white",      " black",    " gray",      " orange",  " purple",    " dark",     " bright",     " small",   " large",
    " empty",      " open",     " closed",    " nothing", " something", " visible",  " scene",      " camera",  " picture",
    " image",      " frame",    " shows",     " circle",  " square",    " triangle", " rectangle",  " shape",   " color",
    " background", " number",   " count",     " day",     " night",     " light",    " rain",       " snow",    " smoke",
    " fire",       " water",    " floor",     " wall",    " tree",      " sky",      " Describe",   " Answer",  " What",
    " Which",      " How",      " many",      " does",    " you",       " see",      " this",       " that",    " was",
    " has",        " have",     " not",       " or",      " as",        " by",       " from",       " yes",     " true",
    " false",      " null",     " none",      " low",     " medium",    " high",     " JSON",       " only",    "system",
    "user",        "assistant", "The",        "There",    "A",          "No",        "Yes",         "You",      "What",
    "Is",          "Describe",  "Answer",     "person",   "people",     "vehicle",   "animal",      "object",   "objects",
    "count",       "color",     "shape",      "position", "label",      "summary",   "description", "hazard",   "event",
    "alert",       "reason",    "confidence", "scene",    "kind",       "type",      "name",        "value",    "state",
    "present",     "true",      "false",      "null",     "none",       "low",       "medium",      "high",     "left",
    "right",       "center",    "red",        "green",    "blue",       "yellow",    "white",       "black",    "circle",
    "square",      "triangle",  "think",      "ing",      "ed",         "er",        "ly",          "tion",     "s",
    "es",          "{\"",       "\":",        "\":\"",    "\",\"",      "\"}",       "\"},{\"",     "\":[",     "\"]",
    "\"]}",        ",\"",       "\":{\"",     "}}",       "}]",         "[]",        "{}",          " \"",      "\",",
    "...",         "://",       "\n\n",       "\r\n",     "  ",         "    ",      ". ",          ", ",
};

/* type 3: control; 4: user-defined */
static const struct added {
    const char *text;
    int32_t type;
} added[] = {
    {"<|endoftext|>", 3},
    {"<|im_start|>", 3},
    {"<|im_end|>", 3},
    {"<|object_ref_start|>", 3},
    {"<|object_ref_end|>", 3},
    {"<|box_start|>", 3},
    {"<|box_end|>", 3},
    {"<|quad_start|>", 3},
    {"<|quad_end|>", 3},
    {"<|vision_start|>", 3},
    {"<|vision_end|>", 3},
    {"<|vision_pad|>", 3},
    {"<|image_pad|>", 3},
    {"<|video_pad|>", 3},
    {"<tool_call>", 4},
    {"</tool_call>", 4},
    {"<|fim_prefix|>", 3},
    {"<|fim_middle|>", 3},
    {"<|fim_suffix|>", 3},
    {"<|fim_pad|>", 3},
    {"<|repo_name|>", 3},
    {"<|file_sep|>", 3},
    {"<tool_response>", 4},
    {"</tool_response>", 4},
    {"<think>", 4},
    {"</think>", 4},
    {"<|audio_start|>", 3},
    {"<|audio_end|>", 3},
    {"<tts_pad>", 3},
    {"<tts_text_bos>", 3},
    {"<tts_text_eod>", 3},
    {"<tts_text_bos_single>", 3},
    {"<|audio_pad|>", 3},
};

#define N_ADDED    ((int32_t)(sizeof added / sizeof *added))
#define ADDED_END  0
#define ADDED_STOP 2

/* A vocabulary being grown. Tokens 0..255 are bytes. */
struct growth {
    char tokens[256 + MERGES_MAX][TOKEN_BYTES];
    int32_t n_tokens;
    struct pair {
        int32_t left, right, result;
        int32_t n_tokens; /* after this merge */
    } merges[MERGES_MAX];
    int32_t n_merges;
    int32_t id_of_byte[256];
};

/* Whether a byte is shown as itself in the byte-to-unicode form (tokenizer.h). */
static bool is_shown(int b)
{
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

static void add_byte(struct growth *g, int b, int code)
{
    char *t = g->tokens[g->n_tokens];
    if (code < 0x80) {
        t[0] = (char)code;
    } else {
        t[0] = (char)(0xC0 | code >> 6);
        t[1] = (char)(0x80 | (code & 0x3F));
    }
    g->id_of_byte[b] = g->n_tokens++;
}

static void add_bytes(struct growth *g)
{
    int hidden = 0;
    for (int b = 0; b < 256; b++)
        if (is_shown(b))
            add_byte(g, b, b);
    for (int b = 0; b < 256; b++)
        if (!is_shown(b))
            add_byte(g, b, 256 + hidden++);
}

static int32_t find_merge(const struct growth *g, int32_t left, int32_t right)
{
    for (int32_t i = 0; i < g->n_merges; i++)
        if (g->merges[i].left == left && g->merges[i].right == right)
            return i;
    return -1;
}

/* Cut into tokens by the merges so far, lowest rank first; returns how many. */
static int cut(const struct growth *g, const char *text, int32_t *ids)
{
    int n = 0;
    for (; text[n]; n++)
        ids[n] = g->id_of_byte[(unsigned char)text[n]];
    for (;;) {
        int32_t best = -1;
        int at = 0;
        for (int i = 0; i + 1 < n; i++) {
            int32_t m = find_merge(g, ids[i], ids[i + 1]);
            if (m >= 0 && (best < 0 || m < best)) {
                best = m;
                at = i;
            }
        }
        if (best < 0)
            return n;
        ids[at] = g->merges[best].result;
        memmove(ids + at + 1, ids + at + 2, (size_t)(n - at - 2) * sizeof *ids);
        n--;
    }
}

static int32_t join(struct growth *g, int32_t left, int32_t right)
{
    char text[2 * TOKEN_BYTES];
    snprintf(text, sizeof text, "%s%s", g->tokens[left], g->tokens[right]);
    int32_t id = 0;
    while (id < g->n_tokens && strcmp(g->tokens[id], text) != 0)
        id++;
    if (id == g->n_tokens)
        snprintf(g->tokens[g->n_tokens++], TOKEN_BYTES, "%.*s", TOKEN_BYTES - 1, text);
    if (find_merge(g, left, right) < 0)
        g->merges[g->n_merges++] = (struct pair){left, right, id, g->n_tokens};
    return id;
}

static void grow(struct growth *g)
{
    int32_t ids[TOKEN_BYTES];
    add_bytes(g);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        int n = cut(g, words[i], ids);
        for (int k = 1; k < n && g->n_merges < MERGES_MAX; k++)
            ids[0] = join(g, ids[0], ids[k]);
    }
}

/* ---- laying it out ---------------------------------------------------------------------------------------------------------- */

int32_t synthetic_vocab_min(void)
{
    return 256 + N_ADDED;
}

/* Appends to v->text; the pointers are set when all is there, for the text may move. Here it is sized beforehand. */
static const char *keep(char **at, const char *text)
{
    size_t n = strlen(text) + 1;
    const char *kept = memcpy(*at, text, n);
    *at += n;
    return kept;
}

static void lay_out(struct synthetic_vocab *v, const struct growth *g, int32_t n_base, char *at)
{
    char text[2 * TOKEN_BYTES + 2];
    const int32_t first = v->n_tokens == FAMILY_VOCAB ? FAMILY_ADDED : n_base;
    for (int32_t i = 0; i < v->n_tokens; i++) {
        v->types[i] = 1;
        if (i < n_base) {
            v->tokens[i] = keep(&at, g->tokens[i]);
        } else if (i < first) { /* never made by merging; decodes to text */
            snprintf(text, sizeof text, "\xC4\xA0tok%d", i);
            v->tokens[i] = keep(&at, text);
        } else if (i < first + N_ADDED) {
            v->tokens[i] = keep(&at, added[i - first].text);
            v->types[i] = added[i - first].type;
        } else {
            snprintf(text, sizeof text, "[PAD%d]", i);
            v->tokens[i] = keep(&at, text);
            v->types[i] = 5;
        }
    }
    for (int32_t i = 0; i < v->n_merges; i++) {
        snprintf(text, sizeof text, "%s %s", g->tokens[g->merges[i].left], g->tokens[g->merges[i].right]);
        v->merges[i] = keep(&at, text);
    }
    v->eos = first + ADDED_STOP;
    v->pad = first + ADDED_END;
}

int synthetic_vocab_create(int32_t n_vocab, struct synthetic_vocab **ret_vocab, struct err *err)
{
    if (n_vocab < synthetic_vocab_min())
        return err_set(err, ERR_INVAL, "a vocabulary of %d tokens: the bytes and the added tokens alone are %d", n_vocab,
                       synthetic_vocab_min());
    struct growth *g = calloc(1, sizeof *g);
    struct synthetic_vocab *v = calloc(1, sizeof *v);
    if (!g || !v)
        goto fail;
    grow(g);
    v->n_tokens = n_vocab;
    int32_t n_base = 256;
    while (v->n_merges < g->n_merges && g->merges[v->n_merges].n_tokens <= n_vocab - N_ADDED)
        n_base = g->merges[v->n_merges++].n_tokens;
    v->tokens = calloc((size_t)n_vocab, sizeof *v->tokens);
    v->types = calloc((size_t)n_vocab, sizeof *v->types);
    v->merges = calloc((size_t)v->n_merges + 1, sizeof *v->merges);
    v->text = malloc((size_t)n_vocab * TOKEN_BYTES + (size_t)v->n_merges * (2 * TOKEN_BYTES + 2));
    if (!v->tokens || !v->types || !v->merges || !v->text)
        goto fail;
    lay_out(v, g, n_base, v->text);
    free(g);
    *ret_vocab = v;
    return 0;
fail:
    free(g);
    synthetic_vocab_free(v);
    return err_set(err, ERR_NOMEM, "no memory for a vocabulary of %d tokens", n_vocab);
}

void synthetic_vocab_free(struct synthetic_vocab *vocab)
{
    if (!vocab)
        return;
    free(vocab->tokens);
    free(vocab->types);
    free(vocab->merges);
    free(vocab->text);
    free(vocab);
}
