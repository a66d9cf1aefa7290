#!/bin/sh
# Finding 2 for classifiers: EfficientNet-Lite0 with ImageNet weights, fine-tuned on one domain, then for some epochs more
# plainly or with half of the images adversarial; gains on the others.
#
#   tests/studies/adaptation/classifiers.sh pacs PACS BACKBONE_WEIGHTS [OUT]
#   tests/studies/adaptation/classifiers.sh digits MNIST USPS MNIST_M BACKBONE_WEIGHTS [OUT]
#
# pacs: photographs at 64 pixels to art, cartoon and sketch; a folder of domains of classes of pictures.
# digits: 3,000 digits of MNIST (a folder of its files) to USPS and MNIST-M (folders with a test.npz).
# Weights as for ../detectors/run.sh. Every step is skipped when its result is there and resumed when it was interrupted.
# SEEDS and EPS (in 255ths) narrow it. ALIGN=EPS also aligns the plain classifier and that of EPS with the unlabelled
# pictures of the last target by dann, which is then measured on the same pictures.
set -eu
here=$(dirname "$0") domain=${1:-}
advkit=${ADVKIT:-advkit} python=${PYTHON:-python3}
case $domain in
pacs)
    [ $# -ge 3 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
    source=$2/photo targets="$2/art_painting $2/cartoon $2/sketch" weights=$3 out=${4:-$here/results}
    data="--data $source" epochs=8 more=6 eps_all=${EPS-2 4} check=2/255
    ;;
digits)
    [ $# -ge 5 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
    source=$2 targets="$3/test.npz $4/test.npz" weights=$5 out=${6:-$here/results}
    data="--data $source --limit 3000" epochs=6 more=4 eps_all=${EPS-8 25} check=25/255
    ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
mean="--mean 0.498,0.498,0.498 --std 0.502,0.502,0.502"
mkdir -p "$out/gains"

[ -f "$out/$domain-distances.json" ] || $advkit domain-distance "$source" $targets --limit 300 \
    --features "timm/tf_efficientnet_lite0@$weights" $mean --report "$out/$domain-distances.json"
pretrain() { # NAME OPTIONS...
    name=$domain-$1
    shift
    resume=
    [ -f "$out/$name.resume.safetensors" ] && resume=--resume
    [ -f "$out/$name.json" ] || $advkit adv-pretrain $data --optimizer adamw --batch-size 32 \
        --precision float32 --on-overfit ignore --check-eps "$check" --check-steps 5 --check-images 100 \
        -o "$out/$name.safetensors" --report "$out/$name.json" $resume "$@"
}
gain() { # OUT OTHER DATA...
    [ -f "$out/gains/$domain-$1.json" ] && return
    name=$1 other=$2
    shift 2
    $python "$here/paired_gain.py" "$out/$domain-from-eps0-seed$seed.safetensors" "$out/$domain-$other.safetensors" \
        "$out/gains/$domain-$name.json" "$@"
}
for seed in ${SEEDS-0 1 2 3}; do
    start="$out/$domain-eps0-seed$seed.safetensors"
    pretrain "eps0-seed$seed" --arch "timm/tf_efficientnet_lite0@$weights" $mean --lr 0.001 --epochs "$epochs" \
        --eps 0 --seed "$seed"
    pretrain "from-eps0-seed$seed" --init "$start" --lr 0.0005 --epochs "$more" --eps 0 --seed "$seed"
    for eps in $eps_all; do
        pretrain "from-eps$eps-fast-seed$seed" --init "$start" --lr 0.0005 --epochs "$more" --eps "$eps/255" \
            --method fast --adversarial-ratio 0.5 --seed "$seed"
        gain "eps$eps-seed$seed" "from-eps$eps-fast-seed$seed" $targets
    done
    for name in ${ALIGN:+from-eps0 "from-eps$ALIGN-fast"}; do
        aligned=$name-dann-seed$seed
        resume=
        [ -f "$out/$domain-$aligned.resume.safetensors" ] && resume=--resume
        [ -f "$out/$domain-$aligned.json" ] || $advkit adapt "$out/$domain-$name-seed$seed.safetensors" \
            --source "$source" --target "${targets##* }" --method dann --optimizer adamw --lr 0.0002 --batch-size 32 \
            --epochs 4 --precision float32 --seed "$seed" -o "$out/$domain-$aligned.safetensors" \
            --report "$out/$domain-$aligned.json" $resume
        gain "$aligned" "$aligned" "${targets##* }"
    done
done
$python "$here/gain_figure.py" "$out/$domain-distances.json" "$out/$domain-gains.png" "$out/gains/$domain-"
