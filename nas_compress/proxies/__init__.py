"""Zero-cost scores: what a network at initialisation says of how well it will be once trained.

Each is a plain function of any `nn.Module`, which it leaves as it was: parameters, buffers, modes, gradients, hooks.
"""

from __future__ import annotations

from nas_compress.proxies.scoring import Proxy, proxies, score

__all__ = ["Proxy", "proxies", "score"]
