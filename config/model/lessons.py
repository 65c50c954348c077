"""Lessons: rendered pictures with truth and words, streamed by build/tools/lessons (tools/lessons.c says what a lesson holds)."""

import hashlib
import io
import json
import math
import queue
import random
import struct
import subprocess
import threading

import numpy as np
import torch
from PIL import Image

TYPES = ["person", "car", "van", "dog", "bird", "box", "bag", "fire", "smoke"]
COLOURS = ["red", "blue", "green", "yellow", "white", "black", "grey", "brown", "vest"]
POSES = ["standing", "walking", "lying", "flying", "parked", "driving"]
PLACES = ["gate", "door", "fire_lane", "dock", "bay", "yard", "outside"]
HAZARDS = ["none", "fire", "person_down", "smoke", "blocked"]
LIGHTS = ["day", "dusk", "night"]
WEATHERS = ["clear", "rain", "fog"]
THREADS_MAX = 256  # that tools/lessons takes
GROUPS = {"person": 0, "car": 1, "van": 1}  # whose attributes are learned; everything else is group 2
KINDS = dict(GROUPS, box=2, bag=2)  # that are asked for by place, and by colour and pose
COUNTED = (("people", 7), ("vehicles", 7), ("animals", 5))  # and how many numbers are told apart: the last one means that many or more
HOLDS = (len(TYPES), 3 * len(PLACES), 2 * len(COLOURS), 2 * len(POSES))  # what a picture can hold: a type, a kind at a place, a person or a vehicle of a colour, in a pose


class Lesson:
    __slots__ = ("index", "pictures", "words")

    def __init__(self, index, pictures, words):
        self.index, self.pictures, self.words = index, pictures, words


def read(stream, n):
    data = stream.read(n)
    if len(data) != n:
        raise EOFError
    return data


def stream(program, seed, start, size, count=None, pairs=0):
    """Lessons start, start + 1, ... of a seed, with pictures of size (width, height), from a process of its own. program: [path, options]."""
    command = [*program, "--seed", str(seed), "--start", str(start), "--pairs", str(pairs), "--size", "%dx%d" % size]
    if count is not None:
        command += ["--count", str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=1 << 20, start_new_session=True)  # Ctrl-C is for the training, which saves
    index = start
    try:
        while count is None or index < start + count:
            n, w, h, n_text = struct.unpack("<4I", read(process.stdout, 16))
            pictures = [np.frombuffer(read(process.stdout, w * h * 3), np.uint8).reshape(h, w, 3) for _ in range(n)]
            yield Lesson(index, pictures, json.loads(read(process.stdout, n_text)))
            index += 1
    except EOFError:
        raise RuntimeError(f"{program[0]} ended with status {process.wait()} at lesson {index}") from None
    finally:
        process.kill()
        process.wait()


def fingerprint(program):
    """Of what the lessons are, whatever compiled the program: of 40 scenes, some of them with two pictures."""
    command = [*program, "--seed", "0", "--count", "640", "--pairs", "100", "--size", "320x192"]
    return hashlib.sha256(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout).hexdigest()


def compress(picture, rng):
    """As a camera's stream would bring it: marks of compression on every third picture."""
    if rng.random() > 0.33:
        return picture
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=rng.randint(35, 90))
    return np.asarray(Image.open(buffer))


class Shuffled:
    """Batches of lessons in mixed order, prepared by a thread of its own: neighbours of the stream share a scene. `make` makes batches of `group` lessons, of one picture each or of two each.

    `at` is where to start again: as many lessons before it as wait in the pool are drawn anew. Those that wait are not just these: a few hundred are then never seen, and as many twice.
    """

    DEPTH = 1024  # lessons that wait; a tenth as many where they have two pictures

    def __init__(self, program, seed, start, size, group, make, pairs=0):
        self.queue = queue.Queue(4)
        self.at = start
        self.args = (program, seed, start, size, group, make, pairs)
        self.is_over = False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def put(self, item):
        while not self.is_over:
            try:
                return self.queue.put(item, timeout=0.5)
            except queue.Full:
                pass

    def run(self):
        program, seed, start, size, group, make, pairs = self.args
        rng = random.Random(seed * 1000003 + start)
        pools, waiting = {1: [], 2: []}, {1: [], 2: []}
        try:
            for lesson in stream(program, seed, start, size, pairs=pairs):
                if self.is_over:
                    return
                lesson.pictures = [compress(p, rng) for p in lesson.pictures]
                n = len(lesson.pictures)
                if len(pools[n]) < self.DEPTH // (1 if n == 1 else 10):
                    pools[n].append(lesson)
                    continue
                k = rng.randrange(len(pools[n]))
                waiting[n].append(pools[n][k])
                pools[n][k] = lesson
                if len(waiting[n]) == group:
                    for batch in make(waiting[n], rng):
                        self.put((max(start, lesson.index + 1 - self.DEPTH - group), batch))
                    waiting[n] = []
        except BaseException as error:  # the training must hear of it
            self.put(error)

    def __next__(self):
        item = self.queue.get()
        if isinstance(item, BaseException):
            raise item
        self.at, batch = item
        return batch

    def close(self):
        """Ends the thread and its process, and lets go of what waits."""
        self.is_over = True
        self.thread.join()


