"""The recipe of the shipped model: tokenizer, then the tower learns to see, then all of it learns to answer, then the MTP block learns to guess ahead. Seeded; goes on where it stopped.

    python3 config/model/train.py --out FOLDER [--stage all|tokens|see|speak|draft] [--lessons build/tools/lessons] [--minutes N] [--device auto]

Each stage writes FOLDER/<stage>.pt every few minutes and at its end; started again it resumes from there. Needs torch and transformers 5.17.0, a C compiler's build of tools/lessons, and
one GPU for minutes or two CPU cores for a day.
"""

import argparse
import json
import math
import os
import pathlib
import random
import signal
import time

import torch
import torch.nn.functional as F

import draft
import lessons
import see
import shape
import texts
import tokens

HEIGHT, WIDTH = 192, 320
N_IMAGE = (HEIGHT // shape.TILE) * (WIDTH // shape.TILE)
HELD_OUT = 1_000_000  # lessons of this seed are never trained on; the training's own seed is another
LENGTHS = (256, 384)  # of dialogues: few, so that each is compiled once

STAGES = {  # lessons in all; batch; learning rate; share of it that warms up, and that cools down
    "see": dict(lessons=200_000, batch=24, rate=1.0e-3, warm=0.01, cool=0.25),
    "speak": dict(lessons=160_000, batch=16, rate=1.0e-3, warm=0.01, cool=0.3, alone=48_000),  # alone: the tower stands still at first
    "draft": dict(lessons=24_000, batch=16, rate=2.0e-3, warm=0.02, cool=0.4),
}


class Optimizer:
    """Muon for matrices inside the blocks, AdamW for the rest; one schedule: warm up, hold, cool down linearly."""

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
        rate = p["rate"] * min(1.0, (done + 1) / (p["warm"] * p["lessons"]), max(0.0, (p["lessons"] - done) / (p["cool"] * p["lessons"])) + 0.01)
        norm = torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad()
        return norm

    def clear(self):
        for part in self.parts:
            part.zero_grad()

    def state_dict(self):
        return [p.state_dict() for p in self.parts]

    def load_state_dict(self, state):
        for p, s in zip(self.parts, state):
            p.load_state_dict(s)


class Recipe:
    def __init__(self, args):
        self.args = args
        self.out = pathlib.Path(args.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.device = torch.device(args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        torch.set_float32_matmul_precision("high")
        self.until = time.monotonic() + args.minutes * 60 if args.minutes else math.inf
        self.log = (self.out / "log.jsonl").open("a")
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "until", 0.0))  # save, then end

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

    def save(self, name, **state):
        path = self.out / f"{name}.pt"
        torch.save(state, path.with_suffix(".new"))
        os.replace(path.with_suffix(".new"), path)

    def load(self, name):
        path = self.out / f"{name}.pt"
        return torch.load(path, map_location=self.device, weights_only=True) if path.exists() else None

    def patches(self, pictures):
        return shape.patches(pictures.to(self.device))

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16)

    # ---- stages ----

    def tokens_stage(self):
        path = self.out / "tokenizer.json"
        if not path.exists():
            import sys
            sys.argv = ["tokens.py", "--lessons", self.args.lessons, "--out", str(path)]
            tokens.main()
        return tokens.Tokens(path)

    def see_stage(self, model):
        """Only the tower, its merger and the heads."""
        plan = STAGES["see"]
        heads = see.Heads(shape.TEXT["hidden_size"], shape.VISION["hidden_size"]).to(self.device)
        tower = model.model.visual
        places = self.places(tower)
        optimizer = Optimizer([(f"tower.{n}", p) for n, p in tower.named_parameters()] + [(f"heads.{n}", p) for n, p in heads.named_parameters()], plan)
        state, done, at = self.load("see"), 0, 0
        if state:
            tower.load_state_dict(state["tower"])
            heads.load_state_dict(state["heads"])
            optimizer.load_state_dict(state["optimizer"])
            done, at = state["done"], state["at"]
            if done >= plan["lessons"]:
                return heads
        look = torch.compile(shape.see) if not self.args.eager else shape.see

        def make(batch, rng):
            return torch.from_numpy(batch_pictures(batch)), lessons.labels([x.words["truth"] for x in batch]), [x.words["truth"] for x in batch]

        feed = lessons.Shuffled(self.args.lessons, self.args.seed, at, plan["batch"], make)
        held = list(self.held_out(make, 20, plan["batch"]))
        sums, n, right, t0, saved = 0.0, 0, torch.zeros(3), time.monotonic(), time.monotonic()
        while done < plan["lessons"] and time.monotonic() < self.until:
            pictures, truth, truths = next(feed)
            with self.autocast():
                out = heads(*look(tower, self.patches(pictures), places))
            l = see.loss(out, [t.to(self.device) for t in truth])
            l.backward()
            optimizer.step(done)
            done += len(truths)
            sums, n = sums + l.item(), n + 1
            right += see.score(out, truths)
            if n == 100:
                self.tell(stage="see", done=done, loss=sums / n, right=[round(x, 4) for x in (right / n / len(truths)).tolist()], per_s=n * len(truths) / (time.monotonic() - t0))
                sums, n, right, t0 = 0.0, 0, torch.zeros(3), time.monotonic()
            if time.monotonic() - saved > self.args.save_minutes * 60 or done >= plan["lessons"] or time.monotonic() >= self.until:
                saved = time.monotonic()
                self.save("see", tower=tower.state_dict(), heads=heads.state_dict(), optimizer=optimizer.state_dict(), done=done, at=feed.at)
                total, right_held = 0, torch.zeros(3)
                with torch.no_grad(), self.autocast():
                    for pictures, truth, truths in held:
                        right_held += see.score(heads(*look(tower, self.patches(pictures), places)), truths)
                        total += len(truths)
                self.tell(stage="see", done=done, held_out=[round(x, 4) for x in (right_held / total).tolist()])
                t0 = time.monotonic()
        feed.close()
        return heads

    def places(self, tower):
        places = shape.Places(tower, HEIGHT, WIDTH)
        for name in ("index", "weight", "cos", "sin"):
            setattr(places, name, getattr(places, name).to(self.device))
        return places

    def held_out(self, make, n_batches, batch):
        rng = random.Random(1)
        feed = lessons.stream(self.args.lessons, HELD_OUT, 0, n_batches * batch)
        for _ in range(n_batches):
            yield make([next(feed) for _ in range(batch)], rng)

    def speak_stage(self, model, heads):
        """All of it; the tower goes on to be asked what it sees, a little."""
        plan = STAGES["speak"]
        tower, text = model.model.visual, model.model.language_model
        places = self.places(tower)
        tower_names = [(f"tower.{n}", p) for n, p in tower.named_parameters()] + [(f"heads.{n}", p) for n, p in heads.named_parameters()]
        slow = Optimizer(tower_names, dict(plan, rate=plan["rate"] * 0.3))
        fast = Optimizer([(f"text.{n}", p) for n, p in text.named_parameters()], plan)
        state, done, at = self.load("speak"), 0, 0
        if state:
            model.load_state_dict(state["model"])
            heads.load_state_dict(state["heads"])
            slow.load_state_dict(state["slow"])
            fast.load_state_dict(state["fast"])
            done, at = state["done"], state["at"]
            if done >= plan["lessons"]:
                return
        shape.quicken(text, self.args.eager)
        look = torch.compile(shape.see) if not self.args.eager else shape.see

        def run(pictures, ids, labels, positions, truth):
            with self.autocast():
                with torch.set_grad_enabled(torch.is_grad_enabled() and done >= plan["alone"]):
                    seen, patches = look(tower, self.patches(pictures), places)
                x = text.embed_tokens(ids)
                x = x.masked_scatter((ids == self.tokens.image).unsqueeze(-1), seen.to(x.dtype))
                hidden = text(inputs_embeds=x, position_ids=positions, use_cache=False).last_hidden_state
                wanted = labels >= 0
                logits = F.linear(hidden[wanted], text.embed_tokens.weight)
                out = heads(seen, patches)
            said = F.cross_entropy(logits.float(), labels[wanted])
            return said, logits.argmax(-1) == labels[wanted], out

        feed = lessons.Shuffled(self.args.lessons, self.args.seed + 1, at, plan["batch"], self.make, pairs=100)
        held = list(self.held_out(self.make, 24, plan["batch"]))
        sums, n, t0, saved = torch.zeros(5), 0, time.monotonic(), time.monotonic()
        while done < plan["lessons"] and time.monotonic() < self.until:
            pictures, ids, labels, positions, truth, truths = next(feed)
            ids, labels, positions = (t.to(self.device) for t in (ids, labels, positions))
            said, right, out = run(pictures, ids, labels, positions, truth)
            saw = see.loss(out, [t.to(self.device) for t in truth])
            (said + 0.1 * saw).backward()
            if done >= plan["alone"]:
                slow.step(done)
            else:
                slow.clear()
            fast.step(done)
            done += len(ids)
            sums += torch.tensor([said.item(), saw.item(), *(see.score(out, truths) / len(truths)).tolist()])
            n += 1
            if n == 100:
                self.tell(stage="speak", done=done, said=sums[0].item() / n, saw=sums[1].item() / n, right=[round(x / n, 4) for x in sums[2:].tolist()],
                          per_s=n * len(ids) / (time.monotonic() - t0))
                sums, n, t0 = torch.zeros(5), 0, time.monotonic()
            if time.monotonic() - saved > self.args.save_minutes * 60 or done >= plan["lessons"] or time.monotonic() >= self.until:
                saved = time.monotonic()
                self.save("speak", model=model.state_dict(), heads=heads.state_dict(), slow=slow.state_dict(), fast=fast.state_dict(), done=done, at=feed.at)
                loss, good, tokens_n, saw_n = 0.0, 0, 0, torch.zeros(3)
                with torch.no_grad():
                    for pictures, ids, labels, positions, truth, truths in held:
                        said, right, out = run(pictures, ids.to(self.device), labels.to(self.device), positions.to(self.device), truth)
                        loss, good, tokens_n = loss + said.item(), good + right.sum().item(), tokens_n + right.numel()
                        saw_n += see.score(out, truths) / len(truths)
                self.tell(stage="speak", done=done, held_out_loss=loss / len(held), held_out_tokens=good / tokens_n, held_out=[round(x / len(held), 4) for x in saw_n.tolist()])
                t0 = time.monotonic()
        feed.close()

    def make(self, batch, rng):
        """A batch of dialogues: pictures, ids, labels, positions, what the tower is asked, truths."""
        kind = rng.choices(list(texts.KINDS), texts.KINDS.values())[0]
        dialogues = [texts.dialogue(self.tokens, x, N_IMAGE, rng, kind) for x in batch]
        ids, labels = texts.collate(dialogues, self.tokens.end_of_text, LENGTHS)
        positions = torch.stack([shape.positions(row, self.tokens.image, HEIGHT // shape.TILE, WIDTH // shape.TILE) for row in ids], 1)
        truths = [t for x in batch for t in ([x.words["before"]] if len(x.pictures) == 2 else []) + [x.words["truth"]]]
        return torch.from_numpy(batch_pictures(batch)), ids, labels, positions, lessons.labels(truths), truths

    def draft_stage(self, model):
        """The MTP block alone: the trunk stands still. Returns the block."""
        plan = STAGES["draft"]
        tower, text = model.model.visual, model.model.language_model
        block = draft.Draft(model.config.text_config).to(self.device)
        optimizer = Optimizer([(f"draft.{n}", p) for n, p in block.named_parameters()], plan)
        state, done, at = self.load("draft"), 0, 0
        if state:
            block.load_state_dict(state["block"])
            optimizer.load_state_dict(state["optimizer"])
            done, at = state["done"], state["at"]
            if done >= plan["lessons"]:
                return block
        places = self.places(tower)

        def run(pictures, ids, labels, positions):
            with torch.no_grad(), self.autocast():
                seen, _ = shape.see(tower, self.patches(pictures), places)
                x = text.embed_tokens(ids)
                x = x.masked_scatter((ids == self.tokens.image).unsqueeze(-1), seen.to(x.dtype))
                hidden = text(inputs_embeds=x, position_ids=positions, use_cache=False).last_hidden_state
            with self.autocast():
                return draft.loss(block, text, ids, labels, hidden, positions, self.tokens.image)

        feed = lessons.Shuffled(self.args.lessons, self.args.seed + 2, at, plan["batch"], self.make, pairs=100)
        held = list(self.held_out(self.make, 24, plan["batch"]))
        sums, n, t0, saved = torch.zeros(2), 0, time.monotonic(), time.monotonic()
        while done < plan["lessons"] and time.monotonic() < self.until:
            pictures, *batch = next(feed)
            l, accepted = run(pictures, *(t.to(self.device) for t in batch[:3]))
            l.backward()
            optimizer.step(done)
            done += len(batch[0])
            sums, n = sums + torch.tensor([l.item(), accepted.float().mean().item()]), n + 1
            if n == 100:
                self.tell(stage="draft", done=done, loss=sums[0].item() / n, accepted=sums[1].item() / n, per_s=n * plan["batch"] / (time.monotonic() - t0))
                sums, n, t0 = torch.zeros(2), 0, time.monotonic()
            if time.monotonic() - saved > self.args.save_minutes * 60 or done >= plan["lessons"] or time.monotonic() >= self.until:
                saved = time.monotonic()
                self.save("draft", block=block.state_dict(), optimizer=optimizer.state_dict(), done=done, at=feed.at)
                with torch.no_grad():
                    good = torch.cat([run(p, *(t.to(self.device) for t in rest[:3]))[1] for p, *rest in held])
                self.tell(stage="draft", done=done, held_out_accepted=good.float().mean().item())
        feed.close()
        return block

    def export(self, model, block=None):
        """The F32 original as transformers keeps it, with tokenizer, template and processor beside it."""
        import shutil

        folder = self.out / "checkpoint"
        model.float().cpu().save_pretrained(folder)
        if block is not None:  # beside the model, under the names that the family's checkpoints have
            from safetensors.torch import save_file

            save_file({f"mtp.{n}": p.detach().float().cpu().contiguous() for n, p in block.named_parameters()}, folder / "model-mtp.safetensors")
        shutil.copy(self.out / "tokenizer.json", folder / "tokenizer.json")
        shutil.copy(pathlib.Path(__file__).parent / "chat_template.jinja", folder / "chat_template.jinja")
        (folder / "preprocessor_config.json").write_text(json.dumps(dict(
            image_processor_type="Qwen2VLImageProcessorFast", size=dict(shortest_edge=shape.LONGEST_EDGE, longest_edge=shape.LONGEST_EDGE), patch_size=16, temporal_patch_size=2, merge_size=2,
            image_mean=[0.5] * 3, image_std=[0.5] * 3, do_resize=True, do_rescale=True, do_normalize=True, do_convert_rgb=True, resample=3), indent=1))
        return folder

    def run(self):
        stage = self.args.stage
        self.tokens = self.tokens_stage()
        if stage == "tokens":
            return
        model = self.model()
        heads = None
        if stage in ("all", "see"):
            heads = self.see_stage(model)
        if stage in ("all", "speak") and time.monotonic() < self.until:
            if heads is None:
                heads = see.Heads(shape.TEXT["hidden_size"], shape.VISION["hidden_size"]).to(self.device)
                state = self.load("see")
                model.model.visual.load_state_dict(state["tower"])
                heads.load_state_dict(state["heads"])
            self.speak_stage(model, heads)
        block = None
        if stage in ("draft", "export"):
            model.load_state_dict(self.load("speak")["model"])
        if stage == "draft" or (stage == "all" and time.monotonic() < self.until):
            block = self.draft_stage(model)
        elif stage == "export" and self.load("draft"):
            block = draft.Draft(model.config.text_config)
            block.load_state_dict(self.load("draft")["block"])
        if time.monotonic() < self.until:
            print(self.export(model, block))


def batch_pictures(batch):
    import numpy as np

    return np.stack([p for x in batch for p in x.pictures])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--stage", default="all", choices=["all", "tokens", "see", "speak", "draft", "export"])
    parser.add_argument("--lessons", default="build/tools/lessons")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so long, to go on later")
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    args = parser.parse_args()
    Recipe(args).run()


if __name__ == "__main__":
    main()
