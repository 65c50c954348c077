#!/usr/bin/env python3
"""Golden ids of the official tokenizer class over a small vocabulary trained here.

    pip install transformers==5.17.0 tokenizers==0.23.3
    python tests/golden/tokenizer/generate.py        writes vocab.txt, merges.txt, cases.txt, nfc.txt beside itself

The vocabulary is made by the `tokenizers` BPE trainer with the family's pattern over sentences composed below; the ids come
from transformers' Qwen3_5Tokenizer built from it. Everything is seeded: the same versions give the same bytes.

vocab.txt    one token a line, the line number is the id: GGUF token type, space, text in stored form
merges.txt   one merge a line, the line number is the rank
cases.txt    flags TAB text TAB ids. Flags: s = control tokens are parsed, r = decoding the ids gives the text in NFC.
             Text: bytes that are not printable characters, and space, % and TAB, are written %XX
nfc.txt      text TAB the official normaliser's output, written the same way
"""
import json
import os
import random
import unicodedata

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers.models.qwen3_5.tokenization_qwen3_5 import PRETOKENIZE_REGEX, Qwen3_5Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
RND = random.Random(20260818)
N_MERGES, N_CASES, N_NFC = 2000, 4000, 600

CONTROL = """<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> <|quad_start|>
<|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> <|fim_prefix|> <|fim_middle|> <|fim_suffix|>
<|fim_pad|> <|repo_name|> <|file_sep|> <|audio_start|> <|audio_end|> <tts_pad> <tts_text_bos> <tts_text_eod> <tts_text_bos_single>
<|audio_pad|>""".split()
USER_DEFINED = "<tool_call> </tool_call> <tool_response> </tool_response> <think> </think>".split()

WORDS = {
    "latin": """the a camera sees nobody at gate person vehicle red truck is parked near door it's don't we'll they've I'm you'd
        SHE'S CAN'T naïve café façade über straße Ärger niño coração příliš žluťoučký kůň zażółć gęślą jaźń İstanbul ığdır Œuvre
        hazard smoke fire blocked none answer image picture describe what how many people are visible""",
    "cyrillic": "камера видит человека у ворот машина стоит рядом с дверью нет никого ёлка подъезд Київ їжак ґанок Србија љубав",
    "greek": "η κάμερα βλέπει έναν άνθρωπο στην πύλη αυτοκίνητο κόκκινο πόρτα Ἀθῆναι ὁδός ΐ Ώρα",
    "arabic": "الكاميرا ترى شخصا عند البوابة سيارة حمراء قرب الباب لا أحد مُحَمَّد كِتَاب فارسی پنجره گل",
    "hebrew": "המצלמה רואה אדם ליד השער רכב אדום דלת שָׁלוֹם בְּרֵאשִׁית",
    "devanagari": "कैमरा एक व्यक्ति को दरवाज़े पर देखता है लाल गाड़ी क़लम हिन्दी में कोई नहीं",
    "bengali": "ক্যামেরা একজন মানুষ দরজা লাল গাড়ি বাংলা কেউ নেই ড়",
    "tamil": "கேமரா ஒரு நபர் கதவு சிவப்பு வண்டி தமிழ் யாரும் இல்லை",
    "thai": "กล้อง เห็น คน ที่ประตู รถสีแดง ไม่มีใคร น้ำ ผู้",
    "hangul": "카메라가 사람을 문에서 봅니다 빨간 자동차 아무도 없음 한국어 각 힣",
    "cjk": "摄像头 看见 一个人 在门口 红色的卡车 没有人 漢字 かな カタカナ 東京 火災 煙 車 が ぎ パン",
    "others": "ქართული հայերեն አማርኛ ខ្មែរ မြန်မာ བོད་ཡིག ᏣᎳᎩ ᠮᠣᠩᠭᠣᠯ ဗမာ සිංහල తెలుగు ಕನ್ನಡ മലയാളം ગુજરાતી ਪੰਜਾਬੀ",
}
WORDS = {k: v.split() for k, v in WORDS.items()}
EMOJI = ["😀", "🔥", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪🇫🇷", "❤️", "1️⃣", "🧑‍🚒", "☃", "✓", "🚗💨"]
CODE = [
    "for (int i = 0; i < n; i++) {\n    sum += a[i] * b[i];\n}\n",
    "def f(x, *args):\n\treturn x if x else None  # why\n",
    "if (rc != 0)\n        goto fail;\r\n\r\n",
    "SELECT id, name FROM cameras WHERE id >= 42 AND lost = 'yes';",
    "https://user:pw@example.org:8554/live?x=1&y=%20z#frag",
    "<div class=\"a\">it's 100% &amp; more</div>",
    "#include <stdio.h>\n#define A(x) ((x)+1)\n",
    "$ cat foo.txt | grep -v '^#' > /dev/null 2>&1",
    "x=12345.6e-7; y=0xFFp3; z=1_000_000",
    "foo_bar(baz);\n\n", "I'll  go, don't!", "'SALE it's", "a \n  \n  b", "trail   ", "   a", "$100 %d", "don’t", "3\u0301a", " '\u0301s",
]
JSON = ['{"people": 3, "vehicles": 0, "hazard": "none", "note": "red truck at gate"}', '[1, 2.5, -3e10, true, null, "é\\n"]',
        '{\n  "a": {\n    "b": []\n  }\n}']
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n ", "\u00a0", "\u3000", "\u2003", "\u2028", "\u0085", "\u200b", "\x0b", "\x0c", " " * 17, "\n" * 9,
          "\r", "\t\t", " \t ", "\ufeff", "\u2060"]
