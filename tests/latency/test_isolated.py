"""Measuring in a process of its own: the same figures, and nothing that happens there harms this one."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from idle_session import idle
from torch import nn

from nas_compress.backends import Session, backends, hardware
from nas_compress.backends.hardware import pick_cores
from nas_compress.errors import ConfigError, EvaluationError, MissingExtraError
from nas_compress.latency.isolated import Worker
from nas_compress.latency.meter import LatencyMeter, Prepared
from nas_compress.objectives.timing import TimingSettings

QUICK = TimingSettings(warmup=1, min_runs=3, max_runs=5, budget_s=0.1)
IMAGES = torch.zeros(1, 3, 8, 8)

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads are pinned on Linux alone")


class Runs:
    """Stands in for what makes a session: it runs a piece of code in the other process."""

    def __init__(self, source):
        self.source = source

    def __reduce__(self):
        return eval, (f"lambda threads: exec({self.source!r})",)


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()


@pytest.mark.parametrize("name", ["onnxruntime", "torch"])
def test_networks_are_measured_there_one_after_the_other(worker, name):
    for _ in range(2):
        stats = worker.measure(backends.get(name)().portable(net(), IMAGES), [IMAGES], QUICK)
        assert 0 < stats.median_ms < 1000 and stats.runs >= 3


def test_it_keeps_to_its_cores(worker):
    source = "import os; from nas_compress.errors import EvaluationError as E; raise E(str(os.sched_getaffinity(0)))"
    with pytest.raises(EvaluationError, match=re.escape(str(set(worker.cores)))):
        worker.measure(Runs(source), [], QUICK)
    assert os.sched_getaffinity(0) != set(worker.cores) or os.cpu_count() == 1


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "died .signal SIGKILL"),
        (
            "import os, sys; sys.stderr.write('illegal instruction'); sys.stderr.flush(); os._exit(3)",
            "exit code 3: illegal",
        ),
        ("raise AttributeError('no such kernel')", "died .exit code 1: AttributeError: no such kernel"),
    ],
)
def test_its_death_costs_one_measurement(worker, source, reason):
    with pytest.raises(EvaluationError, match=reason):
        worker.measure(Runs(source), [], QUICK)
    assert worker.measure(idle, [], QUICK).runs >= 3


def test_a_failed_network_leaves_it_alive(worker):
    before = process_of(worker)
    source = "from nas_compress.errors import EvaluationError; raise EvaluationError('cannot take it')"
    with pytest.raises(EvaluationError, match="^cannot take it$"):
        worker.measure(Runs(source), [], QUICK)
    assert process_of(worker) == before


def test_a_measurement_that_takes_too_long_is_given_up():
    with Worker(timeout_s=0.5) as worker:
        begun = time.monotonic()
        with pytest.raises(EvaluationError, match="took more than 0.5 s"):
            worker.measure(Runs("import time; time.sleep(60)"), [], QUICK)
        assert time.monotonic() - begun < 50  # it sleeps for 60


def test_an_interrupted_measurement_does_not_answer_the_next(worker, monkeypatch):
    running = worker._running()

    def interrupted(work, timeout_s):
        running._connection.send_bytes(work)
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.measure(Runs("raise SystemExit"), [], QUICK)
    assert worker.measure(idle, [], QUICK).runs >= 3


def test_what_cannot_be_sent_is_an_evaluation_error(worker):
    class Local(nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(EvaluationError, match="cannot be sent to a process of its own"):
        worker.measure(backends.get("torch")().portable(Local(), IMAGES), [IMAGES], QUICK)


def test_it_ends_when_it_is_closed_and_when_the_process_that_started_it_is_killed():
    code = (
        "import os, signal\nfrom nas_compress.latency.isolated import Worker\n"
        "worker = Worker()\nprint(worker._running()._process.pid, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL
    for _ in range(1200):
        if not alive(int(died.stdout)):
            break
        time.sleep(0.05)
    assert not alive(int(died.stdout))
    worker = Worker()
    pid = process_of(worker)
    worker.close()
    assert not alive(pid)


def test_a_script_needs_no_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\nfrom nas_compress.latency.meter import LatencyMeter\n"
        "from nas_compress.objectives.timing import TimingSettings\n"
        "quick = TimingSettings(warmup=1, min_runs=3, max_runs=5, budget_s=0.1)\n"
        "meter = LatencyMeter('torch', isolated=True, settings=quick)\n"
        "stats = meter.measure(torch.nn.Linear(3, 3), torch.ones(1, 3))\n"
        "print('measured', stats.runs)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.stdout.startswith("measured") and done.stdout.count("measured") == 1, done.stderr


def test_a_meter_says_where_it_measures():
    assert "pinned_to_cores" not in LatencyMeter("torch").describe()
    meter = LatencyMeter("torch", isolated=True, settings=QUICK)
    assert meter.describe()["pinned_to_cores"] == pick_cores(1)
    assert meter.measure(net(), IMAGES).median_ms > 0
    meter.close()


def test_an_exception_of_the_backends_own_is_an_evaluation_error():
    class OddError(Exception):
        """Derives from nothing that is known, as ONNX Runtime's do."""

    class Broken(Session):
        def __call__(self, *inputs):
            raise NotImplementedError

        def bound(self, *inputs):
            raise OddError("[ONNXRuntimeError] : 1 : FAIL : it broke")

    with pytest.raises(EvaluationError, match=r"^torch cannot run this network: \[ONNXRuntimeError\] : 1"):
        LatencyMeter("torch").time(Prepared(Broken(), ()))


def test_cores_are_taken_from_different_physical_ones_first(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(hardware, "_physical_core", lambda core: str(core // 2))
    assert [pick_cores(n) for n in (1, 2, 3, 4)] == [[3], [1, 3], [1, 2, 3], [0, 1, 2, 3]]
    with pytest.raises(ConfigError, match="threads = 5 is more than the 4 cores"):
        pick_cores(5)


def process_of(worker):
    return worker._running()._process.pid


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().split()[2] != "Z"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_ipex_is_measured_there_without_being_asked(precision):
    try:
        backends.get("ipex").check()
    except MissingExtraError as error:
        pytest.skip(str(error))
    meter = LatencyMeter("ipex", precision=precision, settings=QUICK)
    assert meter.describe()["precision"] == precision and "pinned_to_cores" in meter.describe()
    assert meter.measure(net(), IMAGES).median_ms > 0
    assert "intel_extension_for_pytorch" not in sys.modules
    meter.close()
