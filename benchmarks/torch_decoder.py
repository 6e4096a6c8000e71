"""GPT-2 and Llama in plain PyTorch, the peer of benchmarks/accelerator.py.

The sizes and the operations are those of lm/models/decoder.py, without dropout.
"""

import torch
from torch import nn
from torch.nn import functional as F


class Decoder(nn.Module):
  """Decoder of GPT-2 (learned positions, LayerNorm, GELU, biases, tied) or Llama."""

  def __init__(self, *, gpt2, vocab, context, width, layers, heads, ff):
    super().__init__()
    self.embed = nn.Embedding(vocab, width)
    self.places = nn.Embedding(context, width) if gpt2 else None
    blocks = [Block(gpt2=gpt2, width=width, heads=heads, ff=ff) for _ in range(layers)]
    self.blocks = nn.ModuleList(blocks)
    self.norm = norm(gpt2, width)
    self.head = nn.Linear(width, vocab, bias=False)
    if gpt2:
      self.head.weight = self.embed.weight
    nn.init.normal_(self.embed.weight, std=0.02)
    angles_TH = _angles(context, width // heads)
    self.register_buffer("cos_TH", angles_TH.cos(), persistent=False)
    self.register_buffer("sin_TH", angles_TH.sin(), persistent=False)

  def forward(self, tokens_BT):
    T = tokens_BT.shape[1]
    x_BTD = self.embed(tokens_BT)
    if self.places is not None:
      x_BTD = x_BTD + self.places.weight[:T]
    rotary = (self.cos_TH[:T], self.sin_TH[:T]) if self.places is None else None
    for block in self.blocks:
      x_BTD = block(x_BTD, rotary)
    return self.head(self.norm(x_BTD))


class Block(nn.Module):
  """Block of attention and feed-forward, each pre-normed and added to the stream."""

  def __init__(self, *, gpt2, width, heads, ff):
    super().__init__()
    self.gpt2, self.heads = gpt2, heads
    self.attention_norm, self.ff_norm = norm(gpt2, width), norm(gpt2, width)
    self.qkv = nn.Linear(width, 3 * width, bias=gpt2)
    self.out = nn.Linear(width, width, bias=gpt2)
    self.up = nn.Linear(width, ff if gpt2 else 2 * ff, bias=gpt2)
    self.down = nn.Linear(ff, width, bias=gpt2)

  def forward(self, x_BTD, rotary):
    x_BTD = x_BTD + self.attend(self.attention_norm(x_BTD), rotary)
    return x_BTD + self.feed(self.ff_norm(x_BTD))

  def attend(self, x_BTD, rotary):
    heads_of = lambda x: x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
    q_BNTH, k_BNTH, v_BNTH = map(heads_of, self.qkv(x_BTD).chunk(3, dim=-1))
    if rotary is not None:
      q_BNTH, k_BNTH = (_rotated(x, *rotary) for x in (q_BNTH, k_BNTH))
    y_BNTH = F.scaled_dot_product_attention(q_BNTH, k_BNTH, v_BNTH, is_causal=True)
    return self.out(y_BNTH.transpose(1, 2).flatten(2))

  def feed(self, x_BTD):
    if self.gpt2:
      return self.down(F.gelu(self.up(x_BTD), approximate="tanh"))
    gate_BTF, up_BTF = self.up(x_BTD).chunk(2, dim=-1)
    return self.down(F.silu(gate_BTF) * up_BTF)


def norm(gpt2: bool, width: int):
  """Returns LayerNorm for GPT-2, RMSNorm for Llama."""
  return nn.LayerNorm(width) if gpt2 else nn.RMSNorm(width, eps=1e-6)


def _angles(context: int, size: int, theta: float = 1e4):
  """Returns rotary angles (arXiv:2104.09864), the same for both halves of H."""
  rates_H = theta ** -(torch.arange(0, size, 2) / size)
  angles_TH = torch.arange(context)[:, None] * rates_H
  return torch.cat([angles_TH, angles_TH], dim=-1)


def _rotated(x_BNTH, cos_TH, sin_TH):
  """Returns x_BNTH rotated by its positions, in Llama's pairs (h, h + H/2)."""
  first, second = x_BNTH.chunk(2, dim=-1)
  rotated_BNTH = torch.cat([-second, first], dim=-1)
  return (x_BNTH * cos_TH + rotated_BNTH * sin_TH).type_as(x_BNTH)
