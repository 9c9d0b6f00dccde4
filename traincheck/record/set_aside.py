"""Frozen parts of a model that were put into evaluation mode, and that ``model.train()`` took out of it again."""

from __future__ import annotations

from torch.nn import Module
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from traincheck.record.by_identity import ByIdentity
from traincheck.record.models import Models
from traincheck.values import Value


class SetAside:
    """The modules that were put into evaluation mode themselves, rather than with what contains them."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._modules: ByIdentity[bool] = ByIdentity()
        """With the mode that was chosen for each."""

    def switched(self, module: Module, *, training: bool) -> None:
        """The mode of ``module`` was chosen."""
        if not training or module in self._modules:
            self._modules[module] = training

    def awake(self, root: Module) -> dict[str, Value]:
        """Whether such parts of ``root``, frozen and with a mode that matters, run in training mode all the same."""
        chosen = [module for module, training in self._modules.items() if not training and module is not root]
        parts = [module for module in chosen if self._models.root(module) is root and _rests(module)]
        awake = [self._models.path(part) for part in parts if part.training]
        return {"awake": bool(awake), "awake_parts": ", ".join(awake[:1])} if parts else {}


def _rests(module: Module) -> bool:
    frozen = [not param.requires_grad for param in module.parameters()]
    return all(frozen) and bool(frozen) and any(isinstance(part, (_NormBase, _DropoutNd)) for part in module.modules())
