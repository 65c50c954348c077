"""The recipe of the shipped model: tokenizer, then the tower learns to see, then all of it learns to answer, and to answer better, then the MTP block learns to guess ahead. Seeded; goes on where
it stopped.

    python3 config/model/train.py --out FOLDER [--stage all|tokens|see|speak|polish|draft|export] [--from FOLDER] [--lessons build/tools/lessons] [--minutes N] [--device auto]

With --from FOLDER, where heron.gguf and mmproj-heron.gguf lie, tokenizer and weights are those of the files, and the training goes on at the stage polish. It keeps a copy of them: what is
shipped at the end may take their place.

Each stage writes FOLDER/<stage>.pt every few minutes, when it is interrupted, and at its end; started again it resumes from there, if it is still the same training (seed, plan, lessons,
tokenizer, and of the stage before its weights): otherwise it says what differs. At the end of all FOLDER/checkpoint holds the F32 original. Exit status 75: not finished, start again.
Needs what requirements.txt names (pip install -r), a build of tools/lessons, gcc, g++ and Python's headers (python3-dev) for what torch compiles, and one GPU for minutes or two CPU cores
for half a day.
"""

import argparse
import functools
import hashlib
import json
import math
import os
import pathlib
import random
import shutil
import signal
import sys
import time

import torch
import torch.nn.functional as F

import asks
import draft
import lessons
import native
import restore
import see
import shape
import texts
import tokens