SPECIAL_BITS = ["<|im_", "start|>", "<|", "|>", "<th", "<think", "</", "<tool_call", "<|im_end|", "<tts_text_bos", "_single>", "<<think>>", "im_end|>"]
APOSTROPHES = ["'s", "'S", "'\u017f", "'t", "'RE", "'re", "'ll", "'lL", "'l", "'ve", "'v", "'m", "'d", "'x", "''s", "’s", "'\u212a", "'ſt", "'\u0301s", "'ﬀ"]


def random_points(n):
    out = []
    while len(out) < n:
        top = RND.choice([0x80, 0x250, 0x3000, 0xFFFF, 0x1FFFF, 0x2FFFF, 0x10FFFF])
        c = RND.randint(0, top)
        if not 0xD800 <= c <= 0xDFFF:
            out.append(chr(c))
    return "".join(out)


MARKS = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c))[0] == "M"]
DECOMPOSABLE = [chr(c) for c in range(0x110000) if unicodedata.decomposition(chr(c)) and not unicodedata.decomposition(chr(c)).startswith("<")]
# letters and marks of Unicode 15.1 and 16, and marks of 14 and 15 that the official normaliser takes for starters
NEW = [chr(c) for c in (0x2EBF0, 0x1C89, 0xA7CB, 0x105C0, 0x105D2, 0x10D40, 0x10D4A, 0x10D69, 0x11382, 0x113C9, 0x113CE, 0x13460, 0x1611E, 0x16D67, 0x16D70, 0x1E5EE,
                        0x0897, 0x0898, 0x1DFA, 0x10EFD, 0x1E08F, 0x11F41)]


def sentence(script, n):
    return " ".join(RND.choice(WORDS[script]) for _ in range(n))


def piece():
    k = RND.randrange(22)
    if k < 6:
        return sentence(RND.choice(list(WORDS)), RND.randint(1, 5))
    if k == 6:
        return unicodedata.normalize("NFD", sentence(RND.choice(list(WORDS)), RND.randint(1, 3)))
    if k == 7:
        return "".join(RND.choice(EMOJI) for _ in range(RND.randint(1, 3)))
    if k == 8:
        return RND.choice(CODE)
    if k == 9:
        return RND.choice(JSON)
    if k == 10:
        return "".join(RND.choice(SPACES) for _ in range(RND.randint(1, 4)))
    if k == 11:
        return str(RND.randrange(10 ** RND.randint(1, 12))) + RND.choice(["", "٣٤", "Ⅷ", "½", "².", "১২"])
    if k == 12:
        return RND.choice(CONTROL + USER_DEFINED * 4)
    if k == 13:
        return RND.choice(SPECIAL_BITS) + RND.choice(["", RND.choice(CONTROL + USER_DEFINED)])
    if k == 14:
        return random_points(RND.randint(1, 8))
    if k == 15:
        return "".join(chr(RND.choice([*range(0, 32), 127, *range(128, 160)])) for _ in range(RND.randint(1, 5)))
    if k == 16:
        return RND.choice(["x", "", "IT", "3"]) + RND.choice(APOSTROPHES) + RND.choice(["", "ALE", " ", "1"])
    if k == 17:
        return RND.choice(["e", "A", "3", "-", " ", "\u0915", "\u1100\u1161", ">"]) + "".join(RND.choice(MARKS) for _ in range(RND.randint(1, 4)))
    if k == 18:
        return "".join(RND.choice(DECOMPOSABLE) for _ in range(RND.randint(1, 3)))
    if k == 19:
        return "".join(RND.choice(NEW + ["a", "1", " ", "\u0301", "\u0323"]) for _ in range(RND.randint(1, 6)))
    if k == 20:
        return "".join(RND.choice("!\"#$%&()*+,-./:;<=>?@[]^_`{|}~\\ \n") for _ in range(RND.randint(1, 8)))
    return RND.choice([" ", "\n", "", "\n\n"])


def line():
    n = RND.choice([1, 1, 2, 2, 3, 4, 5])
    return "".join(piece() + RND.choice(["", "", " ", "\n"]) for _ in range(n))


