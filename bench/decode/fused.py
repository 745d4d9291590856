# SPDX-License-Identifier: Apache-2.0
"""The operations of model.Plain as one Triton kernel each, so that a decode step is about as many kernels as in an engine."""

import torch
import triton
import triton.language as tl


@triton.jit
def add_norm_kernel(x, delta, weight, out, epsilon, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ADD: tl.constexpr):
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    at = tl.program_id(0) * WIDTH + column
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        value += tl.load(delta + at, mask=inside, other=0.0).to(tl.float32)
        rounded = value.to(x.dtype.element_ty)
        tl.store(x + at, rounded, mask=inside)
        value = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 0) / WIDTH + epsilon)
    value = value * scale * tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def rope_kernel(qkv, query_norm, key_norm, rotation, positions, query, keys, values, epsilon, context, HEADS: tl.constexpr,
                KV_HEADS: tl.constexpr, DIM: tl.constexpr, NORM: tl.constexpr):
    row = tl.program_id(0)
    head = tl.program_id(1)
    HALF: tl.constexpr = DIM // 2
    half = tl.arange(0, HALF)
    source = qkv + (row * (HEADS + 2 * KV_HEADS) + head) * DIM + half
    low = tl.load(source).to(tl.float32)
    high = tl.load(source + HALF).to(tl.float32)
    position = tl.load(positions + row)
    if head < HEADS + KV_HEADS:
        if NORM:
            scale = tl.rsqrt((tl.sum(low * low, 0) + tl.sum(high * high, 0)) / DIM + epsilon)
            weight = key_norm + half
            if head < HEADS:
                weight = query_norm + half
            low = (low * scale * tl.load(weight).to(tl.float32)).to(qkv.dtype.element_ty).to(tl.float32)
            high = (high * scale * tl.load(weight + HALF).to(tl.float32)).to(qkv.dtype.element_ty).to(tl.float32)
        turned = rotation + position * DIM + half
        cosine = tl.load(turned)
        sine = tl.load(turned + HALF)
        turned_low = low * cosine - high * sine
        high = high * cosine + low * sine
        low = turned_low
    if head < HEADS:
        target = query + (row * HEADS + head) * DIM + half
    else:
        # 64 bits: a cache is larger than 2^31 elements before it is larger than a GPU.
        cached = (row.to(tl.int64) * context + position) * KV_HEADS
        if head < HEADS + KV_HEADS:
            target = keys + (cached + head - HEADS) * DIM + half
        else:
            target = values + (cached + head - HEADS - KV_HEADS) * DIM + half
    tl.store(target, low.to(qkv.dtype.element_ty))
    tl.store(target + HALF, high.to(qkv.dtype.element_ty))


