"""The network's layers by name, and their weights."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

CONVS_PER_BLOCK = (2, 2, 4, 4, 4)  # VGG19
LAYERS = tuple(
    f"relu{block}_{conv}"
    for block, count in enumerate(CONVS_PER_BLOCK, start=1)
    for conv in range(1, count + 1)
)
# As the report counts: a block's style is read at its first layer, its content at the second.
STYLE_CONV, CONTENT_CONV = 1, 2
DEFAULT_STYLE_LAYERS = tuple(f"relu{block}_{STYLE_CONV}" for block in range(1, 6))
# A layer's weight makes up for its energy: what `effective` in a manifest names, from layers 1e7
# apart, has to be accepted as a spec.
LAYER_WEIGHT_MIN, LAYER_WEIGHT_MAX = 1e-9, 1e6
LayerWeight = Annotated[float, Field(ge=LAYER_WEIGHT_MIN, le=LAYER_WEIGHT_MAX)]
LayerWeights = dict[str, LayerWeight]
SomeWeights = Annotated[LayerWeights, Field(min_length=1)]
SomeNames = Annotated[list[str], Field(min_length=1)]


def layer_name(name: str, *, conv_of_block: int) -> str:
    """The one name of a layer: `conv4_2` and `relu4_2` are the same, `block4` is its usual layer.

    Raises ValueError that lists what is accepted.
    """
    canonical = re.sub(r"^conv", "relu", name.strip().lower())
    if block := re.fullmatch(r"block([1-5])", canonical):
        canonical = f"relu{block[1]}_{conv_of_block}"
    if canonical not in LAYERS:
        raise ValueError(
            f"no layer is called {name!r}; accepted: {LAYERS[0]} to {LAYERS[-1]}"
            f" ({', '.join(LAYERS)}), the same as conv..., or block1 to block5"
        )
    return canonical


def _weights(conv_of_block: int, accepted: Any) -> BeforeValidator:
    """Accepts {name: weight} or [name, ...] (equal weights that add up to 1).

    accepted: the type of either, for the schema.
    """

    def canonical(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            named = [(name, 1 / len(value)) for name in value]
        elif isinstance(value, dict):
            named = list(value.items())
        else:
            return value
        found: dict[str, Any] = {}
        for name, weight in named:
            layer = layer_name(str(name), conv_of_block=conv_of_block)
            if layer in found:
                raise ValueError(f"{layer} is named twice")
            found[layer] = weight
        return found

    return BeforeValidator(canonical, json_schema_input_type=accepted)


def _in_network_order(layers: LayerWeights) -> LayerWeights:
    return {name: layers[name] for name in LAYERS if name in layers}


ContentLayers = Annotated[
    LayerWeights,
    _weights(CONTENT_CONV, LayerWeights | list[str]),
    AfterValidator(_in_network_order),
]
StyleLayers = Annotated[
    SomeWeights,
    _weights(STYLE_CONV, SomeWeights | SomeNames),
    AfterValidator(_in_network_order),
]
