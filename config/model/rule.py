"""The gated delta rule of rule.c as an operator of torch, for the training on a CPU: there and back ten times as fast as the official function in torch's own operations.

`use` compiles it, proves that it agrees with the official function, values and gradients, and puts it in that function's place.
"""

import functools

import torch

import native

HEAD = 64  # as in rule.c
LONGEST = 1024


def operator():
    """q, k, v [B, T, H, HEAD] float32 or bfloat16, g, beta [B, T, H] float32 -> o [B, T, H, HEAD] of v's type. q and k need no norm and no scale."""
    c = native.load("rule.c", "-ffast-math")

    @torch.library.custom_op("heron::rule", mutates_args=())
    def rule(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        b, t, h, d = q.shape
        assert t <= LONGEST and d == HEAD and v.shape == q.shape and q.dtype == k.dtype == v.dtype in (torch.float32, torch.bfloat16) and g.dtype == beta.dtype == torch.float32
        inputs = [x.contiguous() for x in (q, k, v, g, beta)]
        o = torch.empty_like(inputs[2])
        c.rule_forward(*map(native.at, (*inputs, o)), b, t, h, v.dtype == torch.bfloat16)
        return o

    @rule.register_fake
    def _(q, k, v, g, beta):
        return torch.empty_like(v, memory_format=torch.contiguous_format)

    @torch.library.custom_op("heron::rule_back", mutates_args=())
    def back(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor,
             o: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        b, t, h, _ = q.shape
        inputs = [x.contiguous() for x in (q, k, v, g, beta, o.to(v.dtype))]
        out = [torch.empty_like(x) for x in inputs[:5]]
        c.rule_backward(*map(native.at, (*inputs, *out)), b, t, h, v.dtype == torch.bfloat16)
        return tuple(out)

    @back.register_fake
    def _(q, k, v, g, beta, o):
        return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v, g, beta))

    rule.register_autograd(lambda ctx, grad: back(*ctx.saved_tensors, grad), setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))
    return rule


def check(official, ours, kind=torch.float32):
    """Largest difference of the two functions on random numbers, of the answer and of every gradient, relative to its size. The official one reckons in float32, ours is given `kind`."""
    found = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for t in (1, 75, 256):
            inputs = [torch.randn(2, t, 3, HEAD).to(kind) for _ in range(3)] + [-torch.rand(2, t, 3), torch.rand(2, t, 3)]
            weight, got = torch.randn(2, t, 3, HEAD).to(kind), []
            for f, is_ours in ((official, False), (ours, True)):
                x = [(i if is_ours else i.float()).clone().requires_grad_() for i in inputs]
                o, _ = f(*x[:3], g=x[3], beta=x[4], use_qk_l2norm_in_kernel=True)
                o.backward(weight if is_ours else weight.float())
                got.append([o.detach()] + [i.grad for i in x])
            found += [(a - b).norm() / a.norm() for a, b in zip(*got) if a.norm() > 0]
    return torch.stack(found).max().item()  # NaN where one is


@functools.cache  # an operator of torch is registered once in a process
def use():
    from transformers.models.qwen3_5 import modeling_qwen3_5 as official

    rule = operator()

    def delta_rule(query, key, value, g, beta, chunk_size=64, initial_state=None, output_final_state=False, use_qk_l2norm_in_kernel=False, **kwargs):
        assert initial_state is None and not output_final_state and use_qk_l2norm_in_kernel
        return rule(query, key, value, g.float(), beta.float()), None

    theirs = official.torch_chunk_gated_delta_rule
    for kind, limit in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):  # bfloat16 has 8 bits
        difference = check(theirs, delta_rule, kind)
        assert difference < limit, f"rule.c differs from the official gated delta rule: {difference} in {kind}"
    official.torch_chunk_gated_delta_rule = delta_rule
    return theirs, delta_rule


if __name__ == "__main__":
    print(*(check(*use(), kind) for kind in (torch.float32, torch.bfloat16)))
