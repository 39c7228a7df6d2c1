import numpy as np
import pytest

from steeldefect.classify.metrics import by_overlap, evaluate


def logits(predicted: list[int], classes: int = 3) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[predicted] * 10


def test_figures_of_a_hand_counted_case() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2])
    found = evaluate(logits([0, 0, 1, 1, 1, 0]), labels, 3)
    assert found["confusion"] == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert found["metrics"]["accuracy"] == pytest.approx(4 / 6)
    assert found["metrics"]["balanced_accuracy"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["per_class"]["precision"] == pytest.approx([2 / 3, 2 / 3, 0])
    assert found["per_class"]["recall"] == pytest.approx([2 / 3, 1, 0])
    # the paper's AP, eq. 12
    assert found["per_class"]["mean_pr"] == pytest.approx([2 / 3, 5 / 6, 0])
    assert found["metrics"]["mean_pr"] == pytest.approx((2 / 3 + 5 / 6) / 3)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    labels = np.zeros(10, np.int64)
    sure = evaluate(logits([0] * 10), labels, 3)
    wrong = evaluate(logits([1] * 10), labels, 3)
    assert sure["metrics"]["ece"] < 0.001
    assert wrong["metrics"]["ece"] > 0.99


def test_overlapping_and_clean_images_are_counted_apart() -> None:
    labels, given = np.array([0, 0, 1, 1, 2]), logits([0, 1, 1, 1, 0])
    found = by_overlap(given, labels, np.array([True, True, False, False, False]))
    assert found == {"accuracy_overlapping": pytest.approx(1 / 2), "accuracy_clean": pytest.approx(2 / 3)}
    assert by_overlap(given, labels, np.zeros(5, bool)) == {"accuracy_clean": pytest.approx(3 / 5)}