SIZE = shape.SIZE
FILES = ("heron.gguf", "mmproj-heron.gguf")
N_IMAGE = (SIZE[0] // shape.TILE) * (SIZE[1] // shape.TILE)
HELD_OUT = 1_000_000  # lessons of this seed are never trained on
LENGTHS = (288, 320, 352, 384, 464, 512)  # of dialogues: few, so that each is compiled once
GROUP = 4  # batches of dialogues made at once, so that those of a batch are about equally long
NOT_FINISHED = 75  # exit status, as sysexits(3) has it: try again later

# Of each stage: lessons in all; batch; learning rate; share of the lessons that warms up, and that cools down. Where several things are learned, what is different for the tower and for the heads:
# `start`, the lesson at which they begin to learn; saw: what the heads' loss counts for; pairs: of 1000 dialogues are about two pictures.
STAGES = {
    "see": dict(lessons=280_000, batch=24, rate=1.0e-3, warm=0.01, cool=0.25, small=144_000, small_size=(320, 192)),  # small: first lessons with small pictures, three times as fast
    "speak": dict(lessons=100_000, batch=16, rate=1.0e-3, warm=0.01, cool=0.4, pairs=150, tower=dict(start=60_000, rate=2.0e-4, warm=0.05),
                  heads=dict(start=60_000, rate=2.0e-4, warm=0.05), saw=0.1, numbers=1.0),
    # numbers: what a word or digit that says how many counts for, where another one counts for 1. (Measured and left out: lessons with few people dropped. Crowds got better by 1 %, the rest worse by more.)
    # mean: the share of the lessons after which weights are summed up, whose mean is what the stage leaves.
    "polish": dict(lessons=60_000, batch=16, rate=5.0e-4, warm=0.02, cool=0.6, pairs=250, tower=dict(start=1_600, rate=4.0e-4, warm=0.04),
                   heads=dict(rate=2.0e-3), saw=0.3, numbers=3.0, mean=0.4),
    "draft": dict(lessons=16_000, batch=16, rate=2.0e-3, warm=0.02, cool=0.5, pairs=200),
}
ACCEPTED = 0.6  # of the MTP block's first guesses on held-out dialogues, or it is not shipped


def orthogonal_f32(gradient, coefficients, steps, eps):
    """What torch.optim.Muon makes of a gradient, in float32: on a CPU that does not multiply bfloat16 its own way takes most of a training's time."""
    a, b, c = coefficients
    x = gradient.float()
    is_tall = x.size(0) > x.size(1)
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


class Optimizer:
    """Muon for matrices inside the blocks, AdamW for the rest; one schedule: warm up from lesson `start`, hold, cool down linearly."""

    def __init__(self, named, plan):
        self.plan = plan
        matrices, rest, plain = [], [], []
        for name, p in named:
            if not p.requires_grad:
                continue
            if p.ndim == 2 and "embed" not in name and "lm_head" not in name and "heads." not in name:
                matrices.append(p)
            elif p.ndim >= 2:
                rest.append(p)
            else:
                plain.append(p)
        groups = [dict(params=rest, weight_decay=0.02), dict(params=plain, weight_decay=0.0)]
        self.parts = [torch.optim.AdamW([g for g in groups if g["params"]], lr=1.0, betas=(0.9, 0.98))]
        if matrices:
            self.parts.append(torch.optim.Muon(matrices, lr=1.0, weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"))
        self.params = matrices + rest + plain

    def step(self, done):
        p = self.plan
        warm = (done + 1 - p.get("start", 0)) / (p["warm"] * p["lessons"])
        rate = p["rate"] * min(1.0, warm, max(0.0, (p["lessons"] - done) / (p["cool"] * p["lessons"])) + 0.01)
        norm = torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad()
        return norm

    def state_dict(self):
        return [p.state_dict() for p in self.parts]

    def load_state_dict(self, state):
        for p, s in zip(self.parts, state):
            p.load_state_dict(s)


class Mean:
    """The mean of a model's weights over the last lessons: with small batches a training wanders about a better place than any that it comes through."""

    def __init__(self, model, every=16):
        self.params, self.every, self.steps, self.n = dict(model.named_parameters()), every, 0, 0
        self.sums = {k: torch.zeros_like(p, dtype=torch.float32) for k, p in self.params.items()}

    def add(self):
        self.steps += 1
        if self.steps % self.every == 0:
            self.n += 1
            for k, p in self.params.items():
                self.sums[k] += p.detach()

    def put(self):
        """The model's weights become the mean; without any they stay."""
        with torch.no_grad():
            for k, p in self.params.items():
                p.copy_(self.sums[k] / self.n if self.n else p)

    def state_dict(self):
        return dict(steps=self.steps, n=self.n, sums=self.sums)

    def load_state_dict(self, state):
        self.steps, self.n = state["steps"], state["n"]
        for k, v in state["sums"].items():
            self.sums[k].copy_(v)


class Count:
    """What the log says every `every` batches: means over them, and lessons a second without the pauses."""

    def __init__(self, tell, stage, names, every=100):
        self.tell, self.stage, self.names, self.every = tell, stage, names, every
        self.clear()

    def clear(self):
        self.sums, self.n, self.lessons, self.since = [0.0] * len(self.names), 0, 0, time.monotonic()

    def add(self, done, lessons, values):
        self.sums = [a + b for a, b in zip(self.sums, values)]
        self.n += 1
        self.lessons += lessons
        if self.n == self.every:
            self.tell(stage=self.stage, done=done, per_s=self.lessons / (time.monotonic() - self.since), **{k: v / self.n for k, v in zip(self.names, self.sums)})
            self.clear()


class Recipe:
    def __init__(self, args):
        self.args = args
        if args.seed + len(STAGES) >= HELD_OUT:
            raise SystemExit(f"--seed {args.seed}: at most {HELD_OUT - len(STAGES) - 1}, behind it are the lessons that are never trained on")
        self.out = pathlib.Path(args.out)
        if args.origin:
            STAGES["draft"]["lessons"] //= 4  # the block has learned before
            if args.stage in ("see", "speak"):
                raise SystemExit(f"--from goes on at the stage polish: there is no stage {args.stage} with it")
        self.device = torch.device(args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        self.renderer = [args.lessons, "--threads", str(threads(self.device))]
        self.out.mkdir(parents=True, exist_ok=True)
        if args.origin:
            self.keep_origin()
        torch.set_float32_matmul_precision("high")
        if self.device.type == "cpu" and not native.has_bf16():
            torch.optim._muon._zeropower_via_newtonschulz = orthogonal_f32
        self.until = time.monotonic() + args.minutes * 60 if args.minutes else math.inf
        self.saved = time.monotonic()
        self.log = (self.out / "log.jsonl").open("a")
        for number in (signal.SIGTERM, signal.SIGINT):  # save, then end
            signal.signal(number, lambda *_: setattr(self, "until", 0.0))

    # ---- shared ----

    def model(self):
        m = shape.build(self.tokens, self.args.seed)
        assert shape.check_see(m) < 1e-4, "the batched tower differs from the official one"
        return m.to(self.device)

    def tell(self, **values):
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()})
        print(line, flush=True)
        self.log.write(line + "\n")
        self.log.flush()

    def is_over(self):
        return time.monotonic() >= self.until

    def is_time_to_save(self, stage, done):
        if time.monotonic() - self.saved < self.args.save_minutes * 60 and done < STAGES[stage]["lessons"] and not self.is_over():
            return False
        self.saved = time.monotonic()
        return True

    def identity(self, stage):
        """What makes a training the same when it goes on."""
        words = texts.SOURCE if stage != "see" else ""
        before = list(STAGES)[list(STAGES).index(stage) - 1] if stage != "see" else None
        begun_with = self.origin_files() if stage == "polish" and self.args.origin else [self.out / f"{before}.pt"] if before else []
        return dict(seed=self.args.seed, plan=json.dumps(STAGES[stage]), shape=json.dumps([shape.TEXT, shape.VISION, SIZE]), words=words,
                    tokenizer=digest(self.out / "tokenizer.json"), lessons=self.fingerprint(), before="".join(map(digest, begun_with)))

    def keep_origin(self):
        """Copy what --from names, once: it is what this training began with, whatever becomes of the files."""
        folder, said = self.out / "from", str(pathlib.Path(self.args.origin).resolve())
        if not folder.exists():
            if not all((pathlib.Path(said) / name).is_file() for name in FILES):
                raise SystemExit(f"--from {said}: there are not both {' and '.join(FILES)}")
            new = self.out / "from.new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            for name in FILES:
                shutil.copy(pathlib.Path(said) / name, new / name)
            (new / "where").write_text(said)
            os.replace(new, folder)
        elif (folder / "where").read_text() != said:
            raise SystemExit(f"{self.out} began with {(folder / 'where').read_text()}: give another --out, or remove it")

    def origin_files(self):
        return [self.out / "from" / name for name in FILES] if self.args.origin else []

    @functools.cache
    def fingerprint(self):
        return lessons.fingerprint(self.renderer)

    def save(self, stage, parts, **state):
        """parts: what has a state_dict, by name."""
        path = self.out / f"{stage}.pt"
        state.update({name: part.state_dict() for name, part in parts.items()}, identity=self.identity(stage))
        torch.save(state, path.with_suffix(".new"))
        os.replace(path.with_suffix(".new"), path)

    def resume(self, stage, parts):
        """How many lessons are done, and where the next ones begin."""
        state = self.load(stage)
        if not state:
            return 0, 0
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return state["done"], state["at"]

    def load(self, stage, must=False):
        path = self.out / f"{stage}.pt"
        if not path.exists():
            if must:
                raise SystemExit(f"{path} is not there: run the stage {stage} first")
            return None
        state = torch.load(path, map_location=self.device, weights_only=True)
        now = self.identity(stage)
        differs = [k for k in now if state["identity"][k] != now[k]]
        if differs:
            raise SystemExit(f"{path} is of another training ({', '.join(differs)} differ): give another --out, or remove it")
        if must and not is_finished(stage, state):
            raise SystemExit(f"{path} has {state['done']} of {STAGES[stage]['lessons']} lessons: end the stage {stage} first")
        return state

    def begin(self, stage):
        """Each stage starts from the same random numbers, whether the stages before it ran just now or long ago."""
        torch.manual_seed(self.args.seed * 1000 + list(STAGES).index(stage))
        return STAGES[stage]

    def patches(self, pictures):
        return shape.patches(pictures.to(self.device))

    def autocast(self):
        """bfloat16 where the machine multiplies it: where it does not, that is slower than float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "cpu" or native.has_bf16())

    def look(self):
        shape.quicken_tower(self.device)
        return torch.compile(shape.see) if not self.args.eager else shape.see

    def trunk(self, model):
        """A function of dialogues: pictures, ids, positions, whether the tower learns -> last hidden states, what the tower says."""
        tower, text = model.model.visual, model.model.language_model
        places, look = shape.Places(tower, SIZE), self.look()
        shape.quicken(text, self.args.eager)

        def run(pictures, ids, positions, is_looking):
            with torch.set_grad_enabled(is_looking):
                seen, patches = look(tower, self.patches(pictures), places)
            x = text.embed_tokens(ids)
            x = x.masked_scatter((ids == self.tokens.image).unsqueeze(-1), seen.to(x.dtype))
            return text(inputs_embeds=x, position_ids=positions, use_cache=False).last_hidden_state, (seen, patches)

        return run

    def heads(self):
        return see.Heads(shape.TEXT["hidden_size"], shape.VISION["hidden_size"]).to(self.device)

    def held_out(self, make, n_batches, batch, pairs=0):
        """Batches of one picture each, then of two, of as many lessons as there were among n_batches * batch."""
        rng = random.Random(1)
        feed = list(lessons.stream(self.renderer, HELD_OUT, 0, SIZE, n_batches * batch, pairs))
        for n in (1, 2):
            of_n = [x for x in feed if len(x.pictures) == n]
            yield from make(of_n[: len(of_n) // batch * batch], rng)

    def train(self, stage, feed, parts, done, until, names, learn, judge):
        """Batch by batch up to lesson `until`, or until it is time to stop. learn: a batch and how many lessons are done -> how many it has, figures of these names; judge: -> figures of the
        held-out lessons, of which the last are saved. Returns how many lessons are done, and where the next ones begin."""
        count = Count(self.tell, stage, names)
        while done < until and not self.is_over():
            n, figures = learn(next(feed), done)
            done += n
            count.add(done, n, figures)
            if self.is_time_to_save(stage, done):
                judged = judge() if done >= STAGES[stage]["lessons"] else {}
                self.save(stage, parts, done=done, at=feed.at, **judged)
                self.tell(stage=stage, done=done, **(judged or judge()))
                count.clear()
        feed.close()
        return done, feed.at

    # ---- stages ----

    def tokens_stage(self):
        path = self.out / "tokenizer.json"
        if not path.exists() and self.args.origin:
            self.tell(stage="tokens", vocabulary=tokens.restore(self.origin_files()[0], path))
        elif not path.exists():
            self.tell(stage="tokens", **tokens.learn(self.renderer, path))
        return tokens.Tokens(path)

    def see_stage(self, model):
        """Only the tower, its merger and the heads. As each stage: whether it came to its end."""
        plan = self.begin("see")
        heads, tower = self.heads(), model.model.visual
        look = self.look()
        optimizer = Optimizer(named(tower, "tower") + named(heads, "heads"), plan)
        parts = dict(tower=tower, heads=heads, optimizer=optimizer)
        done, at = self.resume("see", parts)

        def make_of(size):
            def make(of_one, rng):
                for batch in split(of_one, plan["batch"]):
                    truths = [x.words["truth"] for x in batch]
                    yield torch.from_numpy(batch_pictures(batch)), lessons.Labels(truths, size), truths

            return make

        held, full = list(self.held_out(make_of(SIZE), 40, plan["batch"])), shape.Places(tower, SIZE)
        for size, until in ((plan["small_size"], plan["small"]), (SIZE, plan["lessons"])):
            if done >= until or self.is_over():
                continue
            places = shape.Places(tower, size)

            def learn(batch, done):
                pictures, labels, truths = batch
                with self.autocast():
                    out = heads(*look(tower, self.patches(pictures), places))
                loss = see.loss(out, labels.to(self.device))
                loss.backward()
                optimizer.step(done)
                return len(truths), [loss.item(), *see.score(out, truths)]

            def judge():
                with torch.no_grad(), self.autocast():
                    return dict(held_out=mean([see.score(heads(*look(tower, self.patches(p), full)), t) for p, _, t in held] if size == SIZE else []))

            feed = lessons.Shuffled(self.renderer, self.args.seed, at, size, plan["batch"], make_of(size))
            names = ("loss", "people", "vehicles", "animals", "people_told", "vehicles_told", "animals_told", "hazard_told")
            done, at = self.train("see", feed, parts, done, until, names, learn, judge)
        return done >= plan["lessons"]

    def speak_stage(self, model):
        """The language model learns to answer; later the tower goes on with it, and goes on to be asked what it sees, a little."""
        heads, before = self.heads(), self.load("see", must=True)
        model.model.visual.load_state_dict(before["tower"])
        heads.load_state_dict(before["heads"])
        return self.talk("speak", model, heads)

    def polish_stage(self, model):
        """As `speak`, with more pairs, numbers that count for more, and a tower that is asked what it sees in earnest; the heads are made anew where only files are there to begin with."""
        heads = self.heads()
        if self.args.origin:
            restore.restore(model, None, *self.origin_files())
        else:
            before = self.load("speak", must=True)
            model.load_state_dict(before["model"])
            heads.load_state_dict(before["heads"])
        return self.talk("polish", model, heads)

    def talk(self, stage, model, heads):
        """Dialogues, and what the heads are asked of the same pictures."""
        plan = self.begin(stage)
        tower, text = model.model.visual, model.model.language_model
        plans = dict(text=plan, tower=dict(plan, **plan["tower"]), heads=dict(plan, **plan["heads"]))
        learners = dict(text=text, tower=tower, heads=heads)
        optimizers = {f"{name}_optimizer": Optimizer(named(part, name), plans[name]) for name, part in learners.items()}
        parts = dict(model=model, heads=heads, **optimizers, **(dict(mean=Mean(model)) if "mean" in plan else {}))
        done, at = self.resume(stage, parts)
        trunk = self.trunk(model)
        openings = torch.tensor(self.tokens.openings, device=self.device)
        weights = torch.tensor([plan["numbers"] if x else 1.0 for x in self.tokens.is_number], device=self.device)

        def run(pictures, ids, labels, positions, is_looking):
            """What the answers' tokens cost, which are right, and what the tower says."""
            with self.autocast():
                hidden, tower_out = trunk(pictures, ids, positions, is_looking)
                wanted = labels >= 0
                logits, of_wanted = texts.choose(F.linear(hidden[wanted], text.embed_tokens.weight), labels[wanted], openings)
            return F.cross_entropy(logits.float(), of_wanted, weights), logits.argmax(-1) == of_wanted, tower_out

        def learn(batch, done):
            pictures, ids, labels, positions, things, _ = self.on_device(batch)
            said, _, tower_out = run(pictures, ids, labels, positions, done >= plan["tower"]["start"])
            saw = torch.zeros(())
            if done >= plan["heads"].get("start", 0):
                with self.autocast():
                    out = heads(*tower_out)
                saw = see.loss(out, things)
            (said + plan["saw"] * saw).backward()
            for optimizer in optimizers.values():
                if done >= optimizer.plan.get("start", 0):
                    optimizer.step(done)
            if "mean" in plan and done >= plan["mean"] * plan["lessons"]:
                parts["mean"].add()
                if done + len(ids) >= plan["lessons"]:  # the end: what is saved, judged and gone on with is the mean
                    parts["mean"].put()
            return len(ids), [said.item(), saw.item()]

        def judge():
            costs, rights, scores = [], [], []
            with torch.no_grad():
                for batch in held:
                    pictures, ids, labels, positions, _, truths = self.on_device(batch)
                    said, right, tower_out = run(pictures, ids, labels, positions, False)
                    costs.append(said.item())
                    rights.append(right)
                    with self.autocast():
                        scores.append(see.score(heads(*tower_out), truths))
                asked = [run(*batch[:1], *(t.to(self.device) for t in batch[1:]), False)[1].view(-1, 2)[:, 0] for batch in further]
            return dict(held_out_loss=sum(costs) / len(costs), held_out_tokens=torch.cat(rights).float().mean().item(), held_out=mean(scores),
                        held_out_asked=torch.cat(asked).float().mean().item())

        feed, held = self.dialogues(stage, at)
        further = list(self.further(plan["batch"]))
        done, _ = self.train(stage, feed, parts, done, plan["lessons"], ("said", "saw"), learn, judge)
        return done >= plan["lessons"]

    def further(self, n):
        """Held-out pictures with a question of asks.py each: pictures, ids, labels, positions."""
        rng = random.Random(2)
        for of in split(list(lessons.stream(self.renderer, HELD_OUT, 4096, SIZE, 16 * n)), n):
            said = [texts.single(self.tokens, *asks.draw(x.words["truth"], rng, True), N_IMAGE) for x in of]
            yield self.tensors(said, of)

    def dialogues(self, stage, at):
        """Batches to learn from, and held-out ones."""
        plan, seed = STAGES[stage], self.args.seed + list(STAGES).index(stage)
        n, pairs = plan["batch"], plan["pairs"]
        make = functools.partial(self.make, n)
        return lessons.Shuffled(self.renderer, seed, at, SIZE, n * GROUP, make, pairs=pairs), list(self.held_out(make, 24, n, pairs=pairs))

    def make(self, n, group, rng):
        """Batches of n dialogues: pictures, ids, labels, positions, what the tower is asked, truths."""
        dialogues = [(texts.dialogue(self.tokens, x, N_IMAGE, rng), x) for x in group]
        batches = split(sorted(dialogues, key=lambda pair: len(pair[0].ids)), n)
        rng.shuffle(batches)
        for batch in batches:
            said, of = zip(*batch)
            truths = [t for x in of for t in ([x.words["before"]] if len(x.pictures) == 2 else []) + [x.words["truth"]]]
            yield *self.tensors(said, of), lessons.Labels(truths, SIZE), truths

    def tensors(self, said, of):
        """Pictures, ids, labels, positions of dialogues about lessons."""
        ids, labels = texts.collate(said, self.tokens.end_of_text, LENGTHS)
        positions = torch.stack([shape.positions(row, self.tokens.image, SIZE[1] // shape.TILE, SIZE[0] // shape.TILE) for row in ids], 1)
        return torch.from_numpy(batch_pictures(of)), ids, labels, positions

    def on_device(self, batch):
        pictures, *tensors, truths = batch
        return pictures, *(t.to(self.device) for t in tensors), truths

    def draft_stage(self, model):
        """The MTP block alone: the trunk stands still."""
        plan = self.begin("draft")
        model.load_state_dict(self.load("polish", must=True)["model"])
        model.requires_grad_(False)
        block = draft.Draft(model.config.text_config).to(self.device)
        optimizer = Optimizer(named(block, "draft"), plan)
        if self.args.origin:
            restore.restore(self.model(), block, *self.origin_files())
        parts = dict(block=block, optimizer=optimizer)
        done, at = self.resume("draft", parts)
        trunk = self.trunk(model)

        def run(pictures, ids, labels, positions):
            with torch.no_grad(), self.autocast():
                hidden, _ = trunk(pictures, ids, positions, False)
            with self.autocast():
                return draft.loss(block, model.model.language_model, ids, labels, hidden, positions, self.tokens.image)

        def learn(batch, done):
            pictures, ids, labels, positions, *_ = self.on_device(batch)
            loss, accepted = run(pictures, ids, labels, positions)
            loss.backward()
            optimizer.step(done)
            return len(ids), [loss.item(), accepted.float().mean().item()]

        def judge():
            with torch.no_grad():
                return dict(held_out_accepted=torch.cat([run(*self.on_device(batch)[:4])[1] for batch in held]).float().mean().item())

        feed, held = self.dialogues("draft", at)
        done, _ = self.train("draft", feed, parts, done, plan["lessons"], ("loss", "accepted"), learn, judge)
        return done >= plan["lessons"]

    def export(self, model):
        """The F32 original as transformers keeps it, and the MTP block if it is worth its place."""
        new, folder = self.out / "checkpoint.new", self.out / "checkpoint"
        shutil.rmtree(new, ignore_errors=True)
        model.load_state_dict(self.load("polish", must=True)["model"])
        state = self.load("draft")
        with_draft = is_finished("draft", state) and state["held_out_accepted"] >= ACCEPTED
        write_checkpoint(new, model.float().cpu(), state["block"] if with_draft else None, self.out / "tokenizer.json")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(new, folder)
        self.tell(stage="export", folder=str(folder), with_draft=with_draft)

    def run(self):
        """Exit status: 0 when what was asked for is done."""
        self.tokens = self.tokens_stage()
        stages = [s for s in STAGES if not self.args.origin or s not in ("see", "speak")]
        wanted = stages if self.args.stage == "all" else [s for s in stages if s == self.args.stage]
        for stage in wanted:  # what cannot go on says so now and not after the stages before it
            self.load(stage)
        model = self.model() if self.args.stage != "tokens" else None
        for stage in wanted:
            if not is_finished(stage, self.load(stage)) and not getattr(self, f"{stage}_stage")(model):
                return NOT_FINISHED
        if self.args.stage in ("all", "export"):
            self.export(model)
        return 0


def write_checkpoint(folder, model, block, tokenizer):
    """Model, MTP block (its state_dict, or None), tokenizer, template and processor as checkpoints of the family have them. folder: made anew."""
    from safetensors.torch import save_file

    model.save_pretrained(folder)
    if block is not None:  # beside the model, under the names that the family's checkpoints have
        save_file({f"mtp.{n}": p.detach().float().cpu().contiguous() for n, p in block.items()}, folder / "model-mtp.safetensors")
    shutil.copy(tokenizer, folder / "tokenizer.json")
    shutil.copy(pathlib.Path(__file__).parent / "chat_template.jinja", folder / "chat_template.jinja")
    (folder / "preprocessor_config.json").write_text(json.dumps(dict(
        image_processor_type="Qwen2VLImageProcessorFast", size=dict(shortest_edge=shape.SHORTEST_EDGE, longest_edge=shape.LONGEST_EDGE), patch_size=16, temporal_patch_size=2,
        merge_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_resize=True, do_rescale=True, do_normalize=True, do_convert_rgb=True, resample=3), indent=1))


def threads(device):
    """That paint lessons. A CPU has its cores for the training; a GPU waits for pictures."""
    return min(lessons.THREADS_MAX, max(1, len(os.sched_getaffinity(0)) - 2)) if device.type == "cuda" else 1


def digest(path):
    """Of a file's bytes; "": there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


def named(module, prefix):
    return [(f"{prefix}.{n}", p) for n, p in module.named_parameters()]


def is_finished(stage, state):
    return bool(state) and state["done"] >= STAGES[stage]["lessons"]


def split(items, n):
    return [items[i : i + n] for i in range(0, len(items), n)]


def mean(rows):
    return [round(sum(column) / len(rows), 4) for column in zip(*rows)]


def batch_pictures(batch):
    import numpy as np

    return np.stack([p for x in batch for p in x.pictures])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--stage", default="all", choices=["all", "tokens", *STAGES, "export"])
    parser.add_argument("--from", dest="origin", help="the folder of the model to go on from")
    parser.add_argument("--lessons", default="build/tools/lessons")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so long, to go on later")
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    sys.exit(Recipe(parser.parse_args()).run())


if __name__ == "__main__":
    main()
