#!/bin/sh
# Finding 1 on CIFAR-10: does an architecture evolved for R take over fewer of R's adversarial examples than R' does?
# The protocol stands in PROTOCOL.md beside this file.
#
#   tests/studies/evolution/run.sh CIFAR_DIR RESNET20_STATE_DICT [OUT]
#
# CIFAR_DIR holds the binary files; the state dict is the ResNet-20 in wide circulation. SEEDS ("1 2 3") of R' and E.
set -eu
cifar=$1 weights=$2 out=${3:-$(dirname "$0")/results}
seeds=${SEEDS:-1 2 3}
mkdir -p "$out"
. "$(dirname "$0")/../steps.sh"

penalty="--misalign-from $out/R.safetensors"

[ -f "$out/R.safetensors" ] ||
    $advkit train --epochs 0 --arch "advkit/resnet20@$weights" --data "$cifar#train" --limit $images \
        -o "$out/R.safetensors" --report "$out/R.json"
train R-mis --arch advkit/resnet20 --seed 1 $penalty

search() { # KIND NAME OPTIONS...
    kind=$1 name=$2
    shift 2
    $advkit evolve "$out/R.safetensors" --data "$cifar#train" --recipe-from "$out/R-mis.safetensors" --search "$kind" --seed 1 \
        --budget 40 --max-multiply-adds 16000000 --finalists 3 --begin-with advkit/genome:stem7 --workers "$workers" \
        -o "$out/$name.safetensors" --run-dir "$out/$name.run" --report "$out/$name.json" "$@"
}
baselines="--baseline advkit/genome:stem7 --baseline advkit/genome:patch --baseline advkit/genome:vgg-small"
[ -f "$out/E.json" ] || search evolution E --population 8 $baselines --figure-architecture "$out/architecture.png"

for seed in $seeds; do
    # Seed 1 of E is the finalist that the search trained and chose.
    [ "$seed" = 1 ] || train "E-$seed" --arch "advkit/genome:$out/E.safetensors" --seed "$seed" $penalty
    [ "$seed" = 1 ] || train "R-mis-$seed" --arch advkit/resnet20 --seed "$seed" $penalty
    train "stem7-mis-$seed" --arch advkit/genome:stem7 --seed "$seed" $penalty
done
for seed in $seeds; do
    number=-$seed
    [ "$seed" = 1 ] && number=
    matrix "seed-$seed" "R'=$out/R-mis$number.safetensors" "E=$out/E$number.safetensors" \
        "A'=$out/stem7-mis-$seed.safetensors" --surrogate R --compare "R:R',E" --compare "R:A',E"
done
[ -f "$out/random.json" ] || search random random
[ -f "$out/front.png" ] || # everything is recorded: this draws evolution and random search in one figure
    search evolution E --population 8 $baselines --figure-architecture "$out/architecture.png" \
        --compare-run "$out/random.run" --figure "$out/front.png"

train R2 --arch advkit/resnet20 --seed 1
train E0 --arch "advkit/genome:$out/E.safetensors" --seed 1
train stem7 --arch advkit/genome:stem7 --seed 1
train patch --arch advkit/genome:patch --seed 1
train patch-mis --arch advkit/genome:patch --seed 1 $penalty

matrix matrix "R'=$out/R-mis.safetensors" "E=$out/E.safetensors" "random=$out/random.safetensors" \
    "R2=$out/R2.safetensors" "E0=$out/E0.safetensors" "A=$out/stem7.safetensors" "A'=$out/stem7-mis-1.safetensors" \
    "P=$out/patch.safetensors" "P'=$out/patch-mis.safetensors" --surrogate R --surrogate E --surrogate A \
    --compare "R:R',E" --compare "R:A',E" --compare "R:P',E" --compare "R:random,E"

pool pooled-R-mis "R:R',E"
pool pooled-stem7 "R:A',E"
