"""Small ViT super-networks that have what the published ones have."""

import torch

from nas_compress.supernets.vit_config import ViTConfig

SMALL_AUTOFORMER = ViTConfig(
    depths=(1, 2, 3), heads=(1, 2, 3), mlp=(1.5, 2.5), embed_dims=(10, 14), stored_embed=16, head_size=4,
    relative_positions=2, image_size=12, patch_size=3, num_classes=5,
)  # fmt: skip
"""Like the published nets: more features than any sub-network uses, a joint bias, distances that are clipped."""

SMALL_VIT_BASE = ViTConfig(
    depths=(2, 3, 4), heads=(1, 2, 3, 4), mlp=(32, 64, 128), embed_dims=(64,), form="widths", head_size=16,
    relative_positions=None, joint_bias=False, pool="class", eps=1e-12, image_size=32, patch_size=8, num_classes=5,
)  # fmt: skip


def randomize(net, seed=0, scale=0.1):
    """Give every parameter a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
    return net.eval()
