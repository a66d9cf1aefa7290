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
    [ -f "$out/$name.json" ] ||
        $advkit evolve "$out/R.safetensors" --data "$cifar#train" --search "$kind" --seed 1 \
            --limit $images --epochs $epochs --budget 24 --max-multiply-adds 30000000 --begin-with advkit/genome:stem7 --workers "$workers" \
            -o "$out/$name.safetensors" --run-dir "$out/$name.run" --report "$out/$name.json" "$@"
}
search evolution E
train R2 --arch advkit/resnet20 --seed 1
train A7 --arch advkit/genome:stem7 --seed 1
train A7-mis --arch advkit/genome:stem7 --seed 1 $penalty
train P4-mis --arch advkit/genome:patch --seed 1 $penalty
search random random
search evolution E-figure --run-dir "$out/E.run" -o "$out/E.safetensors" --beside-run "$out/random.run" \
    --figure "$out/front.png" --figure-architecture "$out/architecture.png"
train E0 --arch "advkit/genome:$out/E.safetensors" --seed 1
for seed in $seeds; do
    [ "$seed" = 1 ] && continue
    train "R-mis-$seed" --arch advkit/resnet20 --seed "$seed" $penalty
    train "E-$seed" --arch "advkit/genome:$out/E.safetensors" --seed "$seed" $penalty
done

matrix() { # NAME VICTIM=FILE...
    name=$1
    shift
    $advkit transfer-matrix "R=$out/R.safetensors" "$@" --surrogate R --surrogate E --data "$cifar#test" \
        --method pgd --method mi,di --method fgsm --report "$out/$name.json" --figure "$out/$name.png"
}
matrix matrix "R'=$out/R-mis.safetensors" "E=$out/E.safetensors" "random=$out/random.safetensors" \
    "R2=$out/R2.safetensors" "E0=$out/E0.safetensors" "A=$out/A7.safetensors" "A'=$out/A7-mis.safetensors" \
    "P'=$out/P4-mis.safetensors" --compare "R:R',E" --compare "R:A',E" --compare "R:random,E"
for seed in $seeds; do
    [ "$seed" = 1 ] && continue
    matrix "matrix-$seed" "R'=$out/R-mis-$seed.safetensors" "E=$out/E-$seed.safetensors" --compare "R:R',E"
done
