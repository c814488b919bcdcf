"""Measurements that are not part of the application: they may import torch."""
