#!/usr/bin/env python3
"""Heron beside llama.cpp: both engines on the same GGUF files, with the same threads, in turns.

    tests/bench_peer.py --heron build/heron --peer FOLDER [--peer FOLDER]... [--maker build/tools/make_model] [--folder /tmp/bench-peer] [--pairs 5] [MODEL...]

MODEL is a GGUF file or a noise model of a published shape (engine/synthetic.h), which is written to --folder first: qwen3.5-0.8b:q4_k_m. FOLDER holds llama.cpp's llama-bench; with
several, such as builds with and without AMX, each takes its turn, and each figure is compared with the best of theirs. One round runs Heron, then each peer, the next one in the
opposite order; what counts is the median of the rounds, and their ratio the median of the rounds' ratios. The memory's read bandwidth is measured by each of Heron's runs. A round in
which the host of a virtual machine took processors away for more than --stolen of the time says nothing about either engine: it is kept apart and taken again, up to as many more as --pairs.

--image WxH, once or more: also a picture of that size through the vision tower of noise models; the peer's folder needs llama-mtmd-cli for that (which reports the milliseconds of its
tower; Heron's are those of its vision row). Rates are pictures a second.

A table on standard output; --json FILE keeps all samples. --check COMMAND, before anything is timed: what must succeed for a speed to count.
"""

import argparse
import json
import os
import random
import re
import pathlib
import platform
import statistics
import subprocess
import sys
import time

MODELS = [f"qwen3.5-{shape}:{kind}" for shape in ("0.8b", "2b", "4b") for kind in ("q4_k_m", "q6_k", "q8_0")] + ["qwen3.5-35b-a3b/8:q4_k_m"]


