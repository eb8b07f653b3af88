"""The table of legal moves."""

from impasto.shared.states import MOVES, TERMINAL, State


def test_the_moves_are_those_of_the_design() -> None:
    designed = {
        "queued": {"running", "cancelled", "failed"},
        "running": {"queued", "succeeded", "failed", "cancelled"},
        "succeeded": set(),
        "failed": set(),
        "cancelled": set(),
    }

    assert designed == MOVES


def test_a_state_is_terminal_if_nothing_leads_out_of_it() -> None:
    assert {"succeeded", "failed", "cancelled"} == TERMINAL


def test_every_state_but_the_first_can_be_reached() -> None:
    reached = {State.QUEUED}
    for _ in State:
        reached = reached.union(*(MOVES[state] for state in reached))

    assert reached == set(State) == set(MOVES)
