#!/bin/sh
# From photographed to drawn scenes (both synthetic): the distance, detectors trained plainly and on adversarial images,
# each as it is and with its features aligned, on the target.
#
#   [SEED=0] [EPS=1/255] tests/pipelines/scenes.sh [ADVKIT [OUT]]
#
# It says what came out, whichever way; a run of one seed on 100 test images is a demonstration, no study.
set -eu
advkit=${1:-advkit} out=${2:-scenes-demo} seed=${SEED:-0} eps=${EPS:-1/255}
mkdir -p "$out"
train="--arch advkit/tiny-ssd --data scenes/photo --limit 400 --optimizer adamw --lr 0.002 --batch-size 16 --epochs 8"
adapt="--source scenes/photo --limit 400 --method local-global --optimizer adamw --lr 0.0005 --batch-size 16 --epochs 2"

$advkit domain-distance scenes/photo scenes/fog scenes/sketch --limit 200 --advise --seed "$seed" \
    --figure "$out/domains.png" --report "$out/domains.json"
$advkit adv-pretrain $train --seed "$seed" --eps 0 --check-images 20 --force -o "$out/plain.safetensors" \
    --report "$out/plain.json"
$advkit adv-pretrain $train --seed "$seed" --eps "$eps" --method fast --check-images 20 --force \
    -o "$out/robust.safetensors" --report "$out/robust.json"
for target in fog sketch; do
    for model in plain robust; do
        $advkit adapt "$out/$model.safetensors" --target "scenes/$target" $adapt --seed "$seed" --force \
            -o "$out/$model-$target.safetensors" --report "$out/$model-$target.json"
    done
    $advkit evaluate "plain=$out/plain.safetensors" "robust=$out/robust.safetensors" \
        "plain, aligned=$out/plain-$target.safetensors" "robust, aligned=$out/robust-$target.safetensors" \
        --data "scenes/$target" --limit 100 --report "$out/$target.json"
done
$advkit visualize attention "plain=$out/plain.safetensors" "robust=$out/robust.safetensors" \
    --data scenes/sketch --count 3 --figure "$out/boxes.png" --report "$out/boxes.json"
