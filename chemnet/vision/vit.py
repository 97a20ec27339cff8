"""Vision transformer for small images.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale" (ICLR 2021);
the mean over the patches in place of a class token by Beyer, Zhai, Kolesnikov, "Better plain ViT baselines for
ImageNet-1k" (2022).
"""

from __future__ import annotations

import torch
from torch import nn

from chemnet.runtime.errors import UsageError


class VisionTransformer(nn.Module):
    """(n, 3, side, side) -> (n, num_classes) logits; 1,205,642 parameters with the defaults.

    Patches of `patch` x `patch` pixels become vectors of `width`, to which learned positions are added; `depth` blocks
    follow, of attention with `heads` and of a feed-forward part with `expansion` times the width. Weights begin by a
    normal distribution of 0.02. Raises UsageError for a side or a width that is no multiple of the patch or the heads.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        side: int = 32,
        patch: int = 4,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
        expansion: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if side % patch or width % heads:
            raise UsageError(
                f"a transformer needs a side ({side}) of whole patches ({patch}) and heads ({heads}) of one width"
            )
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.positions = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2, width))
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, expansion) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (n, num_classes) of images (n, 3, side, side)."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.dropout(self.norm(self.blocks(x)).mean(1)))


class TransformerBlock(nn.Module):
    """Block of attention and a feed-forward part, each behind a LayerNorm and beside a skip."""

    def __init__(self, width: int, heads: int, expansion: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, tokens, width) -> (n, tokens, width)."""
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class Attention(nn.Module):
    """Self-attention of several heads: (n, tokens, width) -> (n, tokens, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, tokens, width) -> (n, tokens, width)."""
        query, key, value = (
            each(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))


def hidden_layers(network: VisionTransformer) -> dict[str, str]:
    """Modules with the hidden neurons of the feed-forward parts, by the number of the block from 1."""
    return {f"block {number + 1}": f"blocks.{number}.feed_forward.0" for number in range(len(network.blocks))}
