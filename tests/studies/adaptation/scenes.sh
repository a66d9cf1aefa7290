#!/bin/sh
# Finding 2 where data are cheap: tiny-ssd on synthetic photographs, adversarially trained from its own weights with half of
# the images adversarial, against as much plain training more; gains on four other domains of the same objects.
#
#   tests/studies/adaptation/scenes.sh [OUT]
#
# Every step is skipped when its result is there and resumed when it was interrupted. SEEDS and EPS narrow it.
set -eu
out=${1:-$(dirname "$0")/results} here=$(dirname "$0")
advkit=${ADVKIT:-advkit} python=${PYTHON:-python3}
domains="scenes/photo scenes/fog scenes/watercolor scenes/clipart scenes/sketch"
mkdir -p "$out/gains"

[ -f "$out/scenes-distances.json" ] ||
    $advkit domain-distance $domains --limit 400 --figure "$out/scenes-distances.png" --report "$out/scenes-distances.json"
pretrain() { # NAME OPTIONS...
    name=$1
    shift
    resume=
    [ -f "$out/$name.resume.safetensors" ] && resume=--resume
    [ -f "$out/$name.json" ] || $advkit adv-pretrain --data scenes/photo#train --limit 1000 --optimizer adamw --lr 0.002 \
        --batch-size 16 --epochs 20 --precision float32 --on-overfit ignore --check-eps 2/255 --check-steps 3 \
        --check-images 20 -o "$out/$name.safetensors" --report "$out/$name.json" $resume "$@"
}
for seed in ${SEEDS-0 1 2}; do
    start=$out/scenes-plain-seed$seed.safetensors
    pretrain "scenes-plain-seed$seed" --arch advkit/tiny-ssd --eps 0 --seed "$seed"
    pretrain "scenes-more-seed$seed" --init "$start" --eps 0 --seed "$seed"
    for eps in ${EPS-2 4}; do
        name=scenes-eps$eps-half-seed$seed
        pretrain "$name" --init "$start" --eps "$eps/255" --method fast --adversarial-ratio 0.5 --seed "$seed"
        gain=$out/gains/eps$eps-seed$seed.json
        [ -f "$gain" ] || $python "$here/paired_gain.py" "$out/scenes-more-seed$seed.safetensors" \
            "$out/$name.safetensors" "$gain" $domains
    done
done
for seed in ${SEEDS-0 1 2}; do
    for name in scenes-more-seed$seed scenes-eps2-half-seed$seed; do
        aligned=$name-aligned
        resume=
        [ -f "$out/$aligned.resume.safetensors" ] && resume=--resume
        [ -f "$out/$aligned.json" ] || $advkit adapt "$out/$name.safetensors" --source scenes/photo#train \
            --target scenes/clipart#train --limit 1000 --method local-global --weight 0.1 --optimizer adamw --lr 0.0005 \
            --batch-size 16 --epochs 4 --precision float32 --seed "$seed" -o "$out/$aligned.safetensors" \
            --report "$out/$aligned.json" $resume
        gain=$out/gains/${aligned#scenes-}.json
        [ -f "$gain" ] || $python "$here/paired_gain.py" "$out/scenes-more-seed$seed.safetensors" \
            "$out/$aligned.safetensors" "$gain" scenes/clipart
    done
done
$python "$here/gain_figure.py" "$out/scenes-distances.json" "$out/scenes-gains.png" "$out"/gains/eps?-seed*.json
