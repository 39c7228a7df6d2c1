import numpy as np
import pytest

from steeldefect.gan.spectrum import checkerboard, stride_frequencies

rng = np.random.default_rng(0)
NOISE = rng.normal(128, 20, (40, 64, 64))
ROWS, COLUMNS = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")


def gray(images: np.ndarray) -> np.ndarray:
    return images.round().clip(0, 255).astype(np.uint8)


def test_noise_and_smooth_surfaces_have_no_checkerboard() -> None:
    assert checkerboard(gray(NOISE)) < 1.3
    power = np.maximum(np.hypot(np.fft.fftfreq(64), np.fft.fftfreq(64)[:, None]), 1 / 64)
    smooth = np.fft.ifft2(np.fft.fft2(NOISE - 128) / power).real
    assert checkerboard(gray(128 + 40 * smooth / smooth.std())) < 1.3
    assert checkerboard(np.full((3, 16, 16), 7, np.uint8)) == 0


@pytest.mark.parametrize("period", [2, 4, 8])
def test_a_planted_wave_of_a_stride_is_seen(period: int) -> None:
    wave = 20 * np.cos(2 * np.pi * ROWS / period) * np.cos(2 * np.pi * COLUMNS / period)
    assert checkerboard(gray(NOISE + wave)) > 8
    # of another period it is no checkerboard
    other = 20 * np.cos(2 * np.pi * ROWS / 5.3)
    assert checkerboard(gray(NOISE + other)) < 1.3


def test_each_period_has_its_own_frequencies() -> None:
    assert stride_frequencies(16) == {2: [(0, 8), (8, 0), (8, 8)]}
    assert {period: len(bins) for period, bins in stride_frequencies(64).items()} == {2: 3, 4: 12, 8: 48}
