# SPDX-License-Identifier: Apache-2.0
"""One rank's shard of a decoder as a PyTorch module: a decode step over a KV cache, its row-parallel products summed over ranks.

Shapes are those of the public configurations; weights are random. Query heads are stored with the group first (head = group index
* KV heads + KV head), a permutation of the weights' rows that an engine would do as it loads them: attention's result is then
contiguous. Where there are more ranks than KV heads, ranks share heads.
"""

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclasses.dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int  # of one expert, where there are experts
    vocabulary: int
    rope_theta: float
    epsilon: float
    experts: int = 0
    experts_per_token: int = 0
    head_norms: bool = False


SHAPES = {
    "llama-3-8b": Shape(32, 4096, 32, 8, 128, 14336, 128256, 500000.0, 1e-5),
    "qwen3-30b-a3b": Shape(48, 2048, 32, 4, 128, 768, 151936, 1000000.0, 1e-6, 128, 8, True),
    "tiny": Shape(3, 64, 8, 2, 16, 96, 512, 10000.0, 1e-5),
    "tiny-moe": Shape(3, 64, 8, 2, 16, 32, 512, 10000.0, 1e-6, 16, 4, True),
}


class Shard:
    """What this rank has of a shape, how much it decodes at most, and where its weights come from."""

    def __init__(self, shape, rank, world, rows_max, context, device, seed=1):
        for name in ("heads", "intermediate", "vocabulary"):
            if getattr(shape, name) % world != 0:
                raise ValueError(f"{getattr(shape, name)} {name} cannot be shared by {world} ranks")
        if shape.kv_heads % world != 0 and world % shape.kv_heads != 0:
            raise ValueError(f"{shape.kv_heads} KV heads cannot be shared by {world} ranks")
        self.shape, self.world, self.rows_max, self.context, self.device = shape, world, rows_max, context, device
        self.heads = shape.heads // world
        self.kv_heads = max(1, shape.kv_heads // world)
        self.intermediate = shape.intermediate // world
        self._alike = torch.Generator(device).manual_seed(seed)
        self._own = torch.Generator(device).manual_seed(seed + 1 + rank)

    def same(self, *size, scale):
        """Random weights that all ranks have alike."""
        return self._random(size, scale, self._alike)

    def sharded(self, *size, scale):
        """Random weights that each rank has its own part of."""
        return self._random(size, scale, self._own)

    def _random(self, size, scale, generator):
        weights = torch.empty(size, dtype=torch.bfloat16, device=self.device)
        return nn.Parameter(weights.normal_(0.0, scale, generator=generator), requires_grad=False)


def branch_scale(shape):
    """Of what adds to the residual, as models are usually initialised. With 1 a random model amplifies roundings until nothing is
    left to compare: two correct orders of summation end 70% apart after 48 layers of experts."""
    return (2 * shape.layers) ** -0.5


class Attention(nn.Module):
    def __init__(self, shard, ops):
        super().__init__()
        shape = shard.shape
        self.shard, self.ops = shard, ops
        width = (shard.heads + 2 * shard.kv_heads) * shape.head_dim
        self.qkv = shard.sharded(width, shape.hidden, scale=shape.hidden ** -0.5)
        self.out = shard.sharded(shape.hidden, shard.heads * shape.head_dim,
                                 scale=branch_scale(shape) * (shape.heads * shape.head_dim) ** -0.5)
        self.norms = [nn.Parameter(1 + shard.same(shape.head_dim, scale=0.1), requires_grad=False) for _ in range(2)] \
            if shape.head_norms else None
        cache = (shard.rows_max, shard.context, shard.kv_heads, shape.head_dim)
        self.register_buffer("keys", shard.sharded(*cache, scale=1.0).data, persistent=False)
        # Attention over random keys is close to an average: larger values keep its share of the sum as large as the MLP's.
        self.register_buffer("values", shard.sharded(*cache, scale=math.sqrt(shard.context) / 8).data, persistent=False)

    def forward(self, x, positions, rotation, way):
        rows, shape, shard = x.shape[0], self.shard.shape, self.shard
        query = self.ops.rope_and_store(F.linear(x, self.qkv), self.norms, shape.epsilon, rotation, positions, shard.heads,
                                        self.keys, self.values)
        query = query.view(rows, shard.heads // shard.kv_heads, shard.kv_heads, shape.head_dim).transpose(1, 2)
        # All queries of a group see the whole cache, so that they are rows of one product, and no mask is needed.
        with sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]):
            seen = F.scaled_dot_product_attention(query, self.keys[:rows].transpose(1, 2), self.values[:rows].transpose(1, 2))
        partial = way.partial(rows)
        torch.mm(seen.transpose(1, 2).reshape(rows, -1), self.out.t(), out=partial)
        return way.reduce(rows)


class Mlp(nn.Module):
    def __init__(self, shard, ops):
        super().__init__()
        shape = shard.shape
        self.ops = ops
        self.gate_up = shard.sharded(2 * shard.intermediate, shape.hidden, scale=shape.hidden ** -0.5)
        self.down = shard.sharded(shape.hidden, shard.intermediate, scale=branch_scale(shape) * shape.intermediate ** -0.5)

    def forward(self, x, way):
        rows = x.shape[0]
        torch.mm(self.ops.silu_multiply(F.linear(x, self.gate_up)), self.down.t(), out=way.partial(rows))
        return way.reduce(rows)


