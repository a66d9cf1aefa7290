#!/bin/sh
# Finding 2 on near pairs: blood smears of one microscope, and what adversarial training on them gains on those of two others.
#
#   tests/studies/adaptation/cells.sh CELLS_BCCD CELLS_RAABIN CELLS_PBC BACKBONE_WEIGHTS [OUT]
#
# The first is a PASCAL VOC folder, the others are of YOLO's kind; weights as for ../detectors/run.sh, whose grid `cells`
# this trains. Every step is skipped when its result is there and resumed when it was interrupted. SEEDS and EPS narrow it.
set -eu
[ $# -ge 4 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
bccd=$1 raabin=$2 pbc=$3 weights=$4 out=${5:-$(dirname "$0")/results} here=$(dirname "$0")
advkit=${ADVKIT:-advkit} python=${PYTHON:-python3}
mkdir -p "$out/gains"

[ -f "$out/cells-distances.json" ] || $advkit domain-distance "$bccd/JPEGImages" "$raabin/images" "$pbc/images" --limit 300 \
    --features "timm/tf_efficientnet_lite0@$weights" --size 224 --mean 0.498,0.498,0.498 --std 0.502,0.502,0.502 -q \
    --report "$out/cells-distances.json"
for seed in ${SEEDS-0 1 2 3}; do
    SEEDS=$seed EPS=${EPS-2} METHODS='' OBJECTIVES='' ATTACKS='' "$here/../detectors/run.sh" cells "$bccd" "$weights" "$out"
    for eps in ${EPS-2}; do
        [ -f "$out/gains/cells-eps$eps-seed$seed.json" ] ||
            $python "$here/paired_gain.py" "$out/cells-from-eps0-seed$seed.safetensors" \
                "$out/cells-from-eps$eps-fast-seed$seed.safetensors" "$out/gains/cells-eps$eps-seed$seed.json" "$raabin#train" \
                "$raabin#test" "$pbc#train" "$pbc#test"
    done
done
