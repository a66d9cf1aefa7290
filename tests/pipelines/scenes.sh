#!/bin/sh
# A detector of synthetic photographs on fog (near) and on sketches (far): distances; plain, adversarially pre-trained, both
# with aligned features; mAP on either target before and after; a picture of boxes.
#
#   [SEED=0] tests/pipelines/scenes.sh [ADVKIT [OUT]]
set -eu
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
advkit=${1:-advkit} out=${2:-scenes-demo} seed=${SEED:-0}
mkdir -p "$out"
train="--arch advkit/tiny-ssd --data scenes/photo --limit 500 --epochs 10 --optimizer adamw --lr 0.003 --batch-size 16
    --seed $seed --precision float32 --check-eps 1/255 --check-steps 3 --check-images 20 --force -q"
align() { # TARGET MODEL
    $advkit adapt "$out/$2.safetensors" --source scenes/photo --target "scenes/$1" --limit 500 --method local-global \
        --epochs 2 --lr 0.0005 --batch-size 16 --seed "$seed" --precision float32 --force -q \
        -o "$out/$2-$1.safetensors" --report "$out/$2-$1.json"
}

$advkit domain-distance scenes/photo scenes/fog scenes/sketch --limit 200 --advise --figure "$out/domains.png" \
    --report "$out/domains.json"
# Two networks at a time, a thread each.
$advkit adv-pretrain $train --eps 0 -o "$out/plain.safetensors" --report "$out/plain.json" &
$advkit adv-pretrain $train --eps 1/255 --method fast -o "$out/adversarial.safetensors" --report "$out/adversarial.json"
wait $!
for target in fog sketch; do
    align "$target" plain &
    align "$target" adversarial
    wait $!
    $advkit evaluate "plain=$out/plain.safetensors" "adversarial=$out/adversarial.safetensors" \
        "plain aligned=$out/plain-$target.safetensors" "adversarial aligned=$out/adversarial-$target.safetensors" \
        --data "scenes/$target" --report "$out/$target.json"
done
$advkit visualize attention "plain=$out/plain.safetensors" "adversarial aligned=$out/adversarial-sketch.safetensors" \
    --data scenes/sketch --map grad-cam --count 3 --figure "$out/boxes.png" --report "$out/boxes.json"
