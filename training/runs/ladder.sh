#!/usr/bin/env bash
# Makes every engine in engines/, in this order: x4 clean first, the others warm-started from it. About three hours of two
# free CPU cores in all; the lines of one paragraph that do not feed each other can run side by side, one per core.
# Every line can be interrupted and repeated: it goes on where it stopped.
set -e
train() { python -m training.train "$@"; }

train fast --steps 18000
train balanced --steps 16000
train nano --steps 10000

# A second cosine from the full rate, with L1 for most of it: worth a few hundredths.
train balanced --name balanced-x4-clean-more --steps 7000 --init runs/balanced-x4-clean/last.pt --mse-from 0.8
train balanced --name balanced-x4-clean-final --steps 16000 --init runs/balanced-x4-clean-more/last.pt --mse-from 0.85
train nano --name nano-x4-clean-longer --steps 6000 --init runs/nano-x4-clean/last.pt --mse-from 0.85
# A third one. The shipped nets began it from the float engines of the second (--init engines/NAME.onnx): the same function.
train fast --name fast-x4-clean-more --steps 32000 --init runs/fast-x4-clean/last.pt --mse-from 0.85
train nano --name nano-x4-clean-more --steps 10000 --init runs/nano-x4-clean-longer/last.pt --mse-from 0.85

train fast --degradation stream --batch 8 --steps 1200 --init runs/fast-x4-clean/last.pt --mse-from 0.3
train balanced --name balanced-x4-stream-more --degradation stream --steps 10000 --init runs/balanced-x4-clean-final/last.pt --mse-from 0.5
train nano --degradation stream --batch 8 --steps 1500 --init runs/nano-x4-clean/last.pt --mse-from 0.3

train fast --scale 2 --batch 8 --steps 2000 --init runs/fast-x4-clean/last.pt
train balanced --scale 2 --batch 8 --steps 1200 --init runs/balanced-x4-clean/last.pt
train balanced --scale 2 --name balanced-x2-clean-more --batch 8 --steps 5000 --init runs/balanced-x2-clean/last.pt --mse-from 0.8
train nano --scale 2 --batch 8 --steps 2500 --init runs/nano-x4-clean/last.pt

train fast --scale 2 --degradation stream --batch 8 --steps 1500 --init runs/fast-x2-clean/last.pt --mse-from 0.3
train balanced --scale 2 --degradation stream --batch 8 --steps 800 --init runs/balanced-x2-clean/last.pt --mse-from 0.3
train nano --scale 2 --degradation stream --batch 8 --steps 1000 --init runs/nano-x2-clean/last.pt --mse-from 0.3

train balanced --scale 3 --batch 8 --steps 6000 --init runs/balanced-x4-clean-final/last.pt --mse-from 0.8
train fast --scale 2 --name fast-x2-clean-more --batch 8 --steps 6000 --init runs/fast-x2-clean/last.pt --mse-from 0.85
train nano --scale 3 --batch 8 --steps 3500 --init runs/nano-x4-clean-more/last.pt --mse-from 0.85
train fast --scale 3 --batch 8 --steps 3500 --init runs/fast-x4-clean-more/last.pt --mse-from 0.85
train nano --scale 3 --degradation stream --batch 8 --steps 1500 --init runs/nano-x3-clean/last.pt --mse-from 0.5
train fast --scale 3 --degradation stream --batch 8 --steps 2000 --init runs/fast-x3-clean/last.pt --mse-from 0.5
# Begins as balanced, widened and deepened; an engine, as that is what growing reads.
train quality --batch 8 --crop 48 --steps 10000 --init engines/balanced-x4-clean-float.onnx --mse-from 0.85
train balanced --scale 3 --degradation stream --batch 8 --steps 3000 --init runs/balanced-x3-clean/last.pt --mse-from 0.5

# Steadier at x2 and x3: static shots flickered up to 1.45 times as much as bicubic. The shipped ones
# began it from the float engines.
steady() {
    train "$1" --scale "$2" --degradation stream --name "$1-x$2-stream-steady" --batch 8 --steps "$3" \
        --init "runs/$1-x$2-stream/last.pt" --mse-from 0.3 --steady "$4"
}
steady nano 3 1000 1.25
steady fast 3 600 1.5
steady balanced 3 600 1.5
steady nano 2 1000 0.5
steady fast 2 600 0.7
# Flat pictures of 10 bits were off by 1.5 code values after it.
train fast --scale 2 --degradation stream --name fast-x2-stream-flat --batch 8 --steps 500 --init runs/fast-x2-stream-steady/last.pt \
    --mse-from 0.3 --steady 0.7 --ramps 1
steady balanced 2 600 0.7

for run in balanced-x4-clean-final nano-x4-clean-more fast-x4-clean-more \
    fast-x4-stream balanced-x4-stream-more nano-x4-stream \
    fast-x2-clean-more balanced-x2-clean-more nano-x2-clean fast-x2-stream-flat balanced-x2-stream-steady nano-x2-stream-steady \
    balanced-x3-clean balanced-x3-stream-steady nano-x3-clean fast-x3-clean nano-x3-stream-steady fast-x3-stream-steady quality-x4-clean; do
    python -m training.quantize "runs/$run/last.pt" --batch 8
    python -m training.export "runs/$run/last.pt" "runs/$run-int8/last.pt" --clips ../shared/data/clips_hr
    python -m training.export "runs/$run/last.pt" --output planes
done

# Detail ends, from the fidelity engines.
for tier in fast balanced; do
    train $tier --stage detail --degradation stream --steps 3800 --init "engines/$tier-x4-stream-float.onnx"
    for share in 1 0.75 0.5 0.25; do
        python -m training.quantize "runs/$tier-x4-stream-detail/last.pt" --steps 0 --mix $share
    done
    python -m training.export "runs/$tier-x4-stream-detail/last.pt" runs/$tier-x4-stream-detail{,75,50,25}-int8/calibrated.pt \
        --clips ../shared/data/clips_hr
    python -m training.export "runs/$tier-x4-stream-detail/last.pt" --output planes
done

python -m training.engines_table
