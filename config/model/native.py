"""The recipe's C, compiled for the machine at hand: rule.c and attend.c. No part of the program."""

import ctypes
import os
import pathlib
import subprocess
import tempfile


def load(name, *options):
    """A library of the file `name` beside this one."""
    with tempfile.TemporaryDirectory() as folder:
        library, unit = os.path.join(folder, "native.so"), os.path.join(folder, "native.o")
        subprocess.run(["gcc", "-O3", "-march=native", "-fopenmp", "-fPIC", *options, "-c", "-o", unit, str(pathlib.Path(__file__).with_name(name))], check=True)
        # linked without -ffast-math: that would make all of torch round its smallest numbers to zero
        subprocess.run(["gcc", "-fopenmp", "-shared", "-o", library, unit, "-lm"], check=True)
        return ctypes.CDLL(library)


def at(tensor):
    """Where the numbers of a tensor lie, for a call of such a library."""
    return ctypes.c_void_p(tensor.data_ptr())


def has(*names):
    """Whether this machine's CPU has one of these, as Linux names them."""
    try:
        return not set(names).isdisjoint(pathlib.Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False


def has_amx():
    """Whether it multiplies matrices of bfloat16 by itself."""
    return has("amx_bf16")


def has_bf16():
    """Whether it multiplies bfloat16 at all."""
    return has("amx_bf16", "avx512_bf16", "bf16")
