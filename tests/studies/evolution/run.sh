#!/bin/sh
# Finding 1 on CIFAR-10: does an architecture evolved for R take over fewer of R's adversarial examples than R' does?
# The protocol stands in PROTOCOL.md beside this file.
#
#   tests/studies/evolution/run.sh CIFAR_DIR RESNET20_STATE_DICT [OUT]
#
# CIFAR_DIR holds the binary files; the state dict is the ResNet-20 in wide circulation. Every step is skipped when its
# result is there and goes on when it was interrupted. WORKERS (2) processes search; SEEDS ("1 2 3") of R' and E.
set -eu
cifar=$1 weights=$2 out=${3:-$(dirname "$0")/results}
advkit=${ADVKIT:-advkit} workers=${WORKERS:-2} seeds=${SEEDS:-1 2 3}
images=20000 epochs=6
mkdir -p "$out"

train() { # NAME OPTIONS...
    name=$1
    shift
    [ -f "$out/$name.safetensors" ] && return
    resume=
    [ -f "$out/$name.resume.safetensors" ] && resume=--resume
    $advkit train -o "$out/$name.safetensors" --data "$cifar#train" --limit $images --epochs $epochs \
        --report "$out/$name.json" $resume "$@"
}
penalty="--misalign-from $out/R.safetensors"

[ -f "$out/R.safetensors" ] ||
    $advkit train --epochs 0 --arch "advkit/resnet20@$weights" --data "$cifar#train" --limit $images \
        -o "$out/R.safetensors" --report "$out/R.json"
train R-mis --arch advkit/resnet20 --seed 1 $penalty

search() { # KIND NAME OPTIONS...
    kind=$1 name=$2
    shift 2
    $advkit evolve "$out/R.safetensors" --data "$cifar#train" --like "$out/R-mis.safetensors" --search "$kind" --seed 1 \
        --budget 96 --max-multiply-adds 30000000 --begin-with advkit/genome:stem7 --workers "$workers" \
        -o "$out/$name.safetensors" --run-dir "$out/$name.run" --report "$out/$name.json" "$@"
}
beside="--beside advkit/genome:stem7 --beside advkit/genome:patch --beside advkit/genome:vgg-small"
[ -f "$out/random.json" ] || search random random
[ -f "$out/E.json" ] || search evolution E --population 8 $beside --beside-run "$out/random.run" \
    --figure "$out/front.png" --figure-architecture "$out/architecture.png"

train R2 --arch advkit/resnet20 --seed 1
train E0 --arch "advkit/genome:$out/E.safetensors" --seed 1
for family in stem7 patch; do
    train "$family" --arch "advkit/genome:$family" --seed 1
    train "$family-mis" --arch "advkit/genome:$family" --seed 1 $penalty
done
for seed in $seeds; do
    [ "$seed" = 1 ] && continue
    train "R-mis-$seed" --arch advkit/resnet20 --seed "$seed" $penalty
    train "stem7-mis-$seed" --arch advkit/genome:stem7 --seed "$seed" $penalty
    for found in E random; do
        train "$found-$seed" --arch "advkit/genome:$out/$found.safetensors" --seed "$seed" $penalty
    done
done

matrix() { # NAME VICTIM=FILE...
    name=$1
    shift
    $advkit transfer-matrix "R=$out/R.safetensors" "$@" --data "$cifar#test" --limit 1000 --precision float32 --method pgd --method mi,di \
        --method fgsm --workers "$workers" --report "$out/$name.json" --figure "$out/$name.png"
}
matrix matrix "R'=$out/R-mis.safetensors" "E=$out/E.safetensors" "random=$out/random.safetensors" \
    "R2=$out/R2.safetensors" "E0=$out/E0.safetensors" "A=$out/stem7.safetensors" "A'=$out/stem7-mis.safetensors" \
    "P=$out/patch.safetensors" "P'=$out/patch-mis.safetensors" --surrogate R --surrogate E --surrogate A \
    --compare "R:R',E" --compare "R:A',E" --compare "R:P',E" --compare "R:random,E"
for seed in $seeds; do
    [ "$seed" = 1 ] && continue
    matrix "matrix-$seed" "R'=$out/R-mis-$seed.safetensors" "E=$out/E-$seed.safetensors" \
        "random=$out/random-$seed.safetensors" "A'=$out/stem7-mis-$seed.safetensors" --surrogate R \
        --compare "R:R',E" --compare "R:A',E" --compare "R:random,E"
done
