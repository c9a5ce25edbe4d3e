"""Models as they come out of a blob."""

from convoy.model import arrays, blob
from convoy.model.arrays import Model


def as_blob(model) -> Model:
    """Return the model as it comes out of a blob, with the digest of each tensor."""
    layout = blob.build(arrays.describe(model))
    return arrays.views(layout, layout.header + b"".join(arrays.raw(model[it.name]) for it in layout.tensors))
