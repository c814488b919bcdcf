#!/bin/sh
# Makes every engine in engines/, in this order: x4 clean first, the others warm-started from it. About 80 minutes of two
# free CPU cores in all; the lines of one paragraph that do not feed each other can run side by side, one per core.
# Every line can be interrupted and repeated: it goes on where it stopped.
set -e
train() { python -m training.train "$@"; }

train fast --steps 18000
train balanced --steps 11000
train nano --steps 4000

train fast --degradation stream --steps 1200 --init runs/fast-x4-clean/last.pt --mse-from 0.3
train balanced --degradation stream --steps 1000 --init runs/balanced-x4-clean/last.pt --mse-from 0.3
train nano --degradation stream --steps 900 --init runs/nano-x4-clean/last.pt --mse-from 0.3

train fast --scale 2 --steps 2000 --init runs/fast-x4-clean/last.pt
train balanced --scale 2 --steps 1500 --init runs/balanced-x4-clean/last.pt
train nano --scale 2 --steps 1200 --init runs/nano-x4-clean/last.pt

train fast --scale 2 --degradation stream --steps 900 --init runs/fast-x2-clean/last.pt --mse-from 0.3
train balanced --scale 2 --degradation stream --steps 800 --init runs/balanced-x2-clean/last.pt --mse-from 0.3
train nano --scale 2 --degradation stream --steps 700 --init runs/nano-x2-clean/last.pt --mse-from 0.3

for net in fast balanced nano; do
    for kind in x4-clean x4-stream x2-clean x2-stream; do
        python -m training.quantize "runs/$net-$kind/last.pt"
        python -m training.export "runs/$net-$kind/last.pt" "runs/$net-$kind-int8/last.pt" --clips ../shared/data/clips_hr
        python -m training.export "runs/$net-$kind/last.pt" --output planes --clips ../shared/data/clips_hr
    done
done
python -m training.engines_table
