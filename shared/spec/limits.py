"""What a spec may hold, and what it means where it says nothing."""

from .layers import CONTENT_CONV

SPEC_VERSION = 3  # part of the digest: raise it when the same fields start to mean another picture

SIZE_MIN, SIZE_MAX = 64, 16384  # below 64 px the deepest layers see next to nothing
PICTURE_SIDE_MIN = 8  # of a content or a style, as it came: fewer are a blot of colour
SHORT_SIDE_MIN = 32  # relu5_1 is 16 px a cell: two cells at least
ITERATIONS_MAX = 10_000
STYLES_MAX = 8
STYLE_SIDE_MAX = 4096
WEBP_SIDE_MAX = 16383  # the format has 14 bits for a side
PYRAMID_MAX = 6

SIZE = 512  # px, by default
STRENGTH = 0.5
COARSEST = 128  # px: below, nothing of most photographs can be told
# By strength, from two layers: a face keeps its eyes by the finer one. Judged on twelve pairs.
CONTENT_LAYERS = {"relu3_2": 0.5, "relu4_2": 0.5}
TV_WEIGHT = 0.05
STYLE_WEIGHT = 1600.0  # by default beside a content_weight, at `SIZE`: gentle
# What is left out means this where the weights are named: the report's.
EXACT = {
    "iterations": 200,
    "content_weight": 1.0,
    "content_layers": {f"relu4_{CONTENT_CONV}": 1.0},
    "tv_weight": 0.0,
    "pyramid": 2,
    "pooling": "avg",
    "content_colors": "own",
    "finish": "none",
}
STYLE_WEIGHT_NORMALIZED = 5.0
LEARNING_RATE_MIN = 1e-4
DEFAULT_LEARNING_RATES = {"lbfgs": 1.0, "adam": 10.0}

INTEGER_MAX = 2**53 - 1  # beyond it JavaScript, and other readers of JSON, lose digits
# Smaller shares would be less than a last bit of float32 beside the others, smaller factors would
# underflow in the gradients.
SHARE_MIN = 1e-4
FACTOR_MIN, FACTOR_MAX = 1e-12, 1e12
# How far all steps together must lead for a pixel to change: seen at 48 px, where lbfgs moved none
# at a learning rate of 1e-4 over 10 iterations, and adam none at 0.01. Adam's are grey levels.
REACH_MIN = {"lbfgs": 1e-3, "adam": 0.5}
