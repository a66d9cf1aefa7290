#!/bin/sh
# R, a control R2 and a misaligned R' on the built-in digits: trained, attacked, compared, drawn.
#
#   [SEED=0] tests/pipelines/digits.sh [ADVKIT [OUT]]
#
# R is trained with SEED, R2 and R' with the next. digits_table.py repeats it over seeds and threads.
set -eu
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # networks this small gain nothing from a second one
advkit=${1:-advkit} out=${2:-digits-demo} seed=${SEED:-0}
next=$((seed + 1))
mkdir -p "$out"
options="--arch advkit/cnn --data digits --epochs 24 --batch-size 32 --precision float32 --force"

$advkit train $options --seed "$seed" -o "$out/R.safetensors" --report "$out/R.json"
$advkit train $options --seed "$next" -o "$out/R2.safetensors" --report "$out/R2.json"
$advkit train $options --seed "$next" -o "$out/R-mis.safetensors" --report "$out/R-mis.json" \
    --misalign-from "$out/R.safetensors" --misalign-at adversarial --misalign-eps 0.15 --misalign-weight 0.3 \
    --misalign-penalty square
$advkit attack "$out/R.safetensors" --data digits --eps 0.15 --goal transfer -o "$out/R-pgd.safetensors" \
    --report "$out/attack.json"
$advkit transfer-matrix "R=$out/R.safetensors" "R2=$out/R2.safetensors" "R'=$out/R-mis.safetensors" \
    --data digits --eps 0.15 --method pgd --method mi,di --compare "R:R2,R'" \
    --figure "$out/matrix.png" --report "$out/matrix.json"
$advkit visualize attention "R=$out/R.safetensors" "R2=$out/R2.safetensors" "R'=$out/R-mis.safetensors" \
    --data digits --pick all-correct --count 3 --figure "$out/attention.png" --report "$out/attention.json"