def held(thing, type_, colour, pose, place):
    """Which of Labels.holds a thing makes true."""
    kind, out, first = KINDS.get(thing["type"], 3), [type_], HOLDS[0]
    for value, n, kinds in ((place, len(PLACES), 3), (colour, len(COLOURS), 2), (pose, len(POSES), 2)):
        if kind < kinds and value >= 0:
            out.append(first + kind * n + value)
        first += kinds * n
    return out


class Labels:
    """What the tower's merged tokens [B, K] and patches [B, 4 K] are taught besides the words, of pictures of one size (width, height) with these truths.

    things: (picture, type, group, (colour, pose, place), tokens), each of `tokens` (token, how far from the thing's middle, in tokens). A thing belongs to the token that its middle lies in or,
    near an edge, as well to the neighbour: which one, `assign` leaves to the tower, as long as it is one. Were it fixed, both would say half, and a thing would be counted twice or not at all.
    patch [B, 4 K, 2 types]: touched by a thing, middle of a thing, in the tower's order of patches; whole [B, 5] of the picture.
    told [B, 4]: how many people, vehicles, animals (COUNTED), which hazard; holds [B, sum of HOLDS] 0 or 1.
    """

    SLACK = 0.75  # of a token's side: 0.5 is its edge
    NEARER = 2.0  # logits that a token's side of distance costs

    def __init__(self, truths, size, tile=32):
        self.n, self.gh, self.gw = len(truths), size[1] // tile, size[0] // tile
        gh, gw = self.gh, self.gw
        self.things = []
        self.whole = torch.zeros(self.n, 5, dtype=torch.long)
        self.told = torch.zeros(self.n, 4, dtype=torch.long)
        self.holds = torch.zeros(self.n, sum(HOLDS))
        patch = np.zeros((self.n, 2 * gh, 2 * gw, 2, len(TYPES)), np.float32)
        for i, truth in enumerate(truths):
            for thing in truth["things"]:
                x0, y0, x1, y1 = thing["box"]
                x, y = min((x0 + x1) / 2 * gw, gw - 0.01), min((y0 + y1) / 2 * gh, gh - 0.01)
                kind = TYPES.index(thing["type"])
                attributes = [words.index(thing[name]) if name in thing else -1 for name, words in (("colour", COLOURS), ("pose", POSES), ("place", PLACES))]
                self.things.append((i, kind, GROUPS.get(thing["type"], 2), attributes, self.near(x, y)))
                self.holds[i, held(thing, kind, *attributes)] = 1
                top, left = int(y0 * 2 * gh + 0.15), int(x0 * 2 * gw + 0.15)
                patch[i, top : max(math.ceil(y1 * 2 * gh - 0.15), top + 1), left : max(math.ceil(x1 * 2 * gw - 0.15), left + 1), 0, kind] = 1
                patch[i, min(int((y0 + y1) * gh), 2 * gh - 1), min(int((x0 + x1) * gw), 2 * gw - 1), 1, kind] = 1
            self.whole[i] = torch.tensor([LIGHTS.index(truth["light"]), WEATHERS.index(truth["weather"]), truth["gate"] == "open", truth["dock"] == "open",
                                          truth["bays_free"]])
            self.told[i] = torch.tensor([min(truth[name], n - 1) for name, n in COUNTED] + [HAZARDS.index(truth["hazard"])])
        self.things.sort(key=lambda thing: len(thing[4]))  # those without a choice first
        patch = patch.reshape(self.n, gh, 2, gw, 2, -1).transpose(0, 1, 3, 2, 4, 5).reshape(self.n, 4 * gh * gw, -1)
        self.patch = torch.from_numpy(np.ascontiguousarray(patch))

    def near(self, x, y):
        out = []
        for row in range(max(int(y) - 1, 0), min(int(y) + 2, self.gh)):
            for column in range(max(int(x) - 1, 0), min(int(x) + 2, self.gw)):
                far = max(abs(column + 0.5 - x), abs(row + 0.5 - y))
                if far <= self.SLACK:
                    out.append((row * self.gw + column, far))
        return out

    def assign(self, logits):
        """logits [B, K, types, 2] of "at least one", "at least two" -> count [B, K, types] 0..2, attributes [B, K, 3 groups, 3] (-1: there is none, or it is not one thing)."""
        logits = logits.detach().float().cpu().numpy()
        k = self.gh * self.gw
        count = np.zeros((self.n, k, len(TYPES)), np.int64)
        attributes = np.full((self.n, k, 3, 3), -1, np.int64)
        seen = np.zeros((self.n, k, 3), np.int64)
        for i, kind, group, of_it, near in self.things:
            best = max(near, key=lambda t: logits[i, t[0], kind, min(count[i, t[0], kind], 1)] - self.NEARER * t[1])[0]
            count[i, best, kind] = min(count[i, best, kind] + 1, 2)
            seen[i, best, group] += 1
            attributes[i, best, group] = of_it if seen[i, best, group] == 1 else -1
        return torch.from_numpy(count).to(self.device), torch.from_numpy(attributes).to(self.device)

    device = torch.device("cpu")

    def to(self, device):
        self.device = device
        self.whole, self.patch, self.told, self.holds = (x.to(device) for x in (self.whole, self.patch, self.told, self.holds))
        return self
