"""What a checkpoint's file holds, and when it is gone on from."""

import dataclasses

import pytest
import torch

from impasto.workers import checkpoints
from impasto.workers.checkpoints import Provenance, Saved, Unusable
from impasto.workers.engine.objective.balance import Factors
from impasto.workers.engine.objective.objective import Losses
from impasto.workers.engine.render.pyramid import Level
from impasto.workers.engine.render.render import Progress

PROVENANCE = Provenance("spec", "weights", {"device": "cpu", "precision": "float32", "threads": 2})
STATE = {
    "iteration": torch.tensor(1),
    "patient_since": torch.tensor([1 / 3, 1.0], dtype=torch.float64),
    "image": torch.rand(2, 3, 4, 5)[1:],  # a part of a larger one, as after a shared pass
    "optimizer.s": torch.rand(3, 4).mT,  # not contiguous
}
LOSSES = Losses(1 / 3, 0.1, 1e-300, 7.0)
HISTORY = [
    Progress(
        i,
        9,
        LOSSES,
        0.1 * i,
        0,
        LOSSES._replace(total=1 / 3 + i),
        Level(1, 30, 20, Factors(1.0, 1 / 7, 0.1)),
    )
    for i in range(2)
]
SAVED = Saved(STATE, HISTORY, PROVENANCE)


def test_a_state_comes_back_to_the_bit() -> None:
    found = checkpoints.decode(checkpoints.encode(SAVED), iterations=9)

    assert found.state.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert torch.equal(found.state[name], tensor)
        assert found.state[name].dtype == tensor.dtype
    assert (found.history, found.provenance, found.iteration) == (HISTORY, PROVENANCE, 1)


@pytest.mark.parametrize(
    "data", [b"", b"{}" * 9, checkpoints.encode(SAVED)[:-1], checkpoints.encode(SAVED)[:99]]
)
def test_a_file_that_is_not_whole_is_unusable(data: bytes) -> None:
    with pytest.raises(Unusable):
        checkpoints.decode(data, iterations=9)


def test_a_file_of_another_format_is_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    data = checkpoints.encode(SAVED)
    monkeypatch.setattr(checkpoints, "_FORMAT", 99)

    with pytest.raises(Unusable, match=r"its format is \d+, accepted: 99"):
        checkpoints.decode(data, iterations=9)


@pytest.mark.parametrize("name", ["spec_digest", "weights_digest"])
def test_a_state_of_another_picture_is_unusable(name: str) -> None:
    with pytest.raises(Unusable, match=name):
        PROVENANCE.after(dataclasses.replace(PROVENANCE, **{name: "other"}))


def test_only_the_same_place_goes_on_exactly_and_only_from_what_is_exact() -> None:
    elsewhere = dataclasses.replace(PROVENANCE, place={**PROVENANCE.place, "threads": 4})

    on_gpu = dataclasses.replace(PROVENANCE, place={**PROVENANCE.place, "device": "cuda"})

    assert PROVENANCE.after(PROVENANCE).continuation == "exact"
    assert on_gpu.after(on_gpu).continuation == "approximate"
    assert PROVENANCE.after(elsewhere).continuation == "approximate"
    assert elsewhere.after(PROVENANCE.after(elsewhere)).continuation == "approximate"
    assert PROVENANCE.after(PROVENANCE.after(elsewhere)).continuation == "approximate"