def run(command, **options):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with status {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


def made(path, make):
    """A file that make(name) writes where it is not there yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path.with_suffix(".new"))
        os.replace(path.with_suffix(".new"), path)
    return path


def is_noise(model):
    return ":" in model and not pathlib.Path(model).exists()


def file_of(model, args):
    """The GGUF file; a noise model is written where it is not there yet."""
    if not is_noise(model):
        return pathlib.Path(model)
    name = model.replace("/", "-").replace(":", "-")
    return made(pathlib.Path(args.folder) / f"{name}.gguf", lambda path: run([args.maker, "--name", model, model, path]))


def vision_of(model, args):
    """Its vision file, made together with a text model of one layer that nobody needs."""
    shape = model.split(":")[0].split("/")[0]

    def make(path):
        text = path.with_suffix(".text")
        run([args.maker, "--name", model, f"{shape}/1:q4_0", text, "--vision", path])
        text.unlink()
    return made(pathlib.Path(args.folder) / f"mmproj-{shape}.gguf", make)


def picture_of(size, args):
    width, height = map(int, size.split("x"))
    return made(pathlib.Path(args.folder) / f"{size}.ppm", lambda path: path.write_bytes(b"P6 %d %d 255\n" % (width, height) + random.Random(1).randbytes(3 * width * height)))


def heron(args, path, streams=1):
    out = json.loads(run([args.heron, "bench", "-m", path, "--json", "-t", args.threads, "-p", args.prompt if streams == 1 else 0, "-n", args.decode, "-b", streams]))
    rows = {r["what"].split(" ")[0]: r for r in out["results"]}
    return {name: rows[name]["rate"] for name in ("prefill", "decode") if name in rows} | {
        "read": out["read_bandwidth"], "moved": rows["decode"]["bytes_per_s"] / out["read_bandwidth"], "model_bytes": out["weights_bytes"]}


def peer(args, folder, path):
    rows = json.loads(run([pathlib.Path(folder) / "llama-bench", "-m", path, "-p", args.prompt, "-n", args.decode, "-t", args.threads, "-r", 1, "-fa", args.flash, "-o", "json"]))
    return {"prefill" if r["n_prompt"] else "decode": r["avg_ts"] for r in rows}


def heron_sees(args, path, vision, size):
    out = json.loads(run([args.heron, "bench", "-m", path, "-v", vision, "--image", size, "--json", "-t", args.threads, "-p", 0, "-n", 0]))
    return next(1000 / r["ms"] for r in out["results"] if r["what"].startswith("vision"))


def peer_sees(args, folder, path, vision, size):
    """A warm-up on a picture of its own is part of every run of llama-mtmd-cli."""
    done = subprocess.run([str(c) for c in (pathlib.Path(folder) / "llama-mtmd-cli", "-m", path, "--mmproj", vision, "--image", picture_of(size, args), "-p", "x", "-n", 1, "-c", 2048, "-t", args.threads)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    found = re.search(r"(?:encoding done|encoded) in (\d+) ms", done.stdout)
    if done.returncode != 0 or not found:
        sys.exit(f"{folder}/llama-mtmd-cli, status {done.returncode}: {done.stdout.strip()[-600:]}")
    return 1000 / int(found[1])


def ticks():
    """Of all processors since the machine started: taken by the host, all."""
    times = [int(x) for x in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return times[7], sum(times)


def measure(args, model):
    path = file_of(model, args)
    seeing = [folder for folder in args.peer if (pathlib.Path(folder) / "llama-mtmd-cli").is_file()] if is_noise(model) else []
    turns = [("heron", lambda: heron(args, path)), *((folder, lambda folder=folder: peer(args, folder, path)) for folder in args.peer)]
    rounds, apart = [], []
    for i in range(2 * args.pairs):
        took, before = {}, ticks()
        for name, turn in turns if i % 2 == 0 else turns[::-1]:
            took[name] = turn()
        if args.streams > 1:
            took["streams"] = heron(args, path, args.streams)
        for size in args.image if seeing else []:
            for name in (["heron", *seeing] if i % 2 == 0 else [*seeing[::-1], "heron"]):
                vision = vision_of(model, args)
                took[name]["vision " + size] = heron_sees(args, path, vision, size) if name == "heron" else peer_sees(args, name, path, vision, size)
        stolen = (ticks()[0] - before[0]) / max(1, ticks()[1] - before[1])
        (rounds if stolen <= args.stolen else apart).append(took)
        print(f"  {model}, round {i + 1}, {len(rounds)} of {args.pairs}: " + ", ".join(f"{name} {took[name].get('prefill', 0):.1f} {took[name]['decode']:.1f}" for name in took) +
              f", {100 * stolen:.1f} % stolen", file=sys.stderr, flush=True)
        if len(rounds) == args.pairs:
            break
    if not rounds:
        sys.exit(f"{model}: in each of {len(apart)} rounds the host took more than {100 * args.stolen:g} % of the time (--stolen)")
    return dict(model=model, file=path.name, bytes=path.stat().st_size, rounds=rounds, apart=apart, **summary(args, rounds))


def summary(args, rounds):
    median = statistics.median
    out = dict(read_gb_s=median(r["heron"]["read"] for r in rounds) / 1e9, of_read=median(r["heron"]["moved"] for r in rounds))
    for what in ("prefill", "decode"):
        out[what] = dict(heron=median(r["heron"][what] for r in rounds), peers={p: median(r[p][what] for r in rounds) for p in args.peer},
                         ratio=median(r["heron"][what] / max(r[p][what] for p in args.peer) for r in rounds))
    for size in args.image:
        what, peers = "vision " + size, [p for p in args.peer if "vision " + size in rounds[0][p]]
        if peers:
            out[what] = dict(heron=median(r["heron"][what] for r in rounds), peers={p: median(r[p][what] for r in rounds) for p in peers},
                             ratio=median(r["heron"][what] / max(r[p][what] for p in peers) for r in rounds))
    if args.streams > 1:
        out["streams"] = dict(n=args.streams, heron=median(r["streams"]["decode"] for r in rounds), ratio=median(r["streams"]["decode"] / r["heron"]["decode"] for r in rounds))
    return out


def table(args, results):
    print(f"\n{platform.processor() or platform.machine()}, {args.threads} threads, prefill {args.prompt}, decode {args.decode}; medians of {' to '.join(map(str, sorted({len(r['rounds']) for r in results})))} rounds, tokens/s; x: against the better peer\n")
    print(f"{'':28} {'prefill':>9} {'peer':>9} {'x':>6} {'decode':>9} {'peer':>9} {'x':>6} {'GB/s':>6} {'of it':>6}" + (f" {'x%d' % args.streams:>8} {'x':>6}" if args.streams > 1 else ""))
    for r in results:
        cells = [f"{r['model']:28}"]
        for what in ("prefill", "decode"):
            cells.append(f"{r[what]['heron']:9.1f} {max(r[what]['peers'].values()):9.1f} {r[what]['ratio']:6.2f}")
        cells.append(f"{r['read_gb_s']:6.1f} {100 * r['of_read']:5.0f}%")
        if args.streams > 1:
            cells.append(f"{r['streams']['heron']:8.1f} {r['streams']['ratio']:6.2f}")
        print(" ".join(cells))
    for r in results:
        for what in (w for w in r if w.startswith("vision ")):
            print(f"{r['model']:28} {what:>14}: {1000 / r[what]['heron']:9.0f} ms, peer {1000 / max(r[what]['peers'].values()):9.0f} ms, {r[what]['ratio']:6.2f} x")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--heron", default="build/heron")
    parser.add_argument("--maker", default="build/tools/make_model")
    parser.add_argument("--peer", action="append", required=True, metavar="FOLDER")
    parser.add_argument("--folder", default="/tmp/bench-peer", help="for noise models")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--stolen", type=float, default=0.03, metavar="SHARE")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--streams", type=int, default=4, help="also decode so many sequences together; 1: do not")
    parser.add_argument("--image", action="append", default=[], metavar="WxH", help="also the vision tower, of noise models")
    parser.add_argument("--flash", default="1", help="llama-bench's -fa")
    parser.add_argument("--check", action="append", default=[], metavar="COMMAND")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    for folder in args.peer:
        if not (pathlib.Path(folder) / "llama-bench").is_file():
            sys.exit(f"--peer {folder}: there is no llama-bench in it")
    for command in args.check:
        run(command.split())
    results = [measure(args, model) for model in args.models or MODELS]
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(dict(when=time.strftime("%Y-%m-%d %H:%M"), checks=args.check, results=results), indent=1))
    table(args, results)


if __name__ == "__main__":
    main()
