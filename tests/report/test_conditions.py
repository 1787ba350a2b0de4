"""What numbers were measured on, in words."""

from nas_compress.report import artefact_conditions, objective_conditions

HARDWARE = {"cpu": "a CPU", "cores": 2, "os": "Linux"}


def entry(name, *, backend="onnxruntime", clock="wall", runs=200, images=359):
    return {
        "name": name,
        "accuracy": {"images": images},
        "latency": {"clock": clock, "runs": runs},
        "context": {
            "backend": backend, "versions": {backend: "1.0"}, "threads": 1, "batch_size": 1, "hardware": HARDWARE,
        },
    }  # fmt: skip


def test_conditions_that_all_files_share_are_said_once():
    assert artefact_conditions([entry("a", runs=300), entry("b")]) == [
        "Accuracy: 359 test images that neither training nor search saw, ± one standard error.",
        "Latency: median of 200 runs or more ± one standard error; onnxruntime (onnxruntime 1.0), batch 1, 1 thread, "
        "a CPU (2 cores), Linux.",
    ]


def test_every_group_of_files_has_its_own_conditions():
    files = [entry("a"), entry("b"), entry("c", backend="torch", runs=50), entry("d", clock="cpu")]
    _, first, second, third = artefact_conditions(files)
    assert first.startswith("Latency of a, b: median of 200 runs or more ") and "onnxruntime 1.0" in first
    assert second.startswith("Latency of c: median of 50 runs ± one") and "torch (torch 1.0)" in second
    assert third.startswith("Latency of d: ") and "(cpu): CPU time of the computing thread" in third
    assert "CPU time" not in first + second


def test_a_search_says_what_each_objective_was_measured_on():
    contexts = {
        "acc": {
            "supernet": "net", "checkpoint": "c0ffee", "calibration_images": 2000, "dataset": "digits", "data": "f00d",
            "split": "val", "images": 144, "precision": "fp32",
        },
        "macs": {"supernet": {"name": "net"}},
        "latency": {
            "supernet": {"name": "net"}, "backend": "torch", "versions": {"torch": "2"}, "hardware": HARDWARE,
            "threads": 2, "batch_size": 4, "precision": "fp32",
        },
        "energy": {"backend": "board", "repeats": 30, "range": [1, 2]},
    }  # fmt: skip
    assert objective_conditions(contexts) == [
        "acc: 144 search-validation images of digits, ± one standard error; BN recalibrated on up to 2000 training "
        "images; precision fp32.",
        "latency: median, ± one standard error; torch (torch 2), batch 4, 2 threads, fp32, a CPU (2 cores), Linux.",
        "energy: backend board; repeats 30; range [1, 2].",
    ]


def test_every_task_counts_what_its_quality_was_measured_on():
    context = {"dataset": "sst2", "data": "f00d", "split": "val", "precision": "fp32"}
    for kind in ("images", "sentences", "questions", "utterances"):
        (line,) = objective_conditions({"acc": {**context, kind: 872}})
        assert line == f"acc: 872 search-validation {kind} of sst2, ± one standard error; precision fp32."
