"""Keys and values of each answer in its own buffers, and attention over a batch of such rows.

transformers' caches hold a batch as one padded tensor that is copied at every token. Here each row owns buffers that
never move, so rows join and leave a batch for nothing, need no padding, and a row's attention does not depend on its
neighbours. The function is registered with transformers' attention interface and receives the rows as an extra keyword
of the model's forward.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

NAME = "gateway_rows"
BLOCK = 256
"""Tokens of a prefill step. Fixed, so that a prompt is cut the same way whether its prefix was kept or not."""


Block = dict[int, tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of some tokens, by layer."""


class Row:
    """The keys and values of one sequence: for each layer `[1, heads, capacity, width]`, filled up to `length`.

    `place` is the position that the next token has for the model; images may take fewer positions than tokens. While a
    block is read whose images see themselves in both directions, `groups` numbers its tokens by image, -1 for text.
    """

    __slots__ = ("_buffers", "capacity", "groups", "length", "place")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self.place = 0
        self.groups: torch.Tensor | None = None
        self._buffers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def append(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write `[1, heads, tokens, width]` after `length` and give all keys and values so far. `length` stays."""
        pair = self._buffers.get(layer)
        if pair is None:
            made = [x.new_empty((1, x.shape[1], self.capacity, x.shape[3])) for x in (key, value)]
            pair = self._buffers[layer] = (made[0], made[1])
        end = self.length + key.shape[2]
        pair[0][:, :, self.length : end] = key
        pair[1][:, :, self.length : end] = value
        return pair[0][:, :, :end], pair[1][:, :, :end]

    def read(self, start: int, end: int) -> Block:
        """Copy the tokens `start` to `end` of every layer."""
        return {n: (k[:, :, start:end].clone(), v[:, :, start:end].clone()) for n, (k, v) in self._buffers.items()}

    def extend(self, block: Block, place: int) -> None:
        """Append tokens that `read` gave, after which the next stands at `place`."""
        grown = 0
        for layer, (key, value) in block.items():
            self.append(layer, key, value)
            grown = key.shape[2]
        self.length += grown
        self.place = place


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    *,
    rows: tuple[Row, ...],
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Any = None,
    position_bias: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each row over its own past. `query` is `[rows, heads, tokens, width]`.

    The query heads that share a key head are folded into its query length, so that keys are never repeated.
    """
    if attention_mask is not None or softcap is not None or s_aux is not None or position_bias is not None:
        raise NotImplementedError("this attention has a mask or a bias of its own")
    batch, heads, tokens, width = query.shape
    shared = heads // key.shape[1]
    out = query.new_empty((batch, tokens, heads, value.shape[3]))
    for index, row in enumerate(rows):
        one = slice(index, index + 1)
        keys, values = row.append(module.layer_idx, key[one], value[one])
        first = 0
        if sliding_window is not None and tokens == 1:
            first = max(0, keys.shape[2] - sliding_window)
        folded = query[one].reshape(1, key.shape[1], shared * tokens, width)
        seen = _mask(tokens, keys.shape[2], sliding_window, row.groups, query.device) if tokens > 1 else None
        if seen is not None:
            seen = seen.repeat(shared, 1)
        got = scaled_dot_product_attention(
            folded, keys[:, :, first:], values[:, :, first:], attn_mask=seen, scale=scaling
        )
        out[index] = got.reshape(heads, tokens, value.shape[3]).transpose(0, 1)
    return out, None


def _mask(tokens: int, total: int, window: int | None, groups: torch.Tensor | None, device: Any) -> torch.Tensor:
    """Say which of `total` keys each of the last `tokens` queries may see: `[tokens, total]`, true where it may."""
    queries = torch.arange(total - tokens, total, device=device)[:, None]
    keys = torch.arange(total, device=device)[None, :]
    seen = keys <= queries
    if groups is not None:
        seen[:, total - tokens :] |= (groups[:, None] == groups[None, :]) & (groups[:, None] >= 0)
    return seen if window is None else seen & (queries - keys < window)


def cuts(prompt: int, mark: int, whole: tuple[tuple[int, int], ...] = ()) -> list[int]:
    """Say where the prefill of a prompt of `prompt` tokens is cut: at each block, and after its stable prefix.

    The stretches `whole` (start and end) are not cut; a cut that would is made before them.
    """
    ends = {prompt}
    for end in range(BLOCK, prompt, BLOCK):
        start = next((start for start, stop in whole if start < end < stop), end)
        ends |= {start} - {0}
    if 0 < mark < prompt:
        ends.add(mark)
    return sorted(ends)


class Prefixes:
    """Blocks of prefixes that come again (system turns and demonstrations), newest used last, within `limit` bytes.

    Only what stands before the caller's first own turn is kept, so no question of a caller is. `reused` counts the
    tokens that were not read again.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._blocks: OrderedDict[bytes, tuple[Block, int]] = OrderedDict()
        self.reused = 0

    def load(self, row: Row, name: Callable[[int], bytes], ends: list[int], mark: int) -> None:
        """Fill `row` on with the kept blocks, as far as they go without a gap. `name` names what is read to an end."""
        for end in ends:
            if end <= row.length:
                continue
            key = name(end) if end <= mark else b""
            found = self._blocks.get(key)
            if found is None:
                return
            self._blocks.move_to_end(key)
            row.extend(*found)
            self.reused += next(iter(found[0].values()))[0].shape[2]

    def keep(self, row: Row, name: bytes, start: int, end: int) -> None:
        """Keep the block from `start` to `end` of `row`, its newest; the oldest leave where the limit is passed."""
        if name in self._blocks:
            return
        block = row.read(start, end)
        self._blocks[name] = (block, row.place)
        self._bytes += _size(block)
        while self._bytes > self._limit and self._blocks:
            self._bytes -= _size(self._blocks.popitem(last=False)[1][0])

    def clear(self) -> None:
        """Forget all."""
        self._blocks.clear()
        self._bytes = 0


def _size(block: Block) -> int:
    return sum(x.numel() * x.element_size() for pair in block.values() for x in pair)
