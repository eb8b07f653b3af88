import math
from io import BytesIO
from itertools import pairwise

import pytest
from PIL import Image, ImageColor

from impasto.services.client import report
from tests.arrange.pictures import encode, paint

SPEC = {"content_weight": 2.0, "style_weight": 1000.0, "tv_weight": 0.0}
HEADER = "iteration,total,content,style,tv,seconds\n"


def history(iterations: int) -> str:
    rows = []
    for i in range(iterations + 1):
        content, style = 5e3 * (1 - math.exp(-i / 9)), 40 + 900 * math.exp(-i / 12)
        rows.append(f"{i},{2 * content + 1000 * style},{content},{style},7,0.1")
    return HEADER + "\n".join(rows)


def pixels(image: Image.Image, color: str) -> set[tuple[int, int]]:
    """Where the image has exactly this color."""
    wanted, access = ImageColor.getrgb(color), image.load()
    width, height = image.size
    return {(x, y) for x in range(width) for y in range(height) if access[x, y] == wanted}


def test_a_part_carries_its_factor_and_is_left_out_without_one() -> None:
    total, content, style = report.curves(history(3), SPEC)
    assert [total.name, content.name, style.name] == ["total", "2 · content", "1000 · style"]
    for (iteration, loss), (_, styled) in zip(total.points[1:], style.points[1:], strict=True):
        weighted = dict(content.points)[iteration]
        assert loss == pytest.approx(weighted + styled)


def test_what_starts_at_0_starts_at_the_lower_edge() -> None:
    """Where no logarithm is, and none of the way there is left out."""
    _, content, _ = curves = report.curves(history(30), SPEC)
    assert content.points[0] == (0, 0.0)
    blue = pixels(report.plot(curves), content.color)
    lowest = max(blue, key=lambda at: at[1])
    assert report.LEFT <= lowest[0] <= report.LEFT + 6
    assert abs(lowest[1] - report.BOTTOM) <= 2


SIZES = {(32, 24): 250.0, (64, 48): 1000.0}  # with the style weight that each has


def pyramid(iterations: int = 10) -> str:
    """The same at two sizes; content is a sum over positions, and starts at 0 again."""
    rows = []
    for level, ((width, height), weight) in enumerate(SIZES.items()):
        for i in range(iterations):
            content, style = 5 * width * height * (i > 0), 40 + 900 * math.exp(-i / 12)
            numbers = level * iterations + i, 2 * content + weight * style, content, style, 7, 0.1
            rows.append(",".join(map(str, (*numbers, level + 1, width, height, weight))))
    header = "iteration,total,content,style,tv,seconds,level,width,height,style_weight\n"
    return header + "\n".join(rows)


def test_each_size_is_shown_by_its_own_weights() -> None:
    """None of the parts stands above the total, whose sum they are."""
    total, content, style = report.curves(pyramid(), SPEC)
    assert style.name == "1000 · style"
    for (_, whole), (_, one), (_, other) in zip(
        total.points, content.points, style.points, strict=True
    ):
        assert whole == pytest.approx(one + other)


def test_a_line_stands_before_each_size_but_the_first_and_each_is_named() -> None:
    losses = pyramid()
    spans = report.spans(losses)
    assert [tuple(vars(span).values()) for span in spans] == [
        ("32 x 24 px", 0, 9),
        ("64 x 48 px", 10, 19),
    ]
    curves = report.curves(losses, SPEC)
    marked, plain = report.plot(curves, spans), report.plot(curves)
    middle = report.LEFT + (report.RIGHT - report.LEFT) * 9.5 / 19
    column = [marked.getpixel((round(middle), y)) for y in range(report.TOP, report.BOTTOM)]
    grey = [one for one in column if one != ImageColor.getrgb(report.PAPER)]
    assert len(grey) > 0.95 * len(column)
    names = (report.LEFT, report.TOP - 10, report.RIGHT, report.TOP + 16)
    assert len(marked.crop(names).getcolors(1 << 20)) > len(plain.crop(names).getcolors(1 << 20))


def test_no_curve_leads_from_one_size_to_the_next() -> None:
    losses = pyramid()
    curves = report.curves(losses, SPEC)
    image = report.plot(curves, report.spans(losses))
    step = (report.RIGHT - report.LEFT) / 19
    between = range(round(report.LEFT + 9.2 * step), round(report.LEFT + 9.8 * step))
    assert not [x for curve in curves for x, _ in pixels(image, curve.color) if x in between]


def test_a_history_that_tells_no_sizes_is_read_too() -> None:
    """Of a service before this one."""
    assert report.spans(history(3)) == []


def test_names_of_sizes_that_would_touch_are_staggered() -> None:
    assert report._rows_apart([(100, 80), (122, 90), (144, 90), (900, 90)]) == [0, 1, 2, 0]