def bad_bytes():
    out = b""
    for _ in range(RND.randint(1, 6)):
        k = RND.randrange(5)
        if k == 0:
            out += bytes(RND.randrange(256) for _ in range(RND.randint(1, 4)))
        elif k == 1:
            b = RND.choice(["é", "漢", "🔥", "\u0301"]).encode()
            out += b[: RND.randint(1, len(b))]
        elif k == 2:
            out += RND.choice([b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x80\x80\xaf", b"\xfe", b"\xff", b"\x80\xbf", b"\xef\xbf", b"\xe2\x82"])
        else:
            out += RND.choice(["ok", " it's", "漢", "\n", "<|im_end|>", "<think>", "e\u0301"]).encode()
    return out


def escaped(data):
    out = []
    for ch in data.decode("utf-8", "surrogateescape"):
        if ch.isprintable() and ch not in " %":
            out.append(ch)
        else:
            out.append("".join(f"%{b:02X}" for b in ch.encode("utf-8", "surrogateescape")))
    return "".join(out)


def train():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=256 + N_MERGES, min_frequency=2, show_progress=False, special_tokens=[],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    corpus = [sentence(s, 8) for s in WORDS for _ in range(60)] + CODE * 8 + JSON * 20 + EMOJI * 10
    corpus += [" " * k + "x" for k in range(1, 30)] * 3 + ["\n" * k for k in range(1, 12)] * 3 + ["ſs 'ſ"] * 3
    t.train_from_iterator(corpus, trainer)
    model = json.loads(t.to_str())["model"]
    return model["vocab"], [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in model["merges"]]


def build(vocab, merges):
    t = Qwen3_5Tokenizer(vocab=dict(vocab), merges=list(merges), unk_token=None, eos_token=None, pad_token=None)
    # "special" here is what a GGUF calls control: the fim, repo and file tokens are control there, though not special upstream
    t.add_tokens([AddedToken(x, special=x in CONTROL, normalized=False) for x in CONTROL + USER_DEFINED])
    return t


def main():
    vocab, merges = train()
    words = [w for w, _ in sorted(vocab.items(), key=lambda x: x[1])]
    # tokens that no merge makes, as the family's vocabulary has them: merging must not find them
    for extra in ("Ġcamerasees", "zzz", "ĠĠĊĠ", "Ã©Ã©"):
        assert extra not in vocab
        vocab[extra] = len(words)
        words.append(extra)
    official = build(vocab, merges)
    added = CONTROL + USER_DEFINED
    types = [1] * len(words)
    for x in added:
        assert official.convert_tokens_to_ids(x) == len(words), x
        types.append(3 if x in CONTROL else 4)
        words.append(x)
    for k in range(3):
        types.append(5)
        words.append(f"[PAD{len(words)}]")
    backend = official.backend_tokenizer
    nfc = normalizers.NFC().normalize_str

    texts = [(x.encode(), s) for x in CODE + JSON + EMOJI + SPACES + APOSTROPHES + CONTROL + USER_DEFINED + SPECIAL_BITS for s in (True, False)]
    texts += [(b"<think>\xcc\xb8x", True), (b"<|im_end|>\xcc\xb8", True), (b"a" * 300, True), (("é" * 200).encode(), True), (b" " * 400, True),
              (("\u0301" * 100).encode(), True), (("abcdefgh" * 60).encode(), True), (b"", True)]
    while len(texts) < N_CASES - 300:
        texts.append((line().encode(), RND.random() < 0.6))
    texts += [(bad_bytes(), RND.random() < 0.5) for _ in range(300)]

    with open(os.path.join(HERE, "vocab.txt"), "w", newline="") as f:
        f.writelines(f"{t} {w}\n" for t, w in zip(types, words))
    with open(os.path.join(HERE, "merges.txt"), "w", newline="") as f:
        f.writelines(f"{a} {b}\n" for a, b in merges)
    n_ids = n_round = 0
    with open(os.path.join(HERE, "cases.txt"), "w", newline="") as f:
        for data, special in texts:
            text = data.decode("utf-8", "replace")
            backend.encode_special_tokens = not special
            ids = backend.encode(text, add_special_tokens=False).ids
            if special:
                assert ids == official(text, add_special_tokens=False)["input_ids"]
            whole = official.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == nfc(text)
            n_round += whole
            n_ids += len(ids)
            f.write(("s" if special else "") + ("r" if whole else "") + "\t" + escaped(data) + "\t" + " ".join(map(str, ids)) + "\n")
    with open(os.path.join(HERE, "nfc.txt"), "w", newline="") as f:
        for _ in range(N_NFC):
            t = "".join(RND.choice(RND.choice((MARKS, DECOMPOSABLE, NEW, "aeoAEO<>= \u1100\u1161\u11a8\uac00"))) for _ in range(RND.randint(1, 7)))
            f.write(escaped(t.encode()) + "\t" + escaped(nfc(t).encode()) + "\n")
    print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}, Python's Unicode {unicodedata.unidata_version}")
    print(f"{len(words)} tokens, {len(merges)} merges, {len(texts)} cases, {n_ids} ids, {n_round} come back as NFC")


main()
