#!/bin/sh
# The same question for another reference: a VGG trained here, and a search of its own. Protocol: PROTOCOL-vgg.md.
#
#   tests/studies/evolution/vgg.sh CIFAR_DIR [OUT]
#
# SEEDS ("1 2") of R' and E.
set -eu
cifar=$1 out=${2:-$(dirname "$0")/results-vgg}
seeds=${SEEDS:-1 2}
mkdir -p "$out"
. "$(dirname "$0")/../steps.sh"
penalty="--misalign-from $out/R.safetensors"

train R --arch advkit/genome:vgg-small --seed 0
train R-mis-1 --arch advkit/genome:vgg-small --seed 1 $penalty
[ -f "$out/E.json" ] ||
    $advkit evolve "$out/R.safetensors" --data "$cifar#train" --recipe-from "$out/R-mis-1.safetensors" --seed 2 --population 8 \
        --offspring 9 --rungs 3 --budget 15 --candidate-images 15000 --validation-images 2000 --finalists 2 \
        --max-multiply-adds 24000000 --begin-with advkit/genome:stem7 --baseline advkit/genome:resnet20 \
        --baseline advkit/genome:stem7 --workers "$workers" -o "$out/E.safetensors" --run-dir "$out/E.run" \
        --report "$out/E.json" --figure "$out/front.png" --figure-architecture "$out/architecture.png"
for seed in $seeds; do
    # Seed 1 of R' came before the search, seed 1 of E out of it.
    train "R-mis-$seed" --arch advkit/genome:vgg-small --seed "$seed" $penalty
    [ "$seed" = 1 ] || train "E-$seed" --arch "advkit/genome:$out/E.safetensors" --seed "$seed" $penalty
    train "stem7-mis-$seed" --arch advkit/genome:stem7 --seed "$seed" $penalty
done
for seed in $seeds; do
    number=-$seed
    [ "$seed" = 1 ] && number=
    matrix "seed-$seed" "R'=$out/R-mis-$seed.safetensors" "E=$out/E$number.safetensors" \
        "A'=$out/stem7-mis-$seed.safetensors" --surrogate R --compare "R:R',E" --compare "R:A',E"
done
train R2 --arch advkit/genome:vgg-small --seed 1
train E0 --arch "advkit/genome:$out/E.safetensors" --seed 1
for weight in 0.3 3; do
    train "R-mis-weight-$weight" --arch advkit/genome:vgg-small --seed 1 $penalty --misalign-weight "$weight"
done
matrix matrix "R'=$out/R-mis-1.safetensors" "R'weak=$out/R-mis-weight-0.3.safetensors" \
    "R'strong=$out/R-mis-weight-3.safetensors" "R2=$out/R2.safetensors" "E=$out/E.safetensors" "E0=$out/E0.safetensors" \
    --surrogate R --surrogate E --compare "R:R',E"
pool pooled-R-mis "R:R',E"
pool pooled-stem7 "R:A',E"
