#!/bin/sh
# Finding 2 for classifiers: EfficientNet-Lite0 with ImageNet weights, fine-tuned on PACS photographs at 64 pixels, then for as
# many epochs more plainly or with half of the images adversarial; gains on art, cartoon and sketch.
#
#   tests/studies/adaptation/classifiers.sh PACS BACKBONE_WEIGHTS [OUT]
#
# PACS is a folder of domains of classes of pictures; weights as for ../detectors/run.sh.
# Every step is skipped when its result is there and resumed when it was interrupted. SEEDS and EPS narrow it.
set -eu
[ $# -ge 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
pacs=$1 weights=$2 out=${3:-$(dirname "$0")/results} here=$(dirname "$0")
advkit=${ADVKIT:-advkit} python=${PYTHON:-python3}
targets="$pacs/art_painting $pacs/cartoon $pacs/sketch"
mkdir -p "$out/gains"

[ -f "$out/pacs-distances.json" ] || $advkit domain-distance "$pacs/photo" $targets --limit 300 \
    --features "timm/tf_efficientnet_lite0@$weights" --mean 0.498,0.498,0.498 --std 0.502,0.502,0.502 --report "$out/pacs-distances.json"
pretrain() { # NAME OPTIONS...
    name=pacs-$1
    shift
    resume=
    [ -f "$out/$name.resume.safetensors" ] && resume=--resume
    [ -f "$out/$name.json" ] || $advkit adv-pretrain --data "$pacs/photo" --optimizer adamw --batch-size 32 \
        --precision float32 --on-overfit ignore --check-eps 2/255 --check-steps 5 --check-images 100 \
        -o "$out/$name.safetensors" --report "$out/$name.json" $resume "$@"
}
for seed in ${SEEDS-0 1 2 3}; do
    start="$out/pacs-eps0-seed$seed.safetensors"
    pretrain "eps0-seed$seed" --arch "timm/tf_efficientnet_lite0@$weights" --mean 0.498,0.498,0.498 --std 0.502,0.502,0.502 --lr 0.001 --epochs 8 \
        --eps 0 --seed "$seed"
    pretrain "from-eps0-seed$seed" --init "$start" --lr 0.0005 --epochs 6 --eps 0 --seed "$seed"
    for eps in ${EPS-2 4}; do
        pretrain "from-eps$eps-fast-seed$seed" --init "$start" --lr 0.0005 --epochs 6 --eps "$eps/255" --method fast \
            --adversarial-ratio 0.5 --seed "$seed"
        [ -f "$out/gains/pacs-eps$eps-seed$seed.json" ] ||
            $python "$here/paired_gain.py" "$out/pacs-from-eps0-seed$seed.safetensors" \
                "$out/pacs-from-eps$eps-fast-seed$seed.safetensors" "$out/gains/pacs-eps$eps-seed$seed.json" $targets
    done
done