def test_the_plot_falls_where_the_loss_falls() -> None:
    curves = report.curves(history(60), SPEC)
    image = report.plot(curves)
    assert image.size == (report.PLOT_WIDTH, report.PLOT_HEIGHT)
    frame = image.crop((report.LEFT, report.TOP, report.RIGHT, report.BOTTOM))
    total = pixels(frame, curves[0].color)
    heights = [min(y for x, y in total if x == column) for column in (50, 300, 600)]
    assert heights == sorted(heights)
    assert heights[-1] > heights[0] + 50


def test_the_scale_is_logarithmic() -> None:
    losses = HEADER + "\n".join(f"{i},{10.0**-i},0,0,0,0" for i in range(5))
    [total] = report.curves(losses, SPEC)
    image = report.plot([total])
    frame = image.crop((report.LEFT, report.TOP, report.RIGHT - 4, report.BOTTOM - 4))
    line = pixels(frame, total.color)
    heights = [
        sum(y for x, y in line if x == column) / sum(x == column for x, _ in line)
        for column in (111, 333, 555, 777)
    ]
    steps = [below - above for above, below in pairwise(heights)]
    assert max(steps) - min(steps) < 3  # powers of ten lie on a straight line


@pytest.mark.parametrize(
    "losses",
    [
        HEADER + "0,5,0,0.005,0,0",
        HEADER + "0,5,0,0.005,0,0\n1,5,0,0.005,0,0",
        HEADER + "0,1e12,1e-30,1e9,0,0\n10000,1e11,1,1e8,0,0",
        HEADER + "0,0,0,0,0,0\n1,0,0,0,0,0",
    ],
    ids=["one point", "no change", "thirty decades", "nothing to lose"],
)
def test_odd_histories_are_plotted_too(losses: str) -> None:
    curves = report.curves(losses, SPEC)
    colors = {color for _, color in report.plot(curves).getcolors(1 << 20)}
    assert ImageColor.getrgb(report.INK) in colors


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (5, 2e5, [10, 100, 1e3, 1e4, 1e5]),
        (80, 1500, [100, 200, 500, 1000]),
        (1.5, 4.5, [2, 3, 4]),
        (0.004, 4, [0.01, 0.03, 0.1, 0.3, 1, 3]),
    ],
)
def test_ticks_are_round_and_enough(low: float, high: float, ticks: list[float]) -> None:
    assert report._logarithmic_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("last", "ticks"), [(1, [0, 1]), (12, [0, 5, 10]), (150, [0, 50, 100, 150])]
)
def test_iterations_are_ticked_by_round_numbers(last: int, ticks: list[int]) -> None:
    assert list(report._ticks(last)) == ticks


def test_names_that_would_touch_move_apart() -> None:
    assert report._apart([100, 90, 300], 28) == [118, 90, 300]


@pytest.mark.parametrize(
    ("value", "text"), [(0.01, "0.01"), (200, "200"), (5e3, "5k"), (3e11, "300G"), (1e13, "10T")]
)
def test_large_losses_are_written_short(value: float, text: str) -> None:
    assert report._short(value) == text


def test_a_strip_shows_each_picture_once_in_order() -> None:
    colors = ["#ff0000", "#00ff00", "#0000ff"]
    pictures = {
        str(10 * i): encode(Image.new("RGB", (64, 48), color), "PNG")
        for i, color in enumerate(colors)
    }
    image = report.strip(pictures)
    middle = [image.getpixel((x, report.STRIP_HEIGHT // 2)) for x in range(image.width)]
    seen = [color for color in dict.fromkeys(middle) if color in map(ImageColor.getrgb, colors)]
    assert seen == [ImageColor.getrgb(color) for color in colors]


def test_what_is_transparent_lies_on_white_in_a_strip() -> None:
    invisible = encode(Image.new("RGBA", (64, 48), (200, 30, 30, 0)), "PNG")
    image = report.strip({"1": invisible})
    assert image.getpixel((image.width // 2, report.STRIP_HEIGHT // 2)) == (255, 255, 255)


def test_pictures_of_a_strip_have_one_height_and_keep_their_proportions() -> None:
    one = report.strip({"1": paint(1, size=(100, 50))}).width
    two = report.strip({"1": paint(1, size=(100, 50)), "2": paint(2, size=(50, 100))}).width
    gap = one - 2 * report.STRIP_HEIGHT
    assert two - one == report.STRIP_HEIGHT // 2 + gap // 2


def test_a_long_way_is_shown_by_a_few_pictures_from_first_to_last() -> None:
    assert report._spread(list(range(0, 1001, 10)), 5) == [0, 250, 500, 750, 1000]
    assert report._spread([1, 2, 3], 5) == [1, 2, 3]
    assert report._spread([], 5) == []


def test_a_written_report_is_a_png() -> None:
    with Image.open(BytesIO(report._png(Image.new("RGB", (8, 8))))) as picture:
        assert picture.format == "PNG"
