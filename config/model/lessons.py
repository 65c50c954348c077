"""Lessons: rendered pictures with truth and words, streamed by build/tools/lessons (tools/lessons.c says what a lesson holds)."""

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
LIGHTS = ["day", "dusk", "night"]
WEATHERS = ["clear", "rain", "fog"]
GROUPS = {"person": 0, "car": 1, "van": 1}  # whose attributes are learned; everything else is group 2


class Lesson:
    __slots__ = ("index", "pictures", "words")

    def __init__(self, index, pictures, words):
        self.index, self.pictures, self.words = index, pictures, words


def read(stream, n):
    data = stream.read(n)
    if len(data) != n:
        raise EOFError
    return data


def stream(program, seed, start, count=None, pairs=0, extra=()):
    """Lessons start, start + 1, ... of a seed, from a process of its own."""
    command = [program, "--seed", str(seed), "--start", str(start), "--pairs", str(pairs), *extra]
    if count is not None:
        command += ["--count", str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=1 << 20)
    index = start
    try:
        while True:
            try:
                n, w, h, n_text = struct.unpack("<4I", read(process.stdout, 16))
            except EOFError:
                break
            pictures = [np.frombuffer(read(process.stdout, w * h * 3), np.uint8).reshape(h, w, 3) for _ in range(n)]
            yield Lesson(index, pictures, json.loads(read(process.stdout, n_text)))
            index += 1
    finally:
        process.kill()
        if process.wait() not in (0, -9):
            raise RuntimeError(f"{program} ended with status {process.returncode}")


def compress(picture, rng):
    """As a camera's stream would bring it: marks of compression on every third picture."""
    if rng.random() > 0.33:
        return picture
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=rng.randint(35, 90))
    return np.asarray(Image.open(buffer))


class Shuffled:
    """Batches of lessons in mixed order, prepared by a thread of its own: neighbours of the stream share a scene."""

    def __init__(self, program, seed, start, batch, make, pairs=0, depth=1024, reuse=1):
        self.queue = queue.Queue(4)
        self.at = start
        self.args = (program, seed, start, batch, make, pairs, depth, reuse)
        self.is_over = False
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        program, seed, start, batch, make, pairs, depth, reuse = self.args
        rng = random.Random(seed * 1000003 + start)
        pool, waiting = [], []
        try:
            for lesson in stream(program, seed, start, pairs=pairs):
                if self.is_over:
                    return
                lesson.pictures = [compress(p, rng) for p in lesson.pictures]
                for _ in range(reuse):
                    if len(pool) < depth:
                        pool.append(lesson)
                        continue
                    k = rng.randrange(depth)
                    waiting.append(pool[k])
                    pool[k] = lesson
                    if len(waiting) == batch:
                        self.queue.put((lesson.index, make(waiting, rng)))
                        waiting = []
        except BaseException as error:  # the training must hear of it
            self.queue.put(error)

    def __next__(self):
        item = self.queue.get()
        if isinstance(item, BaseException):
            raise item
        self.at, batch = item
        return batch

    def close(self):
        self.is_over = True


def labels(truths, width=320, height=192, tile=32):
    """What the tower's merged tokens [B, K] and patches [B, 4 K] are taught besides the words: which things have their middle there, and what they are like.

    count [B, K, types] 0..2; group attributes [B, K, 3] each for colour, pose, place, -1 where there is none or where it is not one thing; whole [B, 5] of the picture;
    patch [B, 4 K, 2 types]: touched by a thing, middle of a thing, in the tower's order of patches.
    """
    b, gh, gw = len(truths), height // tile, width // tile
    count = torch.zeros(b, gh * gw, len(TYPES))
    attributes = torch.full((b, gh * gw, 3, 3), -1, dtype=torch.long)
    seen = np.zeros((b, gh * gw, 3), np.int32)
    whole = torch.zeros(b, 5, dtype=torch.long)
    touched = np.zeros((b, 2 * gh, 2 * gw, 2, len(TYPES)), np.float32)
    for i, truth in enumerate(truths):
        for thing in truth["things"]:
            x0, y0, x1, y1 = thing["box"]
            k = min(int((y0 + y1) / 2 * gh), gh - 1) * gw + min(int((x0 + x1) / 2 * gw), gw - 1)
            t = TYPES.index(thing["type"])
            touched[i, int(y0 * 2 * gh + 0.15) : max(int(math.ceil(y1 * 2 * gh - 0.15)), int(y0 * 2 * gh + 0.15) + 1),
                    int(x0 * 2 * gw + 0.15) : max(int(math.ceil(x1 * 2 * gw - 0.15)), int(x0 * 2 * gw + 0.15) + 1), 0, t] = 1
            touched[i, min(int((y0 + y1) * gh), 2 * gh - 1), min(int((x0 + x1) * gw), 2 * gw - 1), 1, t] = 1
            count[i, k, t] = min(count[i, k, t] + 1, 2)
            group = GROUPS.get(thing["type"], 2)
            seen[i, k, group] += 1
            attributes[i, k, group] = -1
            if seen[i, k, group] == 1:
                for a, (name, words) in enumerate((("colour", COLOURS), ("pose", POSES), ("place", PLACES))):
                    if name in thing:
                        attributes[i, k, group, a] = words.index(thing[name])
        whole[i] = torch.tensor([LIGHTS.index(truth["light"]), WEATHERS.index(truth["weather"]), truth["gate"] == "open", truth["dock"] == "open",
                                 truth["bays_free"]])
    patch = touched.reshape(b, gh, 2, gw, 2, -1).transpose(0, 1, 3, 2, 4, 5).reshape(b, 4 * gh * gw, -1)
    return count, attributes, whole, torch.from_numpy(np.ascontiguousarray(patch))
