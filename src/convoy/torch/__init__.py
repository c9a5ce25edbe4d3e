"""What a trainer written with PyTorch needs: modules, optimisers, Lightning, transformers, LoRA, several processes."""

from convoy.torch.modules import arrays, load
from convoy.torch.processes import launch
from convoy.torch.states import keep, restore

__all__ = ["arrays", "keep", "launch", "load", "restore"]
