#!/bin/sh
# Finding 2 at full size: a detector of one domain, trained plainly and adversarially, each aligned with another domain.
#
#   tests/studies/adaptation/voc-clipart.sh SOURCE TARGET OUT
#
# SOURCE and TARGET are PASCAL VOC folders (JPEGImages, Annotations, ImageSets/Main), such as
#   - VOC2007 and VOC2012 in one folder, with a trainval list of both, to Clipart1k, or to Watercolor2k or Comic2k, of whose
#     6 classes the mAP is then;
#   - Cityscapes to Foggy Cityscapes, their instances turned to boxes.
#
# Distance first; then detectors at eps 0 and at every other eps; each aligned with the target's training images, whose
# labels stay closed; mAP of all of them on the test parts of both domains, in table.tsv. Every step is skipped when its
# result is there and resumed when it was interrupted. Environment, with the defaults:
#
#   ARCH=torchvision/ssd300_vgg16   or torchvision/fasterrcnn_resnet50_fpn, torchvision/fcos_resnet50_fpn, ...
#   INIT=                           a MODEL with weights to start from, such as torchvision/vgg16@vgg16-397923af.pth
#   TRAIN='--optimizer sgd --lr 0.001 --batch-size 32 --freeze-bn'   options of every training
#   EPOCHS=24 ALIGN_EPOCHS=4        of training and of alignment
#   EPS='1 2 4' METHOD=fast         radii, in 255ths, and how they are reached
#   SEEDS='0 1 2'
#   SOURCE_TRAIN=trainval SOURCE_TEST=test TARGET_TRAIN=train TARGET_TEST=test   lists of ImageSets/Main
#   FEATURES=pixels                 what the distance is of: pixels, or a MODEL such as INIT
#   PROCESSES=1                     more: trainings run under torchrun (TORCHRUN), a GPU each
set -eu
[ $# -eq 3 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
source=$1 target=$2 out=$3
advkit=${ADVKIT:-advkit} processes=${PROCESSES:-1} eps_all=${EPS-1 2 4} seeds=${SEEDS-0 1 2}
options=${TRAIN---optimizer sgd --lr 0.001 --batch-size 32 --freeze-bn}
source_train="$source#${SOURCE_TRAIN:-trainval}" source_test="$source#${SOURCE_TEST:-test}"
target_train="$target#${TARGET_TRAIN:-train}" target_test="$target#${TARGET_TEST:-test}"
train=$advkit
[ "$processes" -gt 1 ] && train="${TORCHRUN:-torchrun} --standalone --nproc-per-node $processes -m advkit"
mkdir -p "$out"

pretrain() { # NAME OPTIONS...
    name=$1
    shift
    [ -f "$out/$name.json" ] && return
    resume=
    [ -f "$out/$name.resume.safetensors" ] && resume=--resume
    $train adv-pretrain --arch "${ARCH:-torchvision/ssd300_vgg16}" ${INIT:+--init "$INIT"} --data "$source_train" \
        $options --epochs "${EPOCHS:-24}" --on-overfit ignore -o "$out/$name.safetensors" --report "$out/$name.json" \
        $resume "$@"
}
align() { # NAME FROM SEED
    [ -f "$out/$1.json" ] && return
    resume=
    [ -f "$out/$1.resume.safetensors" ] && resume=--resume
    $train adapt "$out/$2.safetensors" --source "$source_train" --target "$target_train" --method local-global \
        $options --epochs "${ALIGN_EPOCHS:-4}" --seed "$3" -o "$out/$1.safetensors" --report "$out/$1.json" $resume
}
evaluate() { # NAME
    [ -f "$out/$1-source.json" ] ||
        $advkit evaluate "$1=$out/$1.safetensors" --data "$source_test" --report "$out/$1-source.json"
    [ -f "$out/$1-target.json" ] ||
        $advkit evaluate "$1=$out/$1.safetensors" --data "$target_test" --report "$out/$1-target.json"
}

[ -f "$out/distance.json" ] ||
    $advkit domain-distance "$source_train" "$target_train" --features "${FEATURES:-pixels}" --advise \
        --figure "$out/distance.png" --report "$out/distance.json"
for seed in $seeds; do
    for eps in 0 $eps_all; do
        name=eps$eps-seed$seed
        if [ "$eps" = 0 ]; then
            pretrain "$name" --eps 0 --seed "$seed"
        else
            pretrain "$name" --eps "$eps/255" --method "${METHOD:-fast}" --seed "$seed"
        fi
        align "$name-aligned" "$name" "$seed"
        evaluate "$name"
        evaluate "$name-aligned"
    done
done
for seed in $seeds; do
    for eps in 0 $eps_all; do
        for name in "eps$eps-seed$seed" "eps$eps-seed$seed-aligned"; do
            jq -rs --arg name "$name" \
                '[$name, (.[].result.models[0].detection | .map50, .map50_interval[])] | @tsv' \
                "$out/$name-source.json" "$out/$name-target.json"
        done
    done
done > "$out/table.tsv"
cat "$out/table.tsv"