class Experts(nn.Module):
    """Every rank has a slice of every expert; the router is everywhere."""

    def __init__(self, shard, ops):
        super().__init__()
        shape = shard.shape
        self.ops, self.per_token = ops, shape.experts_per_token
        # A router that prefers a few of its experts, as trained ones do: which one comes last then hardly matters.
        self.router = shard.same(shape.experts, shape.hidden, scale=4 * shape.hidden ** -0.5)
        self.gate_up = shard.sharded(shape.experts, 2 * shard.intermediate, shape.hidden, scale=shape.hidden ** -0.5)
        # Weighted averages of several experts are smaller than one expert's result.
        self.down = shard.sharded(shape.experts, shape.hidden, shard.intermediate,
                                  scale=2 * branch_scale(shape) * shape.intermediate ** -0.5)

    def forward(self, x, way):
        rows = x.shape[0]
        chosen, weights = self.ops.route(F.linear(x, self.router), self.per_token)
        self.ops.experts(x, chosen, weights, self.gate_up, self.down, way.partial(rows))
        return way.reduce(rows)


class Layer(nn.Module):
    def __init__(self, shard, ops):
        super().__init__()
        shape = shard.shape
        self.ops, self.epsilon = ops, shape.epsilon
        self.norms = nn.ParameterList(nn.Parameter(1 + shard.same(shape.hidden, scale=0.1), requires_grad=False)
                                      for _ in range(2))
        self.attention = Attention(shard, ops)
        self.mlp = Experts(shard, ops) if shape.experts else Mlp(shard, ops)

    def forward(self, x, delta, positions, rotation, way):
        delta = self.attention(self.ops.add_norm(x, delta, self.norms[0], self.epsilon), positions, rotation, way)
        return self.mlp(self.ops.add_norm(x, delta, self.norms[1], self.epsilon), way)


class Decoder(nn.Module):
    """forward: this rank's share of the logits, and the hidden state that they are of, which every rank has."""

    def __init__(self, shard, ops):
        super().__init__()
        shape = shard.shape
        self.shard, self.ops = shard, ops
        self.embedding = shard.same(shape.vocabulary, shape.hidden, scale=1.0)
        self.layers = nn.ModuleList(Layer(shard, ops) for _ in range(shape.layers))
        self.norm = nn.Parameter(1 + shard.same(shape.hidden, scale=0.1), requires_grad=False)
        self.head = shard.sharded(shape.vocabulary // shard.world, shape.hidden, scale=shape.hidden ** -0.5)
        self.register_buffer("rotation", rotation(shape, shard.context, shard.device), persistent=False)

    @property
    def reductions(self):
        return 2 * len(self.layers)

    def use(self, ops):
        for module in self.modules():
            if hasattr(module, "ops"):
                module.ops = ops

    def forward(self, tokens, positions, way):
        x = F.embedding(tokens, self.embedding)
        delta = None
        for layer in self.layers:
            delta = layer(x, delta, positions, self.rotation, way)
        hidden = self.ops.add_norm(x, delta, self.norm, self.shard.shape.epsilon)
        return F.linear(hidden, self.head), hidden


def rotation(shape, context, device):
    """(context, 2, head_dim / 2) f32: cosines and sines."""
    frequency = shape.rope_theta ** -(torch.arange(0, shape.head_dim, 2, device=device).float() / shape.head_dim)
    angle = torch.arange(context, device=device).float()[:, None] * frequency
    return torch.stack((angle.cos(), angle.sin()), 1).contiguous()


class Plain:
    """The operations between the products, of PyTorch's own: what the fused ones are compared with, and what a CPU runs.

    Each rounds to bf16 where the fused ones do.
    """

    @staticmethod
    def add_norm(x, delta, weight, epsilon):
        """Adds delta to x, in place, and returns the weighted RMS norm of the sum."""
        if delta is not None:
            x += delta
        return Plain._norm(x, weight, epsilon)

    @staticmethod
    def _norm(x, weight, epsilon):
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon) * weight.float()).to(x.dtype)

    @staticmethod
    def rope_and_store(qkv, norms, epsilon, rotation, positions, heads, keys, values):
        """Splits qkv, norms and turns queries and keys, puts keys and values into the cache; returns the queries."""
        rows, (_, _, kv_heads, dim) = qkv.shape[0], keys.shape
        query, key, value = qkv.view(rows, -1, dim).split((heads, kv_heads, kv_heads), 1)
        if norms is not None:
            query, key = (Plain._norm(part, weight, epsilon) for part, weight in zip((query, key), norms))
        cosine, sine = rotation[positions].unbind(1)

        def turn(part):
            low, high = part.float().chunk(2, -1)
            c, s = cosine[:, None], sine[:, None]
            return torch.cat((low * c - high * s, high * c + low * s), -1).to(part.dtype)

        row = torch.arange(rows, device=qkv.device)
        keys[row, positions] = turn(key)
        values[row, positions] = value
        return turn(query).reshape(rows, -1)

    @staticmethod
    def silu_multiply(gate_up):
        gate, up = gate_up.float().chunk(2, -1)
        return (F.silu(gate) * up).to(gate_up.dtype)

    @staticmethod
    def route(logits, per_token):
        """The per_token best experts of each row, int32, and their weights, f32, which sum to 1."""
        best, chosen = logits.float().topk(per_token, -1)
        return chosen.int(), best.softmax(-1)

    @staticmethod
    def experts(x, chosen, weights, gate_up, down, out):
        rows, per_token = chosen.shape
        pairs = chosen.reshape(-1).long()
        inner = torch.bmm(gate_up[pairs], x.repeat_interleave(per_token, 0)[:, :, None])[:, :, 0]
        gate, up = inner.float().chunk(2, -1)
        inner = (F.silu(gate) * up).to(x.dtype)
        each = torch.bmm(down[pairs], inner[:, :, None]).view(rows, per_token, -1).float()
        out.copy_((each * weights[:, :, None]).sum(1))
