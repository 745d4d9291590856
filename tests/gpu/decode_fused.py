# SPDX-License-Identifier: Apache-2.0
"""The fused operations of bench/decode against PyTorch's own: on a GPU in bf16, else in Triton's interpreter.

The interpreter multiplies the bits of bf16, so there it is f16. Exit 0: equal within a rounding; 77: no PyTorch, no Triton, or a
NumPy that the interpreter does not bear; 1: a difference.
"""

import os
import sys

SKIPPED = 77
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench"))


class Check:
    def __init__(self, torch, device, dtype):
        self.torch, self.device, self.dtype, self.bad = torch, device, dtype, 0
        torch.manual_seed(7)
        # A difference in the last bit of f32 rounds a few values elsewhere; a wrong index changes most of them by much.
        self.limit = 5e-4

    def random(self, *size, scale=1.0):
        return (self.torch.randn(size) * scale).to(self.dtype).to(self.device)

    def same(self, what, ours, wanted):
        ours, wanted = ours.double(), wanted.double()
        distance = float((ours - wanted).norm() / wanted.norm())
        print(f"{'ok ' if distance <= self.limit else 'BAD'} {what}: {distance:.2g}")
        self.bad += not distance <= self.limit

    def norm(self, plain, fused):
        for width in (64, 1000):
            x, delta, weight = self.random(5, width), self.random(5, width), self.random(width)
            ours, wanted = x.clone(), x.clone()
            self.same(f"norm of {width}", fused.add_norm(ours, None, weight, 1e-5), plain.add_norm(wanted, None, weight, 1e-5))
            self.same(f"norm of a sum of {width}", fused.add_norm(ours, delta, weight, 1e-5),
                      plain.add_norm(wanted, delta, weight, 1e-5))
            self.same("the sum", ours, wanted)

    def rope(self, plain, fused, rotation):
        positions = self.torch.tensor([31, 5, 0], device=self.device)
        for norms in (None, (self.random(16), self.random(16))):
            qkv = self.random(3, (8 + 2 * 2) * 16)
            caches = [self.torch.zeros(4, 32, 2, 16, dtype=self.dtype, device=self.device) for _ in range(4)]
            ours = fused.rope_and_store(qkv, norms, 1e-5, rotation, positions, 8, *caches[:2])
            wanted = plain.rope_and_store(qkv, norms, 1e-5, rotation, positions, 8, *caches[2:])
            self.same(f"turned queries, norms {norms is not None}", ours, wanted)
            self.same("keys", caches[0], caches[2])
            self.same("values", caches[1], caches[3])

    def experts(self, plain, fused, rows, popular):
        """popular: everybody takes the same experts, more than a block of them."""
        hidden, width, experts, per_token = 64, 48, 16, 4
        logits = self.torch.rand(rows, experts).argsort(-1) if not popular else self.torch.arange(experts).repeat(rows, 1)
        logits = (logits / 4).to(self.dtype).to(self.device)  # no two alike: who wins a tie is nobody's promise
        chosen, weights = fused.route(logits, per_token)
        wanted_chosen, wanted_weights = plain.route(logits, per_token)
        self.same(f"weights of {rows} rows' experts", weights, wanted_weights)
        self.same("experts", chosen, wanted_chosen)
        x, gate_up, down = self.random(rows, hidden), self.random(experts, 2 * width, hidden), self.random(experts, hidden, width)
        ours, wanted = (self.torch.full_like(x, float("nan")) for _ in range(2))
        fused.experts(x, chosen, weights, gate_up / 8, down / 8, ours)
        plain.experts(x, chosen, weights, gate_up / 8, down / 8, wanted)
        self.same("their sum", ours, wanted)


def main():
    try:
        import numpy
        import torch
        on_device = torch.cuda.is_available()
        if not on_device:
            os.environ["TRITON_INTERPRET"] = "1"
        from decode import fused, model
    except ImportError as missing:
        print(f"skipped: {missing}")
        return SKIPPED
    if not on_device and tuple(map(int, numpy.__version__.split(".")[:2])) >= (2, 4):
        print(f"skipped: Triton's interpreter does not bear NumPy {numpy.__version__}")
        return SKIPPED
    device = torch.device("cuda" if on_device else "cpu")
    check = Check(torch, device, torch.bfloat16 if on_device else torch.float16)
    check.norm(model.Plain, fused.Fused)
    check.rope(model.Plain, fused.Fused, model.rotation(model.SHAPES["tiny"], 32, device))
    gate_up = check.random(3, 96)
    check.same("silu", fused.Fused.silu_multiply(gate_up), model.Plain.silu_multiply(gate_up))
    for rows, popular in ((3, False), (20, True), (40, False)):
        check.experts(model.Plain, fused.Fused, rows, popular)
    return 1 if check.bad else 0


if __name__ == "__main__":
    sys.exit(main())
