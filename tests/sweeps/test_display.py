"""What the console shows of a sweep."""

import io
import json
from pathlib import Path

from rich.console import Console

from genoseq.sweeps.display import Display, read_progress
from genoseq.sweeps.jobs import Job


def jobs(folder: Path) -> list[Job]:
    made = [Job(f"lr={i}", folder / f"lr={i}", [], trainer={"max_steps": 100}) for i in range(4)]
    for job in made:
        job.folder.mkdir()
    return made


def metrics(job: Job, rows: str) -> None:
    (job.folder / "metrics.csv").write_text("step,val/bits_per_base\n" + rows)


def test_progress_is_read_from_the_metrics(tmp_path: Path) -> None:
    job = jobs(tmp_path)[0]
    assert read_progress(job.folder) == (0, "–")
    metrics(job, "10,1.9\n30,\n50,1.8\n60,\n")
    assert read_progress(job.folder) == (60, "1.8000")
    metrics(job, "10,1.9\n30,wha")  # caught while it is written
    assert read_progress(job.folder) == (0, "–")


def test_the_console_has_every_state_and_the_best(tmp_path: Path) -> None:
    waiting, running, done, failed = made = jobs(tmp_path)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Display(made, console) as display:
        running.state, running.device = "running", "gpu 1"
        display.changed(running)
        metrics(running, "40,1.95\n")
        done.state, done.seconds = "done", 60.0
        (done.folder / "result.json").write_text(json.dumps({"val/bits_per_base": 1.8123}))
        display.changed(done)
        failed.state, failed.why = "failed", "killed by signal 9 (SIGKILL)"
        display.changed(failed)
        display.tick()
        plain = Console(file=io.StringIO(), width=100)
        plain.print(display.render())
    text = plain.file.getvalue()  # type: ignore[attr-defined]
    assert "1 waiting  1 running  1 done  1 failed" in text and waiting.state == "waiting"
    row = next(line for line in text.splitlines() if line.startswith("lr=1"))
    assert "gpu 1" in row and "40/100" in row and "1.9500" in row
    assert "2/4" in next(line for line in text.splitlines() if line.startswith("all jobs"))
    assert "failed  lr=3: killed by signal 9 (SIGKILL)" in text
    assert "best so far: 1.8123 validation bits per base, lr=2" in text


def test_a_log_file_gets_a_line_a_change(tmp_path: Path) -> None:
    made = jobs(tmp_path)
    console = Console(file=io.StringIO(), width=40)  # lines are not wrapped
    with Display(made, console) as display:
        made[0].state, made[0].device, made[0].attempts = "running", "cpu, 1 thread(s)", 2
        display.changed(made[0])
        made[0].state, made[0].seconds, made[0].why = "failed", 65.0, "exit code 1"
        display.changed(made[0])
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == [
        "[0/4] running lr=0 (cpu, 1 thread(s)), start 2",
        "[1/4] failed lr=0 after 0:01:05: exit code 1",
    ]
