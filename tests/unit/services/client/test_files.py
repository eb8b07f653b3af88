import os
import stat
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from impasto.services.client import files
from impasto.shared.errors import InvalidRequest
from tests.arrange.pictures import encode, paint

PNG = paint(1)


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.png", "PNG"), ("a.jpg", "JPEG"), ("A.JPEG", "JPEG"), ("a.b.webp", "WEBP")],
)
def test_the_suffix_decides_the_format(tmp_path: Path, name: str, format: str) -> None:
    files.write_picture(tmp_path / name, PNG)
    with Image.open(tmp_path / name) as picture:
        assert (picture.format, picture.size) == (format, (48, 36))


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "PNG"), ("a.jpg", "JPEG"), ("a.webp", "WEBP")]
)
def test_a_picture_of_the_suffixs_format_stays_as_the_server_sent_it(
    tmp_path: Path, name: str, kind: str
) -> None:
    data = paint(1, kind)
    files.write_picture(tmp_path / name, data)
    assert (tmp_path / name).read_bytes() == data


def test_what_is_transparent_stays_so_but_in_a_jpeg_where_it_lies_on_white(tmp_path: Path) -> None:
    invisible = encode(Image.new("RGBA", (48, 36), (200, 30, 30, 0)), "PNG")
    for name in ("a.webp", "a.jpg"):
        files.write_picture(tmp_path / name, invisible)
    with Image.open(tmp_path / "a.webp") as webp, Image.open(tmp_path / "a.jpg") as jpeg:
        assert webp.getchannel("A").getextrema() == (0, 0)
        assert jpeg.getextrema() == ((255, 255),) * 3


def test_what_was_there_stays_until_all_of_the_new_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    seen = os.open(path, os.O_RDONLY)
    files.write(path, b"new")
    assert os.read(seen, 10) == b"old"
    os.close(seen)
    assert path.read_bytes() == b"new"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="cannot identify"):
        files.write_picture(path, b"no picture")
    folder = tmp_path / "b.png"
    folder.mkdir()
    with pytest.raises(OSError, match=r"b\.png"):
        files.write(folder, b"new")
    assert {item.name for item in tmp_path.iterdir()} == {"a.jpg", "b.png"}
    assert path.read_bytes() == b"old"


def test_a_link_leads_to_the_file_that_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    files.write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    files.write(tmp_path / "ours", b"")
    (tmp_path / "usual").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "usual")}
    assert len(modes) == 1


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    files.check_picture(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_written_is_known_before(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(FileNotFoundError) as missing:
        files.check_picture(tmp_path / "missing" / "a.png")
    assert missing.value.filename == str(tmp_path / "missing" / "a.png")
    with pytest.raises(NotADirectoryError):
        files.check_picture(tmp_path / "file" / "a.png")
    with pytest.raises(IsADirectoryError):
        files.check_picture(tmp_path / "folder.png")
    with pytest.raises(InvalidRequest, match=r"a\.bmp: accepted: .*\.png"):
        files.check_picture(tmp_path / "a.bmp")


def test_a_converted_picture_looks_the_same(tmp_path: Path) -> None:
    with Image.open(BytesIO(PNG)) as picture:
        smooth = picture.resize((12, 9)).resize((48, 36), Image.Resampling.BICUBIC)
    file = BytesIO()
    smooth.save(file, "PNG")
    files.write_picture(tmp_path / "a.webp", file.getvalue())
    with Image.open(tmp_path / "a.webp") as written:
        pairs = zip(written.convert("RGB").tobytes(), smooth.tobytes(), strict=True)
        differences = [abs(a - b) for a, b in pairs]
    assert sum(differences) / len(differences) < 4
