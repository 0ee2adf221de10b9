"""From findings to a verdict; and, called, the whole run: ``evalsuite.gate(real, synthetic)``.

The package and the function share a name, as ``evalsuite gate`` is what users type. Importing this
package would replace the function in ``evalsuite``'s namespace, so the module itself is callable.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from ..pipeline.run import gate

        return gate(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
