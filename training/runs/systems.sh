#!/bin/sh
# Makes the engines of the five systems rtsr descends from. About an hour and a half of two free CPU cores in all. Every
# line can be interrupted and repeated: it goes on where it stopped. The recipes' files hold all settings.
set -e
train() { python -m training.train "$@"; }

train distil_teacher
for recipe in fast_srgan srgan srgan_tv rrdb_lite distil_esrgan; do
    train "$recipe" # fidelity, then detail
done

for run in fast_srgan-x4-clean srgan-x4-clean srgan_tv-x4-clean rrdb_lite-x4-kernels distil_esrgan-x4-clean; do
    python -m training.export "runs/$run/last.pt"
    mix=0.75
    case $run in srgan_tv*) mix=1 ;; esac
    python -m training.export --mix $mix "runs/$run-detail/last.pt"
done
python -m training.export runs/distil_teacher-x4-clean/last.pt
python -m training.speed distil_esrgan fast_srgan srgan rrdb_lite esrgan --size 320x180
python -m training.engines_table
