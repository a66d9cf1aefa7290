#!/bin/sh
# On CIFAR-10: which adversarial training of a classifier is worth its time?
#
#   tests/studies/adversarial-training/run.sh CIFAR_DIR [OUT]
#
# CIFAR_DIR holds the binary files. ResNet-8, 20,000 training images (2,000 of them held out), Linf 8/255. Every method
# gets the time of 24 plain epochs, counted in forward and backward passes over the network: plain and free take 24
# epochs, fast 12, pgd with 5 steps 4, trades with 5 steps 3. Every step is skipped when its result is there and resumed
# when it was interrupted. SEEDS and METHODS narrow it.
set -eu
cifar=$1 out=${2:-$(dirname "$0")/results}
advkit=${ADVKIT:-advkit}
mkdir -p "$out"

pretrain() { # NAME OPTIONS...
    name=$1
    shift
    if [ ! -f "$out/$name.json" ]; then
        resume=
        [ -f "$out/$name.resume.safetensors" ] && resume=--resume
        $advkit adv-pretrain --arch advkit/resnet8 --data "$cifar#train" --limit 20000 --on-overfit ignore \
            --check-eps 8/255 -o "$out/$name.safetensors" --report "$out/$name.json" $resume "$@"
    fi
    [ -f "$out/$name-test.json" ] ||
        $advkit evaluate "$name=$out/$name.safetensors" --data "$cifar#test" --report "$out/$name-test.json"
    attack "$name" pgd --method pgd --steps 50 --step-size 1/255
    attack "$name" square --method square:queries=1000
}
attack() { # NAME KIND OPTIONS...
    name=$1 kind=$2
    shift 2
    [ -f "$out/$name-$kind.json" ] && return
    $advkit attack "$out/$name.safetensors" --data "$cifar#test" --eps 8/255 --goal robustness "$@" \
        -o "$out/attacked.safetensors" --force --report "$out/$name-$kind.json"
    rm -f "$out/attacked.safetensors"
}

for seed in ${SEEDS-0 1}; do
    for method in ${METHODS-plain free fast pgd trades}; do
        case $method in
        plain) set -- --eps 0 --epochs 24 ;;
        free) set -- --eps 8/255 --method free --epochs 24 ;;
        fast) set -- --eps 8/255 --method fast --epochs 12 ;;
        pgd) set -- --eps 8/255 --method pgd --steps 5 --step-size 4/255 --epochs 4 ;;
        trades) set -- --eps 8/255 --method trades --steps 5 --step-size 4/255 --epochs 3 ;;
        esac
        pretrain "$method-seed$seed" --seed "$seed" "$@"
    done
done
