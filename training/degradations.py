"""Degradations (stub while the first runs start)."""
from pathlib import Path
from training.data import Pair, clean_pairs, load_pictures


def load_pairs(source: Path, split: str, scale: int, degradation: str, crop: int) -> list[Pair]:
    return clean_pairs(load_pictures(source, split, scale * crop), scale)