@triton.jit
def silu_kernel(gate_up, out, width, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    gate = tl.load(gate_up + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * 2 * width + width + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * width + column, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=inside)


@triton.jit
def route_kernel(logits, chosen, weights, EXPERTS: tl.constexpr, PER_TOKEN: tl.constexpr):
    row = tl.program_id(0)
    expert = tl.arange(0, EXPERTS)
    slot = tl.arange(0, PER_TOKEN)
    left = tl.load(logits + row * EXPERTS + expert).to(tl.float32)
    best = tl.full([PER_TOKEN], float("-inf"), tl.float32)
    winner = tl.zeros([PER_TOKEN], tl.int32)
    for i in tl.static_range(PER_TOKEN):
        highest = tl.max(left, 0)
        which = tl.argmax(left, 0)
        best = tl.where(slot == i, highest, best)
        winner = tl.where(slot == i, which, winner)
        left = tl.where(expert == which, float("-inf"), left)
    share = tl.exp(best - tl.max(best, 0))
    tl.store(weights + row * PER_TOKEN + slot, share / tl.sum(share, 0))
    tl.store(chosen + row * PER_TOKEN + slot, winner)


@triton.jit
def find_pairs(chosen, pairs, PAIRS: tl.constexpr, LEADERS: tl.constexpr):
    """The (row, choice) pairs, which of them are of this program's expert, each one's place among those, and how many they are.

    The programs are the experts; with LEADERS the pairs, where the first one of an expert works for all, and nobody starts for
    experts that were not chosen.
    """
    pair = tl.arange(0, PAIRS)
    experts = tl.load(chosen + pair, mask=pair < pairs, other=-1)
    expert = tl.program_id(0)
    if LEADERS:
        expert = tl.load(chosen + expert)
    mine = (experts == expert).to(tl.int32)
    count = tl.sum(mine, 0)
    if LEADERS:
        first = tl.min(tl.where(mine != 0, pair, PAIRS), 0)
        count = tl.where(first == tl.program_id(0), count, 0)
    return expert, pair, mine, tl.cumsum(mine, 0) - 1, count


@triton.jit
def pick_pairs(pair, mine, place, first, ROWS: tl.constexpr):
    """The pairs at places first .. first + ROWS - 1 of an expert; 0 where there is none."""
    wanted = first + tl.arange(0, ROWS)
    hit = (mine[None, :] != 0) & (place[None, :] == wanted[:, None])
    return tl.sum(tl.where(hit, pair[None, :], 0), 1)


@triton.jit(do_not_specialize=["pairs"])
def experts_up_kernel(x, chosen, gate_up, inner, pairs, width, HIDDEN: tl.constexpr, PER_TOKEN: tl.constexpr, PAIRS: tl.constexpr,
                      LEADERS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    """inner[pair] = silu(x[row] gate) * (x[row] up) for all pairs of one expert, BLOCK columns of it."""
    expert, pair, mine, place, count = find_pairs(chosen, pairs, PAIRS, LEADERS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    deep = tl.arange(0, DEPTH)
    weights = gate_up + (expert.to(tl.int64) * 2 * width + column[None, :]) * HIDDEN + deep[:, None]
    for first in range(0, count, ROWS):
        taken = pick_pairs(pair, mine, place, first, ROWS)
        live = first + tl.arange(0, ROWS) < count
        rows = x + (taken // PER_TOKEN)[:, None] * HIDDEN + deep[None, :]
        gate = tl.zeros([ROWS, BLOCK], tl.float32)
        up = tl.zeros([ROWS, BLOCK], tl.float32)
        for depth in range(0, HIDDEN, DEPTH):
            a = tl.load(rows + depth, mask=live[:, None], other=0.0)
            gate = tl.dot(a, tl.load(weights + depth, mask=inside[None, :], other=0.0), gate)
            up = tl.dot(a, tl.load(weights + width * HIDDEN + depth, mask=inside[None, :], other=0.0), up)
        # Products are rounded as a matrix product of its own would round them.
        gate = gate.to(inner.dtype.element_ty).to(tl.float32)
        up = up.to(inner.dtype.element_ty).to(tl.float32)
        tl.store(inner + taken[:, None] * width + column[None, :], (gate * tl.sigmoid(gate) * up).to(inner.dtype.element_ty),
                 mask=live[:, None] & inside[None, :])


@triton.jit(do_not_specialize=["pairs"])
def experts_down_kernel(inner, chosen, shares, down, each, pairs, width, HIDDEN: tl.constexpr, PAIRS: tl.constexpr,
                        LEADERS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    """each[pair] = share[pair] * (inner[pair] down), f32, for all pairs of one expert, BLOCK columns of it."""
    expert, pair, mine, place, count = find_pairs(chosen, pairs, PAIRS, LEADERS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    deep = tl.arange(0, DEPTH)
    weights = down + (expert.to(tl.int64) * HIDDEN + column[None, :]) * width + deep[:, None]
    for first in range(0, count, ROWS):
        taken = pick_pairs(pair, mine, place, first, ROWS)
        live = first + tl.arange(0, ROWS) < count
        total = tl.zeros([ROWS, BLOCK], tl.float32)
        for depth in range(0, width, DEPTH):
            within = depth + deep < width
            a = tl.load(inner + taken[:, None] * width + depth + deep[None, :], mask=live[:, None] & within[None, :], other=0.0)
            total = tl.dot(a, tl.load(weights + depth, mask=within[:, None], other=0.0), total)
        share = tl.load(shares + taken, mask=live, other=0.0)
        total = total.to(inner.dtype.element_ty).to(tl.float32) * share[:, None]
        tl.store(each + taken[:, None] * HIDDEN + column[None, :], total, mask=live[:, None])


@triton.jit
def sum_kernel(each, out, WIDTH: tl.constexpr, PER_TOKEN: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    choice = tl.arange(0, PER_TOKEN)
    inside = column < WIDTH
    parts = tl.load(each + (row * PER_TOKEN + choice)[:, None] * WIDTH + column[None, :], mask=inside[None, :], other=0.0)
    tl.store(out + row * WIDTH + column, tl.sum(parts, 0).to(out.dtype.element_ty), mask=inside)


class Fused:
    """As model.Plain."""

    @staticmethod
    def add_norm(x, delta, weight, epsilon):
        out = torch.empty_like(x)
        add_norm_kernel[(x.shape[0],)](x, delta if delta is not None else x, weight, out, epsilon, WIDTH=x.shape[1],
                                       BLOCK=triton.next_power_of_2(x.shape[1]), ADD=delta is not None, num_warps=8)
        return out

    @staticmethod
    def rope_and_store(qkv, norms, epsilon, rotation, positions, heads, keys, values):
        rows, (_, context, kv_heads, dim) = qkv.shape[0], keys.shape
        query = torch.empty(rows, heads * dim, dtype=qkv.dtype, device=qkv.device)
        query_norm, key_norm = norms if norms is not None else (qkv, qkv)
        rope_kernel[(rows, heads + 2 * kv_heads)](qkv, query_norm, key_norm, rotation, positions, query, keys, values, epsilon,
                                                  context, HEADS=heads, KV_HEADS=kv_heads, DIM=dim, NORM=norms is not None,
                                                  num_warps=1)
        return query

    @staticmethod
    def silu_multiply(gate_up):
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        out = torch.empty(rows, width, dtype=gate_up.dtype, device=gate_up.device)
        silu_kernel[(rows, triton.cdiv(width, 1024))](gate_up, out, width, BLOCK=1024)
        return out

    @staticmethod
    def route(logits, per_token):
        rows, experts = logits.shape
        chosen = torch.empty(rows, per_token, dtype=torch.int32, device=logits.device)
        weights = torch.empty(rows, per_token, dtype=torch.float32, device=logits.device)
        route_kernel[(rows,)](logits, chosen, weights, EXPERTS=experts, PER_TOKEN=per_token, num_warps=1)
        return chosen, weights

    @staticmethod
    def experts(x, chosen, weights, gate_up, down, out):
        (rows, hidden), per_token, (experts, width) = x.shape, chosen.shape[1], (gate_up.shape[0], gate_up.shape[1] // 2)
        pairs = rows * per_token
        inner = torch.empty(pairs, width, dtype=x.dtype, device=x.device)
        each = torch.empty(pairs, hidden, dtype=torch.float32, device=x.device)
        # Few pairs are few experts: narrow blocks then keep more of the GPU busy.
        few = pairs <= 128
        block, places = (16, 128) if few else (32, triton.next_power_of_2(pairs))
        programs = pairs if few else experts
        experts_up_kernel[(programs, triton.cdiv(width, block))](
            x, chosen, gate_up, inner, pairs, width, HIDDEN=hidden, PER_TOKEN=per_token, PAIRS=places, LEADERS=few, ROWS=16,
            BLOCK=block, DEPTH=min(128, hidden), num_stages=4)
        block = min(64, hidden)
        experts_down_kernel[(programs, hidden // block)](
            inner, chosen, weights, down, each, pairs, width, HIDDEN=hidden, PAIRS=places, LEADERS=few, ROWS=16, BLOCK=block,
            DEPTH=32, num_stages=4)
        sum_kernel[(rows, triton.cdiv(hidden, 512))](each, out, WIDTH=hidden, PER_TOKEN=per_token, BLOCK=512)
