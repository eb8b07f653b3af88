"""What an attempt remembers of itself."""

from impasto.shared.states import Phase
from impasto.workers.engine.objective.balance import Factors
from impasto.workers.engine.objective.objective import Losses
from impasto.workers.engine.render.pyramid import Level
from impasto.workers.engine.render.render import Progress
from impasto.workers.loss_history import LossHistory
from tests.arrange.timing import StoppedClock


def entry(iteration: int, total: float = 6.0) -> Progress:
    """Its picture is that of iteration 0, whose total was 5."""
    evaluated, pictured = (Losses(each, 1.0, 2.0, 3.0) for each in (total, 5.0))
    level = Level(2, 60, 80, Factors(1.0, 7.5, 0.5))
    return Progress(iteration, 3, pictured, 0.25, 0, evaluated, level)


def test_before_the_first_entry_there_is_only_a_phase() -> None:
    assert LossHistory().progress(Phase.LOADING).iteration == 0
    assert LossHistory().progress(Phase.LOADING).loss is None


def test_the_pace_is_that_of_the_last_reports() -> None:
    clock = StoppedClock()
    history = LossHistory(clock=clock)
    rates = []
    for iteration in range(4):
        clock.seconds = iteration * 0.5
        history.enter(entry(iteration))
        rates.append(history.progress(Phase.RENDERING).it_per_s)

    assert rates == [None, 2.0, 2.0, 2.0]


def test_a_report_without_a_new_iteration_is_the_same_report() -> None:
    clock = StoppedClock()
    history = LossHistory(clock=clock)
    for iteration in range(2):
        clock.seconds += 1
        history.enter(entry(iteration))
        before = history.progress(Phase.RENDERING)
    clock.seconds += 100

    assert history.progress(Phase.RENDERING) == before


def test_the_history_has_a_line_for_each_iteration() -> None:
    history = LossHistory()
    for iteration in range(4):
        history.enter(entry(iteration, total=10.0 - iteration))

    assert history.csv().decode().splitlines() == [
        "iteration,total,content,style,tv,seconds,level,width,height,content_weight,style_weight,tv_weight",
        "0,10.0,1.0,2.0,3.0,0.2500,2,80,60,1.0,7.5,0.5",
        "1,9.0,1.0,2.0,3.0,0.2500,2,80,60,1.0,7.5,0.5",
        "2,8.0,1.0,2.0,3.0,0.2500,2,80,60,1.0,7.5,0.5",
        "3,7.0,1.0,2.0,3.0,0.2500,2,80,60,1.0,7.5,0.5",
    ]


def test_the_loss_is_that_of_the_picture_and_not_of_what_was_tried_last() -> None:
    history = LossHistory()
    for iteration in range(3):
        history.enter(entry(iteration, total=9.0))

    assert history.losses()["total"] == 5.0
    assert history.progress(Phase.RENDERING).loss == history.losses()
    assert history.best == 0


def test_the_first_and_the_last_iteration_are_timed() -> None:
    history = LossHistory()
    for iteration in range(4):
        history.enter(entry(iteration))

    assert history.times["began_at"] < history.times["ended_at"]


def test_a_journal_goes_on_from_the_history_of_an_earlier_attempt() -> None:
    history = LossHistory([entry(0), entry(1)])
    history.enter(entry(1))  # restored where it was
    history.enter(entry(2))

    assert [each.iteration for each in history.until(9)] == [0, 1, 2]
    assert [each.iteration for each in history.until(1)] == [0, 1]
    assert history.times["began_at"] < history.times["ended_at"]
