"""What is said to the model and what it should answer: dialogues made of a lesson's words, in the chat format of the family."""

import hashlib
import pathlib

import numpy as np
import torch

import asks

SOURCE = hashlib.sha256(b"".join(pathlib.Path(f).read_bytes() for f in (__file__, asks.__file__))).hexdigest()  # a training is the same where this is
SCHEMA = (pathlib.Path(__file__).parent.parent / "schemas" / "observation-default.json").read_text()
# As appliance/worker.c puts the question of a watch (tests/appliance/test_worker.c sees that both stay alike).
WORKER_ASK = "Describe this picture."
WATCH_PROMPTS = ["Describe what this camera sees.", "You watch a loading dock.", "You watch a yard.", "You watch the yard of a warehouse.",
                 "This is a security camera.", "Say what you see.", "You look after a yard with a gate, a dock and a fire lane."]
DESCRIBE = [WORKER_ASK, "Describe the picture.", "What do you see?", "Describe the scene.", "What is going on here?", "Report."]
CHANGED = ["What changed?", "What has changed?", "What is different?", "What changed between the pictures?", "Compare the two pictures.", "Describe the pictures."]
NOTHING = "Nothing has changed."
KEYS = ["answer", "verdict", "result", "value"]
FORCED = 1 << 20  # is added to the label of a token that a schema forces the form of: `choose` says what is learned of it


def system_text(watch_prompt):
    return f"{watch_prompt}\nAnswer with one JSON object that follows this JSON Schema, and say only what can be seen.\n{SCHEMA}".strip()


def form(question, rng):
    """Question, answer, whether its form is forced: a plain word, which is what an unforced answer shall be; or JSON, where a schema asks for it as rules do: a word of an enum mostly."""
    ask, answer = question["ask"], question["answer"]
    kind = rng.random()
    if kind < 0.5:
        return ask, answer, False
    if question["kind"] == "yes_no":
        value = "true" if answer == "yes" else "false"
        value = f'"{answer}"' if rng.random() < 0.8 else value
    else:
        value = answer if answer.isdigit() else f'"{answer}"'
    return ask, value if kind < 0.88 else f'{{"{rng.choice(KEYS)}":{value}}}', True


def choose(logits, labels, openings):
    """Logits [N, V] and labels [N] to learn from. Where a schema forces how an answer begins, nothing is learned about whether to begin so: only what follows from it, among the tokens that begin
    alike (openings [V]: tokens.Tokens). Otherwise half of all answers begin with a quotation mark, and whoever doubts between three words says just that."""
    forced = labels >= FORCED
    labels = torch.where(forced, labels - FORCED, labels)
    return logits.masked_fill(forced[:, None] & (openings != openings[labels][:, None]), -1e4), labels


class Dialogue:
    """Ids with what is to be learned of them: labels are -100 where the user speaks.

    Each answer stands behind the empty block of thoughts, as it does when it is the one asked for. The chat template leaves that block out of answers that were given before, so a
    conversation with a history has a form that is not learned: one question a conversation.
    """

    def __init__(self, tokens, n_image):
        self.tokens, self.n_image = tokens, n_image
        self.ids, self.labels = [], []

    def put(self, ids, is_answer=False, is_forced=False):
        self.ids += ids
        self.labels += ids if is_answer else [-100] * len(ids)
        if is_forced:
            self.labels[-len(ids)] += FORCED

    def system(self, text):
        self.put([self.tokens.start] + self.tokens.encode("system\n" + text) + [self.tokens.end] + self.tokens.encode("\n"))

    def user(self, text, n_pictures=0):
        t = self.tokens
        self.put([t.start] + t.encode("user\n") + n_pictures * ([t.vision_start] + [t.image] * self.n_image + [t.vision_end])
                 + t.encode(text) + [t.end] + t.encode("\n") + [t.start] + t.encode("assistant\n<think>\n\n</think>\n\n"))

    def answer(self, text, is_forced=False):
        self.put(self.tokens.encode(text) + [self.tokens.end], True, is_forced)
        self.put(self.tokens.encode("\n"))


WATCHES = 0.25  # of the dialogues about one picture
SAME = 0.12  # of the pairs show one picture twice
ASKED = 0.5  # of the dialogues have questions of asks.py


def noisy(picture, rng):
    """As a camera would bring the same scene again."""
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 4), picture.shape)
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


def dialogue(tokens, lesson, n_image, rng):
    """One dialogue about a lesson's last picture, or about what changed: as the daemon asks, system text and all, or several turns."""
    w = lesson.words
    d = Dialogue(tokens, n_image)
    if len(lesson.pictures) == 2:
        change = w["change"]
        if rng.random() < SAME:
            again = lesson.pictures[1] if rng.random() < 0.3 else noisy(lesson.pictures[1], rng)
            lesson.pictures[0], w["before"], change = again, w["truth"], NOTHING
        d.user(rng.choice(CHANGED), 2)
        d.answer(change)
        return d
    if rng.random() < WATCHES:
        d.system(system_text(rng.choice(WATCH_PROMPTS)))
        turns = [(WORKER_ASK, w["observation"], False)]
    else:
        questions = list(w["questions"])
        rng.shuffle(questions)
        questions = questions[: rng.randint(4, 5)]
        if rng.random() < ASKED:
            questions[:2] = (further(w["truth"], rng) for _ in range(2))
        turns = [form(q, rng) for q in questions]
        rng.shuffle(turns)
        describe = (rng.choice(DESCRIBE), w["observation"], True) if rng.random() < 0.75 else (rng.choice(DESCRIBE), w["summary"], False)
        turns = [describe] + turns if rng.random() < 0.4 else turns + [describe]
        if rng.random() < 0.1:
            d.system(rng.choice(WATCH_PROMPTS))
    for i, (ask, answer, is_forced) in enumerate(turns):
        d.user(ask, 1 if i == 0 else 0)
        d.answer(answer, is_forced)
    return d


def further(truth, rng):
    ask, answer = asks.draw(truth, rng)
    return dict(ask=ask, answer=answer, kind="yes_no")


def single(tokens, ask, answer, n_image):
    """A dialogue of one question with a plain answer."""
    d = Dialogue(tokens, n_image)
    d.user(ask, 1)
    d.answer(answer)
    return d


def collate(dialogues, pad, lengths):
    """ids [B, T], labels [B, T] (already shifted: labels[t] follows ids[t]); T the smallest of `lengths` that holds all."""
    n = max(len(d.ids) for d in dialogues)
    if n > lengths[-1]:
        raise ValueError(f"a dialogue of {n} tokens: {lengths[-1]} are the most")
    t = next(x for x in lengths if x >= n)
    ids = torch.full((len(dialogues), t), pad)
    labels = torch.full((len(dialogues), t), -100)
    for i, d in enumerate(dialogues):
        m = len(d.ids)
        ids[i, :m] = torch.tensor(d.ids)
        labels[i, : m - 1] = torch.tensor(d.labels[1:])
    return ids, labels
