#!/bin/sh
# One source, 42 targets: how far each style of people-art is from people-photo, and what adversarial training on the
# photographs gains on it.
#
#   tests/studies/adaptation/run.sh PEOPLE_PHOTO PEOPLE_ART BACKBONE_WEIGHTS [OUT]
#
# Both are PASCAL VOC folders; weights as for ../detectors/run.sh, whose grid `people` this trains. Distances come first,
# detectors aligned with the artworks last.
# Every step is skipped when its result is there and resumed when it was interrupted. SEEDS and EPS narrow the grid.
set -eu
[ $# -ge 3 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
photo=$1 art=$2 weights=$3 out=${4:-$(dirname "$0")/results}
advkit=${ADVKIT:-advkit} python=${PYTHON:-python3} here=$(dirname "$0")
mkdir -p "$out/distances"

for style in $(ls "$art/JPEGImages" | sed 's/_[0-9]*\.[a-z]*$//' | sort -u); do
    [ -f "$out/distances/$style.json" ] || $advkit domain-distance "$photo/JPEGImages" \
        "$style=$art/JPEGImages#:${style}_*" --features "timm/tf_efficientnet_lite0@$weights" --size 224 --mean 0.498,0.498,0.498 \
        --std 0.502,0.502,0.502 -q --report "$out/distances/$style.json"
done
jq -s 'map(.result | {key: .targets[0].target, value: {images: .targets[0].images, n: .n,
    kid: .targets[0].distances.kernel.value, p: .targets[0].permutation_test.p_value,
    ratio: .targets[0].distances.frechet.ratio}}) | from_entries' "$out"/distances/*.json > "$out/distances.json"

for seed in ${SEEDS-0 1 2 3}; do
    SEEDS=$seed METHODS='' OBJECTIVES='' ATTACKS='' "$here/../detectors/run.sh" people "$photo" "$weights" "$out"
    for model in "$out"/people-from-eps0-seed"$seed".safetensors "$out"/people-from-eps*-fast-seed"$seed".safetensors; do
        name=$(basename "$model" .safetensors)
        [ -f "$out/$name-art.npz" ] || $python "$here/styles.py" "$model" "$out/$name-art.npz" "$art#train" "$art#test"
    done
done
set --
for plain in "$out"/people-from-eps0-seed*-art.npz; do
    seed=${plain##*-seed}
    for found in "$out"/people-from-eps*-fast-seed"$seed"; do
        eps=${found##*people-from-eps}
        set -- "$@" "${eps%%-*}=$plain,$found"
    done
done
$python "$here/gains.py" "$out/distances.json" "$out/gains.json" "$@" | tee "$out/gains.txt"
set --

# Aligned with the artworks of the training part, whose boxes stay closed; measured on those of the test part.
primary=$(jq -r '.primary_eps // empty' "$out/gains.json")
for seed in ${SEEDS-0 1 2 3}; do
    for name in "people-from-eps0-seed$seed" ${primary:+"people-from-eps$primary-fast-seed$seed"}; do
        for weight in 0.1 1; do
            aligned=$name-aligned-$weight
            resume=
            [ -f "$out/$aligned.resume.safetensors" ] && resume=--resume
            [ -f "$out/$aligned.json" ] || $advkit adapt "$out/$name.safetensors" --source "$photo#train" \
                --target "$art#train" --method local-global --weight "$weight" --freeze-bn --optimizer adamw --lr 0.0002 \
                --batch-size 4 --epochs 4 --precision float32 --seed "$seed" -o "$out/$aligned.safetensors" \
                --report "$out/$aligned.json" $resume
            set -- "$@" "$aligned=$out/$aligned.safetensors"
        done
        set -- "$@" "$name=$out/$name.safetensors"
    done
    [ -f "$out/aligned${primary:+-eps$primary}-seed$seed.json" ] ||
        $advkit evaluate "$@" --data "$art#test" --report "$out/aligned${primary:+-eps$primary}-seed$seed.json"
    set --
done
