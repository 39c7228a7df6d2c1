"""Figures of one evaluation, all fractions in [0, 1]."""

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, precision_recall_fscore_support
from torchmetrics.functional.classification import multiclass_calibration_error

CALIBRATION_BINS = 15


def evaluate(logits: np.ndarray, labels: np.ndarray, classes: int) -> dict[str, Any]:
    """Metrics of `(N, classes)` logits against `(N,)` labels.

    `mean_pr` is the paper's AP = (P + R) / 2 (eqs. 10-12), not the area under a precision-recall curve. Precision
    is 0 for a class that is never predicted. `ece`: expected calibration error over 15 bins of confidence.
    """
    predicted = logits.argmax(1)
    every = np.arange(classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        precision, recall, f1, _ = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0.0)
        balanced = balanced_accuracy_score(labels, predicted)
    mean_pr = (precision + recall) / 2
    probabilities = torch.from_numpy(logits).softmax(1)
    ece = multiclass_calibration_error(probabilities, torch.from_numpy(labels), classes, n_bins=CALIBRATION_BINS)
    return {
        "metrics": {
            "accuracy": float((predicted == labels).mean()),
            "balanced_accuracy": float(balanced),
            "macro_f1": float(f1.mean()),
            "precision": float(precision.mean()),
            "recall": float(recall.mean()),
            "mean_pr": float(mean_pr.mean()),
            "ece": float(ece),
        },
        "per_class": {
            "precision": precision.tolist(),
            "recall": recall.tolist(),
            "mean_pr": mean_pr.tolist(),
            "f1": f1.tolist(),
        },
        "confusion": confusion_matrix(labels, predicted, labels=every).tolist(),
    }


def by_overlap(logits: np.ndarray, labels: np.ndarray, overlapping: np.ndarray) -> dict[str, float]:
    """Accuracy on the test images that show the surface of a training image, bool `(N,)`, and on the clean ones.

    A kind of which there is no image has no figure.
    """
    right = logits.argmax(1) == labels
    kinds = {"accuracy_overlapping": overlapping, "accuracy_clean": ~overlapping}
    return {name: float(right[kind].mean()) for name, kind in kinds.items() if kind.any()}
