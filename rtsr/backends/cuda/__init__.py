"""What every NVIDIA backend stands on: the driver, memory on both sides of the bus, a ring of slots over three streams.

CUDA comes through cuda-core (cuda-python), never through torch. None of this has run on a GPU yet: it is tested
against tests/cuda_stand_in.py, which has cuda.core's interface and enforces its rules of order.
"""
