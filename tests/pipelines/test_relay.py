"""WorkProgress of a stage in another process arrives here, whole lines only, and on plain displays as log lines."""

from logging import LogRecord
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue

from rich.console import Console

from pipelines.display import PlainDisplay, live_display, showing
from pipelines.relay import FileDisplay, Relay, relayed
from recsys.core.telemetry import LOG, WorkProgress, listening, logging_to, track


class Told:
    """Keeps what a display is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, ...]] = []

    def expect(self, stages: int) -> None:
        self.said.append(("expect", f"{stages}"))

    def begin(self, stage: str) -> None:
        self.said.append(("begin", stage))

    def progress(self, stage: str, progress: WorkProgress) -> None:
        self.said.append(("progress", stage, progress.what, f"{progress.done}/{progress.total}"))

    def line(self, text: str) -> None:
        self.said.append(("line", text))

    def end(self, stage: str, outcome: str) -> None:
        self.said.append(("end", stage, outcome))


def test_relay_when_a_stage_says_things_then_all_arrive_once_in_order(tmp_path: Path) -> None:
    path, told = tmp_path / "events" / "model.jsonl", Told()
    relay = Relay(path, told, label="seed 7: ")
    relay.forward()  # nothing there yet
    with relayed(path) as display:
        display.begin("model")
        LOG.info("epoch %d", 1)
        relay.forward()
        display.progress("model", WorkProgress(what="epoch 1", done=3, total=4))
        with showing() as shown:  # what opens a display inside is shown by this one
            assert shown is display
        display.end("model", "done in 1.0 s")
    relay.forward()
    relay.forward()
    assert told.said == [
        ("begin", "seed 7: model"),
        ("line", "seed 7: epoch 1"),
        ("progress", "seed 7: model", "epoch 1", "3/4"),
        ("end", "seed 7: model", "done in 1.0 s"),
    ]


def test_relay_when_a_line_is_half_written_then_waits_for_its_end(tmp_path: Path) -> None:
    path, told = tmp_path / "events.jsonl", Told()
    relay = Relay(path, told)
    with path.open("a") as file:
        file.write('{"line": "one"}\n{"li')
        file.flush()
        relay.forward()
        assert told.said == [("line", "one")]
        file.write('ne": "two"}\n')
    relay.forward()
    assert told.said == [("line", "one"), ("line", "two")]


def test_relay_when_a_killed_run_left_a_file_then_begins_anew(tmp_path: Path) -> None:
    path, told = tmp_path / "events.jsonl", Told()
    FileDisplay(path).line("of yesterday")
    relay = Relay(path, told)
    FileDisplay(path).line("of today")
    relay.forward()
    assert told.said == [("line", "of today")]


def test_track_when_someone_listens_then_hears_the_beginning_and_the_end() -> None:
    heard: list[WorkProgress] = []
    with listening(heard.append):
        assert list(track("abc", what="letters", total=5, done=2)) == ["a", "b", "c"]
    assert heard[0] == WorkProgress(what="letters", done=2, total=5)
    assert heard[-1] == WorkProgress(what="letters", done=5, total=5)
    assert list(track("ab", what="letters", total=2)) == ["a", "b"]
    assert heard[-1].done == 5  # nobody listens outside the block


def test_plain_display_when_progress_comes_often_then_says_little() -> None:
    display, queue = PlainDisplay(), SimpleQueue[LogRecord]()
    with logging_to(QueueHandler(queue)):
        display.begin("model")
        for done in range(1000):
            display.progress("model", WorkProgress(what="epoch 1", done=done, total=1000))
        display.end("model", "done in 1.0 s")
    assert [queue.get_nowait().getMessage() for _ in range(queue.qsize())] == ["model: running", "model: done in 1.0 s"]


def test_live_display_when_two_stages_overlap_then_each_has_a_row_and_ended_ones_a_line() -> None:
    console = Console(force_terminal=True, width=120, record=True)
    with live_display(console) as display:
        display.expect(3)
        display.begin("model")
        display.begin("member")
        display.progress("model", WorkProgress(what="epoch 1", done=3, total=4))
        display.progress("unknown", WorkProgress(what="nothing", done=0, total=1))
        display.line("a line with [brackets]")
        rows = [(task.description, task.fields["doing"], task.completed, task.total) for task in display.rows]
        assert rows == [("all stages", "", 0, 3), ("model", "epoch 1", 3, 4), ("member", "", 0, None)]
        display.progress("model", WorkProgress(what="epoch 2", done=1, total=4))
        display.end("member", "done in 2.0 s")
        assert [(task.description, task.fields["doing"], task.completed) for task in display.rows] == [
            ("all stages", "", 1),
            ("model", "epoch 2", 1),
        ]
        display.end("model", "done in 3.0 s")
    said = console.export_text()
    assert "a line with [brackets]" in said
    assert "member       done in 2.0 s" in said
