"""The generators that work in RGB: those of the systems this project descends from."""

from training.generators.mobilenet import MobileSR
from training.generators.rrdb import RRDBLite, RRDBNet, ThinRRDBNet
from training.generators.srresnet import SRResNet

__all__ = ["MobileSR", "RRDBLite", "RRDBNet", "SRResNet", "ThinRRDBNet"]
