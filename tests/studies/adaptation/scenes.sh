#!/bin/sh
# Finding 2 where data are cheap: tiny-ssd on synthetic photographs, adversarially trained from its own weights with half of
# the images adversarial, against as much plain training more; gains on four other domains of the same objects.
#
#   tests/studies/adaptation/scenes.sh [OUT]
#
# The detectors are those of the grid `scenes` of ../detectors/run.sh.
# Every step is skipped when its result is there and resumed when it was interrupted. SEEDS and EPS narrow it.
set -eu
out=${1:-$(dirname "$0")/results} here=$(dirname "$0")
advkit=${ADVKIT:-advkit} python=${PYTHON:-python3}
domains="scenes/photo scenes/fog scenes/watercolor scenes/clipart scenes/sketch"
mkdir -p "$out/gains"

[ -f "$out/scenes-distances.json" ] ||
    $advkit domain-distance $domains --limit 400 --figure "$out/scenes-distances.png" --report "$out/scenes-distances.json"
gain() { # OUT PLAIN OTHER DATA...
    [ -f "$out/gains/$1.json" ] && return
    name=$1 plain=$2 other=$3
    shift 3
    $python "$here/paired_gain.py" "$out/scenes-$plain.safetensors" "$out/scenes-$other.safetensors" \
        "$out/gains/$name.json" "$@"
}
for seed in ${SEEDS-0 1 2 3 4 5}; do
    SEEDS=$seed EPS=${EPS-2} METHODS='' OBJECTIVES='' ATTACKS='' "$here/../detectors/run.sh" scenes "$out"
    for eps in ${EPS-2}; do
        gain "eps$eps-seed$seed" "from-eps0-seed$seed" "from-eps$eps-fast-seed$seed" $domains
    done
    for name in from-eps0 from-eps2-fast; do
        aligned=$name-aligned-seed$seed
        resume=
        [ -f "$out/scenes-$aligned.resume.safetensors" ] && resume=--resume
        [ -f "$out/scenes-$aligned.json" ] || $advkit adapt "$out/scenes-$name-seed$seed.safetensors" \
            --source scenes/photo#train --target scenes/clipart#train --limit 1000 --method local-global --weight 0.1 \
            --optimizer adamw --lr 0.0005 --batch-size 16 --epochs 4 --precision float32 --seed "$seed" \
            -o "$out/scenes-$aligned.safetensors" --report "$out/scenes-$aligned.json" $resume
        gain "$aligned" "from-eps0-seed$seed" "$aligned" scenes/clipart
    done
done
$python "$here/gain_figure.py" "$out/scenes-distances.json" "$out/scenes-gains.png" "$out/gains/" \
    "$out/scenes-calibration.json" eps2
