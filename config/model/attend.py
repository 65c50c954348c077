"""The tower's attention of attend.c as an operator of torch, for the training on a CPU with AMX: there and back seven times as fast as in torch's own operations.

`use` compiles it, proves that it agrees with torch in float32, values and gradients, and returns it; None where the machine has no AMX.
"""

import ctypes
import functools

import torch

import native

HEAD = 32  # as in attend.c
LONGEST = 1024


def plain(q, k, v):
    """[B, N, H, D] each. Written out: on a CPU the library's way back is three times as slow for so few patches."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return (torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), -1, dtype=torch.float32).to(v.dtype) @ v).transpose(1, 2)


def close(x):
    """x as attend.c takes it: a patch's heads beside each other, the patches evenly apart."""
    b, n, h, d = x.shape
    return x if x.stride() == (n * x.stride(1), x.stride(1), d, 1) else x.contiguous()


def operator(c):
    """q, k, v [B, N, H, HEAD] bfloat16 -> o [B, N, H, HEAD] bfloat16, lse [B, H, N] float32."""

    def shape(*tensors):
        b, n, h, _ = tensors[0].shape
        return (ctypes.c_int * 6)(b, h, n, *(x.stride(1) for x in tensors))

    @torch.library.custom_op("heron::attend", mutates_args=())
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        b, n, h, d = q.shape
        assert n <= LONGEST and d == HEAD and q.dtype == k.dtype == v.dtype == torch.bfloat16
        q, k, v = (close(x) for x in (q, k, v))
        o, lse = torch.empty(b, n, h, d, dtype=q.dtype), torch.empty(b, h, n)
        c.attend_forward(*map(native.at, (q, k, v, o, lse)), shape(q, k, v))
        return o, lse

    @attend.register_fake
    def _(q, k, v):
        b, n, h, d = q.shape
        return q.new_empty(b, n, h, d), torch.empty(b, h, n)

    @torch.library.custom_op("heron::attend_back", mutates_args=())
    def back(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, o: torch.Tensor, grad: torch.Tensor, lse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        q, k, v, grad = *(close(x) for x in (q, k, v)), grad.contiguous()
        out = [torch.empty_like(o) for _ in range(3)]
        c.attend_backward(*map(native.at, (q, k, v, o, grad, lse, *out)), shape(q, k, v))
        return tuple(out)

    @back.register_fake
    def _(q, k, v, o, grad, lse):
        return tuple(torch.empty_like(o) for _ in range(3))

    def save(ctx, inputs, output):
        ctx.save_for_backward(*inputs, *output)

    def gradient(ctx, grad, _):
        q, k, v, o, lse = ctx.saved_tensors
        return back(q, k, v, o, grad, lse)

    attend.register_autograd(gradient, setup_context=save)
    return lambda q, k, v: attend(q, k, v)[0]


def check(attend):
    """Largest difference of `attend` from `plain` in float32 on random numbers, of the answer and of every gradient, relative to its size."""
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for n in (24, 50, 240):
            inputs = list((2 * torch.randn(2, n, 3, 4, HEAD)).bfloat16().unbind(2))  # views, as the tower has them
            weight, got = torch.randn(2, n, 4, HEAD).bfloat16(), []
            for f, kind in ((plain, torch.float32), (attend, torch.bfloat16)):
                x = [i.to(kind).requires_grad_() for i in inputs]
                o = f(*x)
                o.backward(weight.to(kind))
                got.append([o.detach()] + [i.grad for i in x])
            found += [(a - b).norm() / a.norm() for a, b in zip(*got)]
    return torch.stack(found).max().item()  # NaN where one is


@functools.cache  # an operator of torch is registered once in a process
def use():
    if not native.has_amx():
        return None
    c = native.load("attend.c")
    if c.attend_open() != 0:  # the system does not grant the tiles
        return None
    attend = operator(c)
    difference = check(attend)
    assert difference < 1e-2, f"attend.c differs from torch: {difference}"  # bfloat16 has 8 bits; torch's own operations in bfloat16 come to 1.3e-2
    return attend


if __name__ == "__main__":
    it = use()
    print(check(it) if it else "no AMX here")
