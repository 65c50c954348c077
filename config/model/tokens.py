"""The shipped model's tokenizer: byte-level BPE in the family's manner, with its special tokens, learned from what the lessons say.

    python3 tokens.py --lessons build/tools/lessons --out tokenizer.json
"""

import argparse
import json
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SIZE = 1536  # with the special tokens
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
OPENINGS = (("true", "false"), '"', "{")  # of answers in JSON
NUMBERS = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "nobody", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
CONTROL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>",
    "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
DEFINED = [
    "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>",
    "</tool_response>", "<think>", "</think>"]
# What every answer is written in, apart from the lessons' own words.
TEXTS = ['{"answer":"yes"}', '{"answer":"no"}', '{"answer":true}', '{"answer":false}', '{"verdict":"yes"}', '{"result":"no"}', '"yes"', '"no"', "Yes.", "No.",
         "user", "assistant", "system", "What changed?", "Describe this picture.", "Describe the picture.", "Describe what this camera sees.",
         "You watch a loading dock.", "You watch a yard.", "Answer with yes or no."]


class Tokens:
    def __init__(self, path):
        self.tokenizer = Tokenizer.from_file(str(path))
        self.size = self.tokenizer.get_vocab_size()
        at = self.tokenizer.token_to_id
        self.end_of_text, self.start, self.end = at("<|endoftext|>"), at("<|im_start|>"), at("<|im_end|>")
        self.image, self.video = at("<|image_pad|>"), at("<|video_pad|>")
        self.vision_start, self.vision_end = at("<|vision_start|>"), at("<|vision_end|>")
        texts = [self.tokenizer.id_to_token(i) for i in range(self.size)]
        self.openings = [next((i for i, o in enumerate(OPENINGS, 1) if t.startswith(o)), 0) for t in texts]  # of each token: which of these it begins with
        self.is_number = [t.strip("\u0120").lower() in NUMBERS for t in texts]

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)


NORMAL = 1  # tokenizer.ggml.token_type of what is neither special nor defined


def plain(model):
    t = Tokenizer(model)
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    return t


def special():
    return [AddedToken(s, special=True, normalized=False) for s in CONTROL] + [AddedToken(s, special=False, normalized=False) for s in DEFINED]


def write(t, path):
    new = pathlib.Path(path).with_suffix(".new")
    new.write_text(t.to_str(pretty=True))
    new.replace(path)


def train(texts, path, size=SIZE):
    t = plain(models.BPE())
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size - len(special()), initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    t.add_tokens(special())
    write(t, path)
    return t.get_vocab_size()


def restore(text_file, path):
    """The tokenizer of a GGUF file, as `train` writes it."""
    from gguf import GGUFReader

    texts, kinds, merges = (GGUFReader(text_file).fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type", "merges"))
    t = plain(models.BPE(vocab={x: i for i, (x, kind) in enumerate(zip(texts, kinds)) if kind == NORMAL}, merges=[tuple(m.split(" ")) for m in merges]))
    t.add_tokens(special())
    assert all(t.token_to_id(x) == i for i, x in enumerate(texts)), f"{text_file}: the vocabulary is another one"
    write(t, path)
    return t.get_vocab_size()


def learn(program, path, count=3000):
    """The vocabulary from lessons and from what users may say besides (prompts.txt). Returns figures about it."""
    import lessons
    import texts

    prose = (pathlib.Path(__file__).parent / "prompts.txt").read_text().splitlines()
    words = prose * 10 + list(TEXTS) * 50 + [texts.system_text(s) for s in texts.WATCH_PROMPTS] * 200
    for lesson in lessons.stream(program, 0, 0, (64, 36), count, pairs=200):
        w = lesson.words
        words += [w["observation"], w["summary"], w.get("change", "")] + [t for q in w["questions"] for t in (q["ask"], q["answer"])]
    n = train(words, path)
    t = Tokens(path)
    return {"vocabulary": n, "observation": len(t.encode(w["observation"])), "system_text": len(t.encode(texts.system_text(texts.WATCH_PROMPTS[0])))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--lessons", default="build/tools/lessons")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    print(json.dumps(learn([args.lessons], args.out)))
