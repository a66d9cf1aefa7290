#!/bin/sh
# On CIFAR-10: does a gradient-misalignment penalty against R keep R's adversarial examples from transferring, to R's own
# architecture (R2 without, R' with the penalty) and to a network of another family (A without, A' with it)?
#
#   tests/studies/transfer/run.sh CIFAR_DIR RESNET20_STATE_DICT [OUT]
#
# CIFAR_DIR holds the binary files; the state dict is the ResNet-20 in wide circulation (91.73 %). Every step is
# skipped when its result is there and resumed when it was interrupted. The budget is small and stated here: 20,000 of
# the 50,000 training images (2,000 of them held out), 6 epochs, one seed, penalty weight 1, not tuned.
set -eu
cifar=$1 weights=$2 out=${3:-$(dirname "$0")/results}
mkdir -p "$out"
. "$(dirname "$0")/../steps.sh"

[ -f "$out/R.safetensors" ] ||
    $advkit train --epochs 0 --arch "advkit/resnet20@$weights" --data "$cifar#train" --limit $images \
        -o "$out/R.safetensors" --report "$out/R.json"

penalty="--misalign-from $out/R.safetensors"
train R2 --arch advkit/resnet20 --seed 1
train R-mis --arch advkit/resnet20 --seed 1 $penalty
train A --arch advkit/cnn --seed 1
train A-mis --arch advkit/cnn --seed 1 $penalty

$advkit transfer-matrix "R=$out/R.safetensors" "R'=$out/R-mis.safetensors" "R2=$out/R2.safetensors" \
    "A=$out/A.safetensors" "A'=$out/A-mis.safetensors" --surrogate R --data "$cifar#test" --precision float32 --method pgd \
    --method mi,di,ti --method fgsm --compare "R:R2,R'" --compare "R:A,A'" --compare "R:R',A'" \
    --report "$out/matrix.json" --figure "$out/matrix.png"

$advkit visualize attention "R=$out/R.safetensors" "R'=$out/R-mis.safetensors" "A'=$out/A-mis.safetensors" \
    --data "$cifar#test" --pick all-correct --count 4 --figure "$out/attention.png" --report "$out/attention.json"
