"""`python healthcheck.py BACKEND`: the tiny engine enlarges one flat picture. Exits with 0 only if it stays flat."""

import sys
from fractions import Fraction

import numpy as np

import rtsr
from rtsr.frames import Frame

VALUE = 100  # a grey; learned engines keep the mean of flat patches to one code value

y, uv = np.full((1, 32, 32), VALUE, np.uint8), np.full((2, 16, 16), 128, np.uint8)
with rtsr.Upscaler(scale=2, model="nano", backend=sys.argv[1]) as upscaler:
    (large,) = upscaler.stream([Frame(y, uv, 0, Fraction(1, 25))])
    assert large.y.shape == (1, 64, 64), large.y.shape
    assert abs(large.y.astype(int) - VALUE).max() <= 1, "the grey has changed"
    print(f"healthy: {upscaler.name}")
