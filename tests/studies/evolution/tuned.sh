#!/bin/sh
# R' with a weight of its own, beside E of the study: PROTOCOL.md, "R' tuned". After run.sh, or with its committed reports.
#
#   tests/studies/evolution/tuned.sh CIFAR_DIR RESNET20_STATE_DICT [OUT]
set -eu
here=$(dirname "$0")
cifar=$1 weights=$2 out=${3:-$here/results-tuned}
mkdir -p "$out"
. "$here/../steps.sh"

[ -f "$out/R.safetensors" ] ||
    $advkit train --epochs 0 --arch "advkit/resnet20@$weights" --data "$cifar#train" --limit $images \
        -o "$out/R.safetensors" --report "$out/R.json"
penalty="--misalign-from $out/R.safetensors"
"${PYTHON:-python3}" -c 'import json, sys; print(json.dumps(json.load(sys.stdin)["result"]["chosen"]["genome"]))' \
    < "$here/results/E.json" > "$out/E.genome.json"

# Two trainings at a time, of one thread each.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
{
    train R-mis-weight-1 --arch advkit/resnet20 --seed 1 $penalty
    train E --arch "advkit/genome:$out/E.genome.json" --seed 1 $penalty
    train vgg-mis --arch advkit/genome:vgg-small --seed 1 $penalty
} &
train R-mis-weight-3 --arch advkit/resnet20 --seed 1 $penalty --misalign-weight 3
train R-mis-weight-0.3 --arch advkit/resnet20 --seed 1 $penalty --misalign-weight 0.3
train vgg --arch advkit/genome:vgg-small --seed 1
wait $!

set -- "weak=$out/R-mis-weight-0.3.safetensors" "one=$out/R-mis-weight-1.safetensors" "strong=$out/R-mis-weight-3.safetensors"
[ -f "$out/held-out.npz" ] || "${PYTHON:-python3}" "$here/held_out.py" "$cifar#train" $images 1 "$out/held-out.npz"
[ -f "$out/held-out.json" ] ||
    $advkit transfer-matrix "R=$out/R.safetensors" "$@" --data "$out/held-out.npz" --precision float32 --surrogate R \
        --method pgd --method mi,di --method fgsm --workers "$workers" --report "$out/held-out.json"
matrix matrix "$@" "E=$out/E.safetensors" "V=$out/vgg.safetensors" "V'=$out/vgg-mis.safetensors" --surrogate R --compare "R:weak,E" --compare "R:one,E" --compare "R:strong,E"
